"""Step rewards for process reward models, from the values of a tree's nodes.

A step is labelled good if the value of the node it leads to, that is what the runs through it score, reaches a
threshold. With the best score as value and 1 as threshold, this is Math-Shepherd's hard estimate: a step is good if any
run that took it succeeded.

Source: TRL's "Dataset formats and types", stepwise supervision: `prompt`, `completions`, `labels`, all in plain text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from trajtree.chat import action_of
from trajtree.store.lines import JsonObject
from trajtree.trajectory import SCORE_TOLERANCE, Message, Trajectory
from trajtree.trees.tree import TrajectoryTree


def step_rewards(tree: TrajectoryTree, value: NDArray[np.float64], good_from: float) -> Iterator[JsonObject]:
    """A row per run with steps: `prompt`, `completions`, `labels`, `values`, `visits` and `task`, each text once.

    A completion is what the agent saw since its previous step, then its reply: thoughts, text, and calls as
    `name(arguments)`. The prompt is everything before its first reply, with the definitions of the tools.

    Args:
        tree: the tree.
        value: [N] value of each node.
        good_from: smallest value of a node to which a good step leads.
    """
    written: set[str] = set()
    for index, run in enumerate(tree.trajectories):
        if not run.steps:
            continue
        nodes = tree.path(int(tree.end[index]))
        completions = _completions(run)
        row: JsonObject = {
            "prompt": _prompt(run),
            "completions": completions,
            "labels": [bool(value[node] >= good_from - SCORE_TOLERANCE) for node in nodes],
            "values": [float(value[node]) for node in nodes],
            "visits": [int(tree.visits[node]) for node in nodes],
            "task": tree.task,
        }
        text = json.dumps([row["prompt"], completions])
        if text not in written:
            written.add(text)
            yield row


def _prompt(run: Trajectory) -> str:
    given, opening, tools = run.context
    instructions = [*given, *(message for message in opening if message.role == "system")]
    parts = [*map(_said, instructions), *(["Tools:\n" + "\n".join(tools)] if tools else []), run.steps[0].observation]
    return "\n\n".join(part for part in parts if part)


def _completions(run: Trajectory) -> list[str]:
    replies = _replies(run)
    seen = ["", *(step.observation for step in run.steps[1:])]
    return ["\n".join(part for part in both if part) for both in zip(seen, replies, strict=True)]


def _replies(run: Trajectory) -> Sequence[str]:
    places = run.replies
    if len(places) == len(run.steps):
        return [_said(run.messages[place]) for place in places]
    return ["\n".join(part for part in (step.thought, step.action) if part) for step in run.steps]


def _said(message: Message) -> str:
    calls = action_of(message) if message.tool_calls else ""
    return "\n".join(part for part in (message.reasoning, message.content, calls) if part)


__all__ = ["step_rewards"]
