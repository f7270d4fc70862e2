"""Preference pairs as messages: prompt, chosen and rejected, made from a tree's pairs or read from TRL's format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trajtree.chat import message_from_dict
from trajtree.errors import DataError
from trajtree.formats.read.fields import objects, tools_at
from trajtree.formats.read.records import decode, raw_records
from trajtree.trajectory import Message, Trajectory
from trajtree.trees.grafting import grafted
from trajtree.trees.pair import Pair
from trajtree.trees.tree import TrajectoryTree

_MEASURED = ("node", "past", "chosen_value", "rejected_value", "chosen_visits", "rejected_visits")
"""What the provenance of a pair of a tree says besides which one it is."""


@dataclass(frozen=True, slots=True)
class PairMessages:
    """Two continuations of one conversation.

    Attributes:
        prompt: the part that both sides share: everything up to the fork.
        chosen, rejected: the continuations; each begins with a reply of the agent and may have many turns. The agent's
            replies in them, and no other messages, are compared.
        tools: the tools' definitions, each as JSON text.
        provenance: where the pair comes from (task, depth, samples, values, ...); used to name the pair in errors.
        own: the rejected side as its own run had it (everything before the fork, the continuation, the tools), where
            that is not exactly what the pair has.
    """

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    tools: tuple[str, ...] = ()
    provenance: dict[str, str | int | float] = field(default_factory=dict)
    own: tuple[tuple[Message, ...], tuple[Message, ...], tuple[str, ...]] | None = None

    @property
    def rejected_alone(self) -> PairMessages:
        """The rejected side after everything that its own run had up to the fork, on both sides of a pair."""
        prompt, side, tools = (self.prompt, self.rejected, self.tools) if self.own is None else self.own
        return PairMessages(prompt, side, side, tools, self.provenance)

    def __post_init__(self) -> None:
        """Raise ValueError if there is no prompt or a side does not begin with a reply."""
        if not self.prompt:
            raise ValueError("a pair needs a prompt")
        for side in (self.chosen, self.rejected):
            if not side or side[0].role != "assistant":
                raise ValueError("each side of a pair begins with a reply of the agent")

    @property
    def name(self) -> str:
        """The pair's name in errors: what of its provenance says which pair it is."""
        known = [f"{key} {value}" for key, value in self.provenance.items() if key not in _MEASURED]
        return "pair " + (", ".join(known) or "of unknown origin")


def pair_messages(tree: TrajectoryTree, pairs: Iterable[Pair], *, step_only: bool = False) -> Iterator[PairMessages]:
    """The pairs of a tree as messages; with `step_only`, each side is only the reply at which they diverge.

    Raises:
        DataError: the trajectories have no messages, or begin with the replies that would be compared.
        Ungraftable: the rejected side relies on tool calls that are not in the prompt; see `trees.grafting`.
    """
    for pair in pairs:
        yield _messages(pair, *pair.sides(tree), step_only)


def _messages(pair: Pair, better: Trajectory, worse: Trajectory, step_only: bool) -> PairMessages:
    for trajectory in (better, worse):
        if len(trajectory.replies) < len(trajectory.steps) or pair.depth >= len(trajectory.steps):
            raise DataError(
                f"{pair.task}, sample {trajectory.sample}: {len(trajectory.steps)} steps but {len(trajectory.replies)} "
                f"replies among its messages, so the pair at step {pair.depth} cannot be written"
            )
    start = better.replies[pair.depth]
    fork = worse.replies[pair.depth]
    for trajectory, before in ((better, start), (worse, fork)):
        if not before:
            raise DataError(
                f"task {pair.task}, sample {trajectory.sample}: the run begins with the reply that would be compared, "
                "so the pair has no prompt; leave such pairs out (--skip-unwritable), or give the runs the message "
                "that came before"
            )
    end = fork + 1 if step_only else worse.replies[-1] + 1
    rejected = grafted(better, worse, pair.depth)[start : start + end - fork]
    own = worse.messages[:fork], worse.messages[fork:end], worse.tools
    return PairMessages(
        prompt=better.messages[:start],
        chosen=better.messages[start : start + 1] if step_only else better.messages[start : better.replies[-1] + 1],
        rejected=rejected,
        tools=better.tools,
        provenance={
            "task": pair.task,
            "node": pair.node,
            "step": pair.depth,
            "chosen_sample": pair.chosen_sample,
            "rejected_sample": pair.rejected_sample,
            "past": pair.past,
            "chosen_value": pair.chosen_value,
            "rejected_value": pair.rejected_value,
            "chosen_visits": pair.chosen_visits,
            "rejected_visits": pair.rejected_visits,
        },
        own=None if own == (better.messages[:start], rejected, better.tools) else own,
    )


def read_pairs(path: Path) -> Iterator[PairMessages]:
    """The pairs in a file as written by `trajtree pairs --to trl`.

    Raises:
        DataError: a record is not a pair; file, line and field of the first one are named.
    """
    for raw in raw_records(path):
        try:
            record = decode(raw)
            prompt, chosen, rejected = (
                tuple(message_from_dict(m, f"{name}.{i}") for i, m in enumerate(objects(record.get(name), name)))
                for name in ("prompt", "chosen", "rejected")
            )
            yield PairMessages(prompt, chosen, rejected, tools_at(record, "tools"), {"of": str(path), "line": raw.line})
        except (DataError, ValueError) as error:
            raise DataError(f"{path}, line {raw.line}: {error}") from None


__all__ = ["PairMessages", "pair_messages", "read_pairs"]
