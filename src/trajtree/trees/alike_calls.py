"""Calls of the same tools that differ only in arguments that do nothing, such as a description of the command."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from trajtree.trajectory import Trajectory
from trajtree.trees.sameness import in_field
from trajtree.trees.tree import TrajectoryTree

COMMENTS = frozenset(
    (
        *("description", "explanation", "reason", "reasoning", "rationale", "justification", "purpose", "intent"),
        *("thought", "thoughts", "comment", "note", "notes", "summary", "title", "security_risk", "confidence"),
    )
)
"""Arguments in which models comment on what they do."""

_MOST = 12
"""Number of options of a fork that are compared with each other."""


class AlikeCalls(NamedTuple):
    """Two options of a fork that call the same tools with the same value of an argument.

    Attributes:
        options: the two children.
        tools: the tools' names.
        field: the argument that is the same in both: text that is not a comment.
        others: the arguments in which they differ.
    """

    options: tuple[int, int]
    tools: str
    field: str
    others: tuple[str, ...]


def alike_calls(tree: TrajectoryTree, children: Sequence[int]) -> AlikeCalls | None:
    """Two options of a fork that seem to be the same action worded differently; None if there are none.

    They differ only in comments, or the agent saw the same after both.
    """
    for one, other in combinations(children[:_MOST], 2):
        calls = [_arguments(run, step) for run, step in (_taken(tree, child) for child in (one, other))]
        if not calls[0] or [name for name, _ in calls[0]] != [name for name, _ in calls[1]]:
            continue
        both = [(a, b) for (_, a), (_, b) in zip(*calls, strict=True)]
        others = tuple(dict.fromkeys(n for a, b in both for n in (*a, *b) if a.get(n) != b.get(n)))
        if not (COMMENTS.issuperset(others) or _answered_alike(tree, one, other)):
            continue
        for field in sorted(_texts(both), key=lambda name: -len(str(both[0][0].get(name)))):
            parts = {in_field([field], *_taken(tree, child)) for child in (one, other)}
            if len(parts) == 1 and None not in parts:
                names = ", ".join(dict.fromkeys(name for name, _ in calls[0]))
                return AlikeCalls((one, other), names, field, others)
    return None


def _texts(both: Sequence[tuple[dict[str, object], dict[str, object]]]) -> Iterator[str]:
    """Arguments that are text and not comments."""
    names = dict.fromkeys(name for a, _ in both for name, value in a.items() if isinstance(value, str) and value)
    return (name for name in names if name not in COMMENTS)


def _taken(tree: TrajectoryTree, child: int) -> tuple[Trajectory, int]:
    """The first run that took an option, and the number of the step in it."""
    return tree.trajectories[int(tree.first[child])], int(tree.depth[child]) - 1


def _arguments(run: Trajectory, step: int) -> list[tuple[str, dict[str, object]]]:
    """(tool, arguments) of a reply's calls; [] if it has none, or if the arguments of one are not an object."""
    replies = run.replies
    found = []
    for call in run.messages[replies[step]].tool_calls if step < len(replies) else ():
        try:
            arguments = json.loads(call.arguments)
        except (ValueError, RecursionError):
            return []
        if not isinstance(arguments, dict):
            return []
        found.append((call.name, arguments))
    return found


def _answered_alike(tree: TrajectoryTree, one: int, other: int) -> bool:
    """Whether some runs saw the same after two options; False if nothing came after one of them."""
    seen = [{tree.observation[after] for after in tree.children_of(child)} for child in (one, other)]
    return bool(seen[0] & seen[1])


__all__ = ["COMMENTS", "AlikeCalls", "alike_calls"]
