"""The examples and the table in docs/exports.md say what the exporters do."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.formats.export_cases import pair, run
from tests.formats.test_export_pairs import HOLDS as PAIRS
from tests.formats.test_export_trajectories import HOLDS as RUNS

from trajtree.formats.write import PAIR_TARGETS, TRAJECTORY_TARGETS
from trajtree.formats.write.prm import step_rewards
from trajtree.trajectory import Message, Step, ToolCall
from trajtree.trees.merge import build_tree

DOC = (Path(__file__).parents[2] / "docs" / "exports.md").read_text(encoding="utf-8")
LOOK = {"type": "function", "function": {"name": "look", "parameters": {}}}
USER = Message("user", "Where am I?")
CALL = Message("assistant", "", tool_calls=(ToolCall("c1", "look", '{"at": "sign"}'),))
SIGN = Message("tool", "HALL", tool_call_id="c1")
HALL, ATTIC = Message("assistant", "In the hall."), Message("assistant", "In the attic.")

RUN = run([USER, CALL, SIGN, HALL], tools=[LOOK])
PAIR = pair([USER], [CALL, SIGN, HALL], [ATTIC], tools=[LOOK])
STEP_ONLY = pair([USER], [HALL], [ATTIC])


def examples(kind: str) -> dict[str, dict[str, Any]]:
    found = re.findall(rf"{kind} for `([a-z-]+)`(?:, two rows)?:\n\n```json\n(.*?)```", DOC, re.DOTALL)
    return {target: json.loads(text) for target, text in found}


def test_every_target_has_an_example() -> None:
    assert examples("A pair").keys() == PAIR_TARGETS.keys()
    assert examples("A run").keys() == TRAJECTORY_TARGETS.keys() - {"llamafactory"}


@pytest.mark.parametrize("target", PAIR_TARGETS)
def test_the_pair_is_what_is_written(target: str) -> None:
    example = PAIR if PAIRS[target].turns else STEP_ONLY
    apart = PAIR_TARGETS[target].apart
    assert examples("A pair")[target] == (apart([example]) if apart else PAIR_TARGETS[target].row(example))


@pytest.mark.parametrize("target", sorted(TRAJECTORY_TARGETS.keys() - {"llamafactory"}))
def test_the_run_is_what_is_written(target: str) -> None:
    assert examples("A run")[target] == TRAJECTORY_TARGETS[target].row(RUN)


def test_the_tables_agree_with_the_targets() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in DOC.splitlines() if line.startswith("| `")
    ]
    pairs, runs = rows[: len(PAIRS)], rows[len(PAIRS) :]
    assert [row[0].strip("`") for row in pairs] == list(PAIR_TARGETS)
    assert [row[0].strip("`") for row in runs] == list(TRAJECTORY_TARGETS)
    for row, can in zip(pairs, PAIRS.values(), strict=True):
        assert [cell != "no" for cell in row[1:4]] == [can.turns, can.calls, can.thoughts]
    for row, can in zip(runs, RUNS.values(), strict=True):
        assert [cell != "no" for cell in row[1:4]] == [can.context, can.calls, can.thoughts]


@pytest.mark.parametrize("part", ["calls", "thoughts"])
def test_the_targets_of_what_is_written_as_text_are_named(part: str) -> None:
    (named,) = re.findall(rf"\* `--render-{part}` is for (.*)\.\n", DOC)
    can = {name for table in (PAIR_TARGETS, TRAJECTORY_TARGETS) for name, t in table.items() if part in t.as_text}
    assert set(named.split(", ")) == can


def test_the_step_rewards_are_what_is_written() -> None:
    steps = (Step("Where am I?", 'look({"at": "sign"})'), Step("HALL", "In the hall."))
    runs = [
        replace(RUN, sample=0, steps=steps, tools=(), score=0.0),
        replace(run([USER, CALL, SIGN, ATTIC]), sample=1, steps=(steps[0], Step("HALL", "In the attic.")), score=1.0),
    ]
    tree = build_tree(runs)
    (told,) = re.findall(r"## Step rewards.*?```json\n(.*?)```", DOC, re.DOTALL)
    assert json.loads(told) in list(step_rewards(tree, tree.mean, 0.5))
