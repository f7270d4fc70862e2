"""Pairs and trajectories for other trainers: one file per trainer, and the tables of targets.

A target is a function from a pair or a trajectory to a row of JSON. Anything that the target cannot represent (a turn,
a tool call, a thought, a tool's definition, a flag that says what is trained) raises a DataError that says why and what
to do instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trajtree.formats.pairs import PairMessages
from trajtree.formats.write.atif import atif_trajectory
from trajtree.formats.write.openai import openai_pair, openai_trajectory
from trajtree.formats.write.sharegpt import llamafactory_pair, sharegpt_trajectory
from trajtree.formats.write.swift import swift_pair, swift_trajectory
from trajtree.formats.write.trl import axolotl_pair, axolotl_trajectory, trl_completion, trl_pair, trl_trajectory
from trajtree.store.lines import JsonObject
from trajtree.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class PairTarget:
    """How a pair is written for a trainer, with a one-line description."""

    row: Callable[[PairMessages], JsonObject]
    about: str


@dataclass(frozen=True, slots=True)
class TrajectoryTarget:
    """How a trajectory is written for a trainer, with a one-line description."""

    row: Callable[[Trajectory], JsonObject]
    about: str


PAIR_TARGETS = {
    "trl": PairTarget(trl_pair, "prompt, chosen, rejected, tools; several turns per side"),
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
    "openai": TrajectoryTarget(openai_trajectory, "messages with weights, tools; no thoughts"),
    "atif": TrajectoryTarget(atif_trajectory, "ATIF v1.8 documents, with score and task"),
}

__all__ = ["PAIR_TARGETS", "TRAJECTORY_TARGETS", "PairTarget", "TrajectoryTarget"]
