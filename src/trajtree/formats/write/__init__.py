"""Pairs and trajectories for other trainers: one file per trainer, and the tables of targets.

A target is a function from a pair or a trajectory to a row of JSON. Anything that the target cannot represent (a turn,
a tool call, a thought, a tool's definition, a flag that says what is trained) raises a DataError that says why and what
to do instead. Tool calls and thoughts can be written as text where that makes a difference, see `rendering`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from trajtree.errors import DataError
from trajtree.formats.pairs import PairMessages
from trajtree.formats.write.atif import atif_trajectory
from trajtree.formats.write.kto import kto_rows
from trajtree.formats.write.openai import openai_pair, openai_trajectory
from trajtree.formats.write.rendering import Part, pair_as_text, run_as_text
from trajtree.formats.write.sharegpt import llamafactory_pair, sharegpt_trajectory
from trajtree.formats.write.swift import swift_pair, swift_trajectory
from trajtree.formats.write.trl import axolotl_pair, axolotl_trajectory, trl_completion, trl_pair, trl_trajectory
from trajtree.store.lines import JsonObject
from trajtree.trajectory import Trajectory

_BOTH: tuple[Part, ...] = ("calls", "thoughts")
_BESIDE = ("task", "step", "chosen_sample", "rejected_sample", "chosen_value", "rejected_value", "past")
"""What the row of a pair says of where it comes from, beside what is trained; trainers leave such columns alone."""


class Target(Protocol):
    """What the two kinds of target have in common."""

    @property
    def as_text(self) -> tuple[Part, ...]:
        """What may be written as text."""


@dataclass(frozen=True, slots=True)
class PairTarget:
    """How a pair is written for a trainer, with a one-line description.

    Attributes:
        row: a pair as one row.
        about: the description.
        apart: the pairs of a tree as rows of single sides, for trainers that take no pairs; such rows do not say
            where they come from, because a side may be in several pairs.
        beside: whether the columns of _BESIDE can stand beside a pair.
        as_text: what may be written as text: the target has no place for it, or not for all of it, or gives it to a
            chat template that may have none.
    """

    row: Callable[[PairMessages], JsonObject]
    about: str
    as_text: tuple[Part, ...] = ()
    apart: Callable[[Sequence[PairMessages]], list[JsonObject]] | None = None
    beside: bool = True

    def rows(self, pairs: Sequence[PairMessages]) -> list[JsonObject]:
        """The rows of a tree's pairs. Raises DataError if the trainer's format cannot hold one."""
        if self.apart is not None:
            return self.apart(pairs)
        columns = _BESIDE if self.beside else ()
        return [self.row(pair) | {k: pair.provenance[k] for k in columns if k in pair.provenance} for pair in pairs]


@dataclass(frozen=True, slots=True)
class TrajectoryTarget:
    """How a trajectory is written for a trainer, with a one-line description.

    Attributes:
        row: a trajectory as one row.
        about: the description.
        as_text: what may be written as text, as for pairs.
        beside: whether task, score, outcome and model can stand beside the conversation, as `convert` writes them.
    """

    row: Callable[[Trajectory], JsonObject]
    about: str
    as_text: tuple[Part, ...] = ()
    beside: bool = True


PAIR_TARGETS = {
    "trl": PairTarget(trl_pair, "prompt, chosen, rejected, tools; several turns per side", _BOTH),
    "trl-kto": PairTarget(
        partial(trl_pair, target="trl-kto"),
        "prompt, completion, label, tools; a row per side, under its own past",
        _BOTH,
        kto_rows,
    ),
    "ms-swift": PairTarget(swift_pair, "messages, rejected_messages with loss flags; several turns per side"),
    "llamafactory": PairTarget(llamafactory_pair, "ShareGPT preference; one reply per side", ("calls",)),
    "axolotl": PairTarget(axolotl_pair, "chat_template.default; one reply per side, text only", _BOTH),
    "openai": PairTarget(
        openai_pair, "preference fine-tuning; one reply per side, no thoughts", ("thoughts",), beside=False
    ),
}

TRAJECTORY_TARGETS = {
    "trl": TrajectoryTarget(trl_trajectory, "messages, tools; no context turns", _BOTH),
    "trl-completion": TrajectoryTarget(
        trl_completion, "prompt, completion, tools; context turns go into the prompt", _BOTH
    ),
    "ms-swift": TrajectoryTarget(swift_trajectory, "messages with loss flags, tools"),
    "sharegpt": TrajectoryTarget(sharegpt_trajectory, "conversations, tools; no context turns", ("calls",)),
    "llamafactory": TrajectoryTarget(sharegpt_trajectory, "the same as sharegpt", ("calls",)),
    "axolotl": TrajectoryTarget(axolotl_trajectory, "messages with train flags, tools", _BOTH),
    "openai": TrajectoryTarget(
        openai_trajectory, "messages with weights, tools; no thoughts", ("thoughts",), beside=False
    ),
    "atif": TrajectoryTarget(atif_trajectory, "ATIF v1.8 documents, with score and task", beside=False),
}


def check_as_text(parts: Collection[Part], to: str, target: Target) -> None:
    """Refuse to write as text what the target `to` has a place for. Raises DataError."""
    for part in parts:
        if part not in target.as_text:
            raise DataError(
                f"--render-{part}: {to} has a place for {_NAMES[part]}, which need not be text; leave it out"
            )


def pair_rows(pairs: Sequence[PairMessages], to: str, parts: Sequence[Part] = ()) -> list[JsonObject]:
    """The rows of a tree's pairs for a target; `rendered` says what is written as text, if anything is.

    Raises:
        DataError: the target cannot hold one.
    """
    if not parts:
        return PAIR_TARGETS[to].rows(pairs)
    rows = PAIR_TARGETS[to].rows([pair_as_text(pair, parts, to) for pair in pairs])
    return [{**row, "rendered": list(parts)} for row in rows]


def run_row(run: Trajectory, to: str, parts: Sequence[Part] = ()) -> JsonObject:
    """The row of a run for a target; `rendered` says what is written as text, if anything is and the row has room.

    Raises:
        DataError: the target cannot hold the run.
    """
    target = TRAJECTORY_TARGETS[to]
    row = target.row(run_as_text(run, parts, to) if parts else run)
    return {**row, "rendered": list(parts)} if parts and target.beside else row


_NAMES: dict[Part, str] = {"calls": "tool calls", "thoughts": "thoughts"}

__all__ = [
    "PAIR_TARGETS",
    "TRAJECTORY_TARGETS",
    "PairTarget",
    "TrajectoryTarget",
    "check_as_text",
    "pair_rows",
    "run_row",
]
