"""Forms in which failures may teach: what each takes from trees, and how it is weighted."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("peft", reason="needs the train extra")

from tests.tiny import characters
from tests.train.test_controls import run, taken

from trajtree.errors import DataError
from trajtree.models.transcript import ChatFormat
from trajtree.store.tree_store import write_trees
from trajtree.train.batch import collate
from trajtree.train.examples import PairExample
from trajtree.train.material import MessagePairs, Taking, Trajectories, Trees, examples_of
from trajtree.train.settings import WEIGHTS
from trajtree.trajectory import Tokens, Trajectory
from trajtree.trees.forks import PairSettings, options_of
from trajtree.trees.merge import build_tree
from trajtree.trees.pair import Pair
from trajtree.trees.search import PathSettings

RUNS = run(0, "abc", 1.0), run(1, "abd", 0.5), run(2, "abe", 0.0), run(3, "x", 0.5)
"""Two forks: a against x, equally good; after ab, c, d and e, of which d is as good as their mean."""


def pairs(folder: Path, method: str, *runs: Trajectory, weigh: str = "equal") -> list[PairExample]:
    write_trees([build_tree(runs)], folder / "trees.jsonl")
    settings = PairSettings(min_gap=0.2, per_fork=9, per_tree=9)
    how = Taking(ChatFormat(characters()), 999, settings, PathSettings(), weigh)
    found = examples_of(Trees("trees", folder / "trees.jsonl"), method, how)
    assert all(isinstance(example, PairExample) for example in found)
    return [example for example in found if isinstance(example, PairExample)]


def spelt(side: Tokens) -> str:
    chat = ChatFormat(characters())
    return "".join(chat.decode(side.ids[a : b - 1]) for a, b in side.agent)  # without the end of turn


def test_options_are_wanted_or_not_by_the_value_of_their_nodes(tmp_path: Path) -> None:
    assert taken(tmp_path, "node-kto", *RUNS) == [("c", 0.5), ("e", -0.5)], "neither a, x nor d is better than others"


def test_the_mean_of_a_fork_is_that_of_its_runs() -> None:
    """Three runs take a and score 1, 1 and 0; one takes b and scores 0: the mean is a half."""
    tree = build_tree([run(0, "ac", 1.0), run(1, "ac", 1.0), run(2, "a", 0.0), run(3, "b", 0.0)])
    first = [option for option in options_of(tree, PairSettings()) if option.depth == 0]
    assert sorted(option.advantage for option in first) == pytest.approx([-0.5, 2 / 3 - 0.5])
    assert {option.sample for option in first} == {0, 3}, "an option is shown by its best run"


def test_no_fork_tells_its_options_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"trees: no fork whose options differ by 0\.2 in value"):
        taken(tmp_path, "node-kto", run(0, "a", 0.5), run(1, "b", 0.4))


def test_runs_are_weighted_by_their_advantage(tmp_path: Path) -> None:
    spread = np.std([1.0, 0.5, 0.0, 0.5])
    expected = {"abc": math.exp(0.5 / spread), "abd": 1.0, "abe": math.exp(-0.5 / spread), "x": 1.0}
    assert dict(taken(tmp_path, "advantage-sft", *RUNS)) == pytest.approx(expected)
    assert taken(tmp_path, "advantage-sft", run(0, "a", 0.5), run(1, "b", 0.5)) == [("a", 1.0), ("b", 1.0)]


def test_the_anchor_is_the_whole_run_of_the_chosen_side(tmp_path: Path) -> None:
    plain, anchored = (pairs(tmp_path, method, *RUNS) for method in ("anchored-dpo", "run-anchored-dpo"))
    assert [(e.chosen, e.rejected, e.weight) for e in anchored] == [(e.chosen, e.rejected, e.weight) for e in plain]
    assert all(e.run is None for e in plain)
    runs = {(spelt(e.chosen), spelt(e.run)) for e in anchored if e.run is not None}
    assert len(anchored) == 3 and runs == {("c", "abc"), ("d", "abd")}
    assert all(e.run is not None and e.run.ids[: len(e.chosen.ids)] == e.chosen.ids for e in anchored)


def test_only_pairs_whose_chosen_run_succeeds(tmp_path: Path) -> None:
    """As many as there are pairs, and their runs are those that the control imitates."""
    found = pairs(tmp_path, "solved-anchored-dpo", *RUNS)
    assert [(spelt(e.chosen), spelt(e.rejected)) for e in found] == [("c", "e"), ("c", "d"), ("c", "e")]
    control = taken(tmp_path, "chosen-solved-sft", *RUNS)
    assert sorted((spelt(e.run), e.weight) for e in found if e.run is not None) == control
    with pytest.raises(DataError, match="trees: of 1 chosen run none succeeds, so none is learned from"):
        pairs(tmp_path, "solved-anchored-dpo", run(0, "ab", 0.5), run(1, "ac", 0.0))


@pytest.mark.parametrize("packed", [True, False])
def test_a_batch_holds_the_runs_after_both_sides(tmp_path: Path, packed: bool) -> None:
    found = pairs(tmp_path, "run-anchored-dpo", *RUNS)
    batch = collate(found, packed=packed)
    sides = [e.chosen for e in found] + [e.rejected for e in found] + [e.run for e in found if e.run is not None]
    assert batch.branches == 9 and batch.lengths.tolist() == [sum(b - a for a, b in side.agent) for side in sides]
    alone = collate(pairs(tmp_path, "anchored-dpo", *RUNS), packed=True)
    assert not packed or batch.ids.numel() == alone.ids.numel(), "in a pack the anchor costs no further token"


def test_pairs_weigh_by_gap_and_visits_instead_of_being_cut() -> None:
    pair = Pair("t", 0, 0, 0, 1, 0.75, 0.5, 3, 1, "equal")
    assert {name: weight(pair) for name, weight in WEIGHTS.items()} == pytest.approx(
        {"equal": 1.0, "gap": 0.25, "visits": 1.5, "gap-visits": 0.375}
    )


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("run-anchored-dpo", "run-anchored-dpo needs to know the runs of pairs; give trees"),
        ("solved-anchored-dpo", "solved-anchored-dpo needs to know the runs of pairs; give trees"),
        ("node-kto", "contains pairs, but node-kto takes trees"),
        ("advantage-sft", "contains pairs, but advantage-sft takes trees"),
    ],
)
def test_pairs_of_messages_do_not_hold_what_these_need(tmp_path: Path, method: str, says: str) -> None:
    how = Taking(ChatFormat(characters()), 999, PairSettings(), PathSettings(), "equal")
    with pytest.raises(DataError, match=says):
        examples_of(MessagePairs("dpo.jsonl", tmp_path / "dpo.jsonl"), method, how)
    with pytest.raises(DataError, match=f"r: contains runs, but {method} takes trees"):
        examples_of(Trajectories("r", RUNS), method, how)
