"""Pairs and trajectories for other trainers: one file per trainer, and the tables of targets.

A target is a function from a pair or a trajectory to a row of JSON. Anything that the target cannot represent (a turn,
a tool call, a thought, a tool's definition, a flag that says what is trained) raises a DataError that says why and what
to do instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from trajtree.formats.pairs import PairMessages
from trajtree.formats.write.atif import atif_trajectory
from trajtree.formats.write.kto import kto_rows
from trajtree.formats.write.openai import openai_pair, openai_trajectory
from trajtree.formats.write.sharegpt import llamafactory_pair, sharegpt_trajectory
from trajtree.formats.write.swift import swift_pair, swift_trajectory
from trajtree.formats.write.trl import axolotl_pair, axolotl_trajectory, trl_completion, trl_pair, trl_trajectory
from trajtree.store.lines import JsonObject
from trajtree.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class PairTarget:
    """How a pair is written for a trainer, with a one-line description.

    Attributes:
        row: a pair as one row.
        about: the description.
        apart: the pairs of a tree as rows of single sides, for trainers that take no pairs; such rows have no `past`,
            because each side keeps its own.
    """

    row: Callable[[PairMessages], JsonObject]
    about: str
    apart: Callable[[Sequence[PairMessages]], list[JsonObject]] | None = None

    def rows(self, pairs: Sequence[PairMessages]) -> list[JsonObject]:
        """The rows of a tree's pairs. Raises DataError if the trainer's format cannot hold one."""
        if self.apart is not None:
            return self.apart(pairs)
        return [{**self.row(pair), "past": pair.provenance["past"]} for pair in pairs]


@dataclass(frozen=True, slots=True)
class TrajectoryTarget:
    """How a trajectory is written for a trainer, with a one-line description.

    Attributes:
        row: a trajectory as one row.
        about: the description.
        beside: whether task, score, outcome and model can stand beside the conversation, as `convert` writes them.
    """

    row: Callable[[Trajectory], JsonObject]
    about: str
    beside: bool = True


PAIR_TARGETS = {
    "trl": PairTarget(trl_pair, "prompt, chosen, rejected, tools; several turns per side"),
    "trl-kto": PairTarget(
        partial(trl_pair, target="trl-kto"),
        "prompt, completion, label, tools; a row per side, under its own past",
        kto_rows,
    ),
    "ms-swift": PairTarget(swift_pair, "messages, rejected_messages with loss flags; several turns per side"),
    "llamafactory": PairTarget(llamafactory_pair, "ShareGPT preference; one reply per side"),
    "axolotl": PairTarget(axolotl_pair, "chat_template.default; one reply per side, text only"),
    "openai": PairTarget(openai_pair, "preference fine-tuning; one reply per side, no thoughts"),
}

TRAJECTORY_TARGETS = {
    "trl": TrajectoryTarget(trl_trajectory, "messages, tools; no context turns"),
    "trl-completion": TrajectoryTarget(trl_completion, "prompt, completion, tools; context turns go into the prompt"),
    "ms-swift": TrajectoryTarget(swift_trajectory, "messages with loss flags, tools"),
    "sharegpt": TrajectoryTarget(sharegpt_trajectory, "conversations, tools; no context turns"),
    "llamafactory": TrajectoryTarget(sharegpt_trajectory, "the same as sharegpt"),
    "axolotl": TrajectoryTarget(axolotl_trajectory, "messages with train flags, tools"),
    "openai": TrajectoryTarget(openai_trajectory, "messages with weights, tools; no thoughts", beside=False),
    "atif": TrajectoryTarget(atif_trajectory, "ATIF v1.8 documents, with score and task", beside=False),
}

__all__ = ["PAIR_TARGETS", "TRAJECTORY_TARGETS", "PairTarget", "TrajectoryTarget"]
