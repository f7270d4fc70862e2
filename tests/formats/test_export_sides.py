"""KTO's unpaired replies and step rewards say what runs really did, and what it was worth."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import branched, quick, trajectory
from tests.formats.export_cases import pair, read_messages
from tests.formats.test_pairs_are_true import runs

from trajtree.formats.pairs import pair_messages
from trajtree.formats.write import PAIR_TARGETS
from trajtree.formats.write.kto import kto_rows
from trajtree.formats.write.prm import step_rewards
from trajtree.trajectory import Message, Step, ToolCall, Trajectory
from trajtree.trees.forks import AGGREGATES, PairSettings, pairs_of
from trajtree.trees.merge import build_tree

USER, A, B, C = Message("user", "go"), *(Message("assistant", word) for word in "abc")


@quick
@given(runs(), st.booleans(), st.integers(1, 9))
def test_each_side_stands_under_what_its_own_run_saw(given_: list[Trajectory], step_only: bool, per_fork: int) -> None:
    tree = build_tree(given_)
    found = pairs_of(tree, PairSettings(per_fork=per_fork, per_tree=99))
    rows = PAIR_TARGETS["trl-kto"].rows(list(pair_messages(tree, found, step_only=step_only)))
    said = [(read_messages(row["prompt"]), read_messages(row["completion"]), row["label"]) for row in rows]
    for prompt, completion, _ in said:
        assert any(list(t.messages[: len(prompt) + len(completion)]) == prompt + completion for t in given_)
    texts = [json.dumps({**row, "label": None}) for row in rows]
    assert len(set(texts)) == len(texts), "each completion once"
    if per_fork == 1:
        better = {(p.node, p.chosen_sample) for p in found}
        assert sum(label for *_, label in said) <= len(better)


def test_a_completion_that_is_better_and_worse_has_no_label() -> None:
    rows = kto_rows([pair([USER], [A], [B]), pair([USER], [B], [C]), pair([USER], [A], [C])])
    assert [(row["completion"][0]["content"], row["label"]) for row in rows] == [("a", True), ("c", False)]
    assert kto_rows([pair([USER], [A], [B], tools=[{}])])[0]["tools"] == [{}]


def test_a_side_has_its_own_tools() -> None:
    """Tools that differ in what was ignored."""
    given_ = [
        replace(
            trajectory("ab"[n], n, sample=n, seen=["go"]), messages=(USER, (A, B)[n]), tools=(f'{{"at": "10:3{n}"}}',)
        )
        for n in range(2)
    ]
    tree = build_tree(given_, ignore=["clock-times"])
    rows = kto_rows(list(pair_messages(tree, pairs_of(tree, PairSettings()))))
    assert [(row["label"], row["tools"]) for row in rows] == [(True, [{"at": "10:31"}]), (False, [{"at": "10:30"}])]


def test_labels_and_values_are_those_of_the_nodes() -> None:
    """a leads to 1 and 0, b to 0: the first step of the runs through a is worth a half."""
    given_ = [trajectory("ac", 1.0, sample=0), trajectory("ad", 0.0, sample=1), trajectory("b", 0.0, sample=2)]
    tree = build_tree(given_)
    rows = list(step_rewards(tree, tree.mean, 0.5))
    assert [row["values"] for row in rows] == [[0.5, 1.0], [0.5, 0.0], [0.0]]
    assert [row["labels"] for row in rows] == [[True, True], [True, False], [False]]
    assert [row["visits"] for row in rows] == [[2, 1], [2, 1], [1]]
    assert [row["labels"] for row in step_rewards(tree, tree.best, 1.0)] == [[True, True], [True, False], [False]]
    assert [row["prompt"] for row in rows] == ["after "] * 3
    assert rows[0]["completions"] == ["a", "after a\nc"]


def test_what_the_agent_was_given_said_and_called_is_in_the_text() -> None:
    call = Message("assistant", "hm", "think", (ToolCall("1", "look", '{"b": 1, "a": 2}'),))
    messages = (Message("system", "Act."), USER, call, Message("tool", "dark", tool_call_id="1"), B)
    run = replace(
        trajectory("ab", 1.0),
        messages=messages,
        steps=(Step("go", "a"), Step("dark", "b")),
        tools=('{"name": "look"}',),
    )
    tree = build_tree([run])
    (row,) = step_rewards(tree, tree.mean, 0.5)
    assert row["prompt"] == 'Act.\n\nTools:\n{"name": "look"}\n\ngo'
    assert row["completions"] == ['think\nhm\nlook({"a": 2, "b": 1})', "dark\nb"]


@quick
@given(branched(), st.sampled_from(list(AGGREGATES)), st.sampled_from((0.0, 0.25, 0.5, 1.0)))
def test_every_run_is_told_once_with_a_label_per_step(
    given_: list[Trajectory], aggregate: str, good_from: float
) -> None:
    tree = build_tree(given_)
    value = AGGREGATES[aggregate].aggregate(PairSettings())(tree)
    rows = list(step_rewards(tree, value, good_from))
    assert len(rows) <= sum(bool(t.steps) for t in given_)
    told = [(row["prompt"], tuple(row["completions"])) for row in rows]
    assert len(set(told)) == len(told)
    for row in rows:
        assert len(row["completions"]) == len(row["labels"]) == len(row["values"]) == len(row["visits"]) > 0
        assert row["labels"] == [v >= good_from - 1e-6 for v in row["values"]]
        assert all(type(label) is bool for label in row["labels"]) and all(visits >= 1 for visits in row["visits"])
    lengths = {len(t.steps) for t in given_ if t.steps}
    assert {len(row["labels"]) for row in rows} == lengths
    assert np.isin([v for row in rows for v in row["values"]], value).all()


@pytest.mark.parametrize("target", [name for name, target in PAIR_TARGETS.items() if target.apart is None])
def test_rows_of_pairs_say_where_they_come_from(target: str) -> None:
    one = pair([USER], [A], [B])
    samples = {"chosen_sample": 3, "rejected_sample": 1, "chosen_value": 1.0, "rejected_value": 0.25}
    told = {"task": "t/1", "step": 2, **samples, "past": "similar"}
    one = replace(one, provenance={**told, "node": 7, "chosen_visits": 1})
    assert PAIR_TARGETS[target].rows([one]) == [
        PAIR_TARGETS[target].row(one) | (told if PAIR_TARGETS[target].beside else {})
    ]
