"""One story told in every format: two runs of one task that do the same at first, then decide differently.

A test writes `CALLS` (the agent calls tools) or `TEXT` (it acts in text) in its format and hands the files to
`check_story`. Whatever the format, the actions, observations, scores and the fork must be the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trajtree.chat import action_of
from trajtree.formats.importing import import_files
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Message, ToolCall, Trajectory
from trajtree.trees.merge import build

TASK = "mailbox/7"


@dataclass(frozen=True)
class Telling:
    """One run of the story, as the agent's model saw it."""

    messages: tuple[Message, ...]
    score: float

    @property
    def replies(self) -> tuple[Message, ...]:
        return tuple(m for m in self.messages if m.role == "assistant")

    @property
    def seen(self) -> tuple[str, ...]:
        """What the agent saw before each reply, without the system's instructions."""
        found, heard = [], []
        for message in self.messages:
            if message.role == "assistant":
                found.append("\n".join(heard))
                heard = []
            elif message.role != "system":
                heard.append(message.content)
        return tuple(found)


def _call(id: str, name: str, arguments: str) -> ToolCall:
    return ToolCall(id, name, arguments)


_START = (
    Message("system", "You keep a mailbox in order."),
    Message("user", "File the invoice from Ærø Boats under “2026”."),
    Message(
        "assistant", "I look for it.", "It is probably in the inbox.", (_call("c1", "search", '{"words": "Ærø"}'),)
    ),
    Message("tool", "mail 4: invoice\nmail 9: regatta", tool_call_id="c1"),
)

CALLS = (
    Telling(
        (
            *_START,
            Message(
                "assistant",
                "",
                "Mail 4 it is.",
                (_call("c2", "open", '{"mail": 4}'), _call("c3", "move", '{"mail": 4, "folder": "2026"}')),
            ),
            Message("tool", "Invoice 12, 80 kr.", tool_call_id="c2"),
            Message("tool", "moved", tool_call_id="c3"),
            Message("assistant", "The invoice is in “2026”."),
        ),
        1.0,
    ),
    Telling(
        (
            *_START,
            Message("assistant", "", None, (_call("c2", "move", '{"mail": 9, "folder": "2026"}'),)),
            Message("tool", "moved", tool_call_id="c2"),
            Message("assistant", "Done."),
        ),
        0.0,
    ),
)
"""The story with tool calls, two of them in one reply, and reasoning."""

_ASKED = (Message("system", "Act with one command per turn."), Message("user", "Count the lines of notes.txt."))

TEXT = (
    Telling(
        (
            *_ASKED,
            Message("assistant", "Thought: look around\nAction: ls"),
            Message("user", "notes.txt\nold"),
            Message("assistant", "Thought: count\nAction: wc -l notes.txt"),
            Message("user", "3 notes.txt"),
            Message("assistant", "Action: answer 3"),
        ),
        1.0,
    ),
    Telling(
        (
            *_ASKED,
            Message("assistant", "Thought: look around\nAction: ls"),
            Message("user", "notes.txt\nold"),
            Message("assistant", "Thought: guess\nAction: answer 5"),
        ),
        0.0,
    ),
)
"""The story in text alone, for formats that know no tools."""


def check_story(
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    store: Path,
    story: Sequence[Telling] = CALLS,
    *,
    system: bool = True,
    reasoning: bool = True,
    ids: bool = True,
    task: str | None = TASK,
    scores: bool = True,
    **options: Any,
) -> list[Trajectory]:
    """Import files that tell the story, and check everything that can be read off it.

    Args:
        files: what to import.
        store: where to; must not exist.
        story: the runs that were written, in any order.
        system: whether the format holds the system's instructions.
        reasoning: whether the format holds reasoning.
        ids: whether the format holds the ids of calls.
        task: the task that both runs must have; None if the format names none, but both must have the same.
        scores: whether the format, with `options`, gives scores. The fork is checked in any case.
        options: for `import_files`.

    Returns:
        The imported trajectories in the order of the story.
    """
    report = import_files(files, store, **options)
    assert (report.added, report.skipped, report.left_out_count) == (len(story), 0, 0), report
    runs = sorted(TrajectoryStore(store), key=lambda run: [_actions(t) for t in story].index(_did(run)))
    assert len({run.task for run in runs}) == 1
    assert task is None or runs[0].task == task
    for run, told in zip(runs, story, strict=True):
        assert [step.observation for step in run.steps] == list(told.seen)
        assert not scores or run.score == told.score
        assert [_as(m, reasoning, ids) for m in _without_system(run.messages, system)] == [
            _as(m, reasoning, ids) for m in _without_system(told.messages, system)
        ]
    (tree,) = build(TrajectoryStore(store))
    ((fork, options_),) = tree.forks()
    assert (len(options_), tree.depth[fork]) == (2, 1)  # the first decision is the same, the second is not
    again = import_files(files, store, **options)
    assert (again.added, again.skipped) == (0, len(story))
    return runs


def _actions(told: Telling) -> tuple[str, ...]:
    return tuple(
        action_of(reply) if reply.tool_calls else reply.content.partition("Action:")[2].strip() or reply.content
        for reply in told.replies
    )


def _did(run: Trajectory) -> tuple[str, ...]:
    return tuple(step.action for step in run.steps)


def _without_system(messages: Iterable[Message], keep: bool) -> list[Message]:
    return [m for m in messages if keep or m.role != "system"]


def _as(message: Message, reasoning: bool, ids: bool) -> tuple[Any, ...]:
    calls = tuple((c.id if ids else "", c.name, _sorted(c.arguments)) for c in message.tool_calls)
    answers = message.tool_call_id if ids else None
    return message.role, message.content, message.reasoning if reasoning else None, calls, answers


def _sorted(arguments: str) -> str:
    return action_of(Message("assistant", "", None, (ToolCall("", "", arguments),)))
