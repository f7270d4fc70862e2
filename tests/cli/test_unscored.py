"""Trees of runs without a score: they can be looked at, and nothing learns from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick, trajectories, trajectory
from tests.cli.commands import done, invoke

import trajtree
from trajtree.errors import DataError
from trajtree.report.viewer.record import figures, record
from trajtree.store.trajectory_store import write_store
from trajtree.store.tree_store import read_trees, write_trees
from trajtree.trajectory import Trajectory
from trajtree.trees.display import episode, outline, sketch
from trajtree.trees.forks import AGGREGATES, MODES, PairSettings, options_of, over_explored, pairs_of
from trajtree.trees.merge import build, build_tree
from trajtree.trees.quality import quality
from trajtree.trees.search import SEARCHES, PathSettings, search_of
from trajtree.trees.stitching import best_sample, propose
from trajtree.trees.tree import TrajectoryTree

SCORED = [trajectory(["a", "b"], 1.0), trajectory(["a", "c"], 0.25, sample=1)]


def unscored(actions: list[str], sample: int, **options: object) -> Trajectory:
    return replace(trajectory(actions, 0.0, sample=sample), unscored=True, **options)


MIXED = [*SCORED, unscored(["d"], 2)]


@quick
@given(trajectories())
def test_where_all_runs_have_scores_nothing_changes(runs: list[Trajectory]) -> None:
    with TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("kept", "left out")]
        for file, keep in zip(files, (True, False), strict=True):
            write_trees(build(runs, keep_unscored=keep), file)
        assert files[0].read_bytes() == files[1].read_bytes()
        assert b"unscored" not in files[0].read_bytes()


@quick
@given(trajectories(most=6), st.data())
def test_a_tree_has_all_runs_and_no_value(runs: list[Trajectory], data: st.DataObject) -> None:
    """It has the shape that the runs would have with scores, also read back from a file."""
    without = data.draw(st.sets(st.sampled_from(range(len(runs))), min_size=1))
    given_ = [replace(run, unscored=True, score=0.0) if i in without else run for i, run in enumerate(runs)]
    tree = build_tree(given_, keep_unscored=True)
    assert tree.unscored == len(without) and np.isnan(tree.score_sum).all()
    same = build_tree([replace(run, unscored=False) for run in given_])
    with TemporaryDirectory() as folder:
        write_trees([tree], Path(folder, "trees"))
        (back,) = read_trees(Path(folder, "trees"))
    for other in (same, back):
        for name in ("parent", "depth", "decision", "first", "stop", "visits", "end"):
            assert (getattr(tree, name) == getattr(other, name)).all()
    for text in (repr(tree), outline(tree), *sketch(tree), json.dumps([figures(tree), record(tree)], allow_nan=False)):
        assert "nan" not in text.replace("NaN", "nan") or any("nan" in run.task for run in runs)
    found = quality(tree)
    assert [found.best, found.mean, found.pairs, found.spread, found.informative_forks] == [None] * 5
    assert (found.forks, found.nodes, found.lost) == (quality(same).forks, quality(same).nodes, 0)


LEARNING: dict[str, Callable[[TrajectoryTree], object]] = {
    **{f"pairs {m} {v}": lambda t, m=m, v=v: pairs_of(t, PairSettings(m, v)) for m in MODES for v in AGGREGATES},
    **{f"search {s}": lambda t, s=s: search_of(PathSettings(s))(t) for s in SEARCHES},
    "pairs": trajtree.pairs,
    "options": lambda tree: options_of(tree, PairSettings()),
    "over explored": lambda tree: over_explored(tree, [0], PairSettings()),
    "best sample": best_sample,
    "propose": propose,
    "mean": lambda tree: tree.mean,
    "best": lambda tree: tree.best,
    "scores": lambda tree: tree.scores,
}


@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.parametrize("runs", [MIXED, [unscored(["a"], 0)], [unscored([], 0)]])
def test_nothing_learns_from_it(name: str, runs: list[Trajectory]) -> None:
    tree = build_tree(runs, keep_unscored=True)
    with pytest.raises(DataError, match=r"^task toy/0: 1 run of \d without a score, .*--scores FILE"):
        LEARNING[name](tree)


def test_what_is_shown_says_that_there_is_no_score() -> None:
    tree = build_tree(MIXED, keep_unscored=True)
    assert repr(tree) == "<TrajectoryTree 'toy/0': 3 runs, 4 nodes, 2 forks, 1 without a score>"
    assert sketch(tree)[1:] == ["  a  2 runs", "    b  1 run", "    c  1 run", "  d  1 run"]
    assert episode(MIXED[-1])[0] == "'toy/0': 1 action, no score"
    shown = record(tree)
    assert set(shown["mean"]) == set(shown["value"]) == set(shown["score"]) == {None}
    assert shown["target"] is None and set(shown["success"]) == {0}
    assert (figures(tree)["best"], figures(tree)["mean"], figures(tree)["informative"]) == (None, None, 0)


def test_they_are_left_out_unless_asked_for() -> None:
    assert [len(tree.trajectories) for tree in build(MIXED)] == [2]
    assert [len(tree.trajectories) for tree in build(MIXED, keep_unscored=True)] == [3]
    with pytest.raises(DataError, match="has no score, leave it out"):
        build_tree(MIXED)


def store_of(runs: list[Trajectory], folder: Path) -> Path:
    write_store(runs, folder / "mixed.jsonl")
    return folder / "mixed.jsonl"


def test_from_a_store_to_a_page(tmp_path: Path) -> None:
    store, trees, page = tmp_path / "runs.jsonl", tmp_path / "trees.jsonl", tmp_path / "page.html"
    write_store([*SCORED, *(replace(run, task="toy/1") for run in MIXED)], store)
    said = done("build", store, "--out", trees)
    assert said.startswith("left out: 1 run without a score\n")
    said = done("build", store, "--out", trees, "--unscored", "keep")
    assert "left out" not in said and "2 trees of 5 runs" in said
    assert "trees with runs without a score: 1 of 2 tasks; they have no values and can only be shown" in said
    assert "forks: 1, of which 1 have a gap" in said and "pairs to expect: 1;" in said
    said = done("show", trees, "--html", page, "--json", tmp_path / "figures.json")
    assert "no score" in said and "nan" not in said.lower()
    found = json.loads((tmp_path / "figures.json").read_text())
    assert (found["total"]["mean"], found["total"]["pairs"], found["total"]["forks"]) == (0.625, 1, 3)
    assert [tree["mean"] for tree in found["trees"]] == [0.625, None]
    assert page.is_file()
    done("build", store_of(MIXED, tmp_path), "--out", trees, "--unscored", "keep")
    for command in ("pairs", "paths", "rewards"):
        with pytest.raises(DataError, match=f"^{trees}: task toy/0: 1 run of 3 without a score"):
            invoke(command, trees, "--out", tmp_path / f"{command}.jsonl")
        assert not (tmp_path / f"{command}.jsonl").exists()


def test_a_store_without_any_score(tmp_path: Path) -> None:
    store, trees = tmp_path / "runs.jsonl", tmp_path / "trees.jsonl"
    write_store([unscored(["a"], 0), unscored(["b"], 1)], store)
    with pytest.raises(DataError, match=r"2 runs without a score; import with --scores FILE, or .*: --unscored keep$"):
        done("build", store, "--out", trees)
    said = done("build", store, "--out", trees, "--unscored", "keep")
    assert "trees with runs without a score: 1 of 1 task;" in said and "pairs to expect" not in said
    assert "no score" in done("show", trees)


def test_no_training_takes_them(tmp_path: Path) -> None:
    from trajtree.train.material import material_of

    write_trees(build(MIXED, keep_unscored=True), tmp_path / "trees.jsonl")
    material = material_of(tmp_path / "trees.jsonl", PathSettings())
    with pytest.raises(DataError, match=r"trees\.jsonl: task toy/0: 1 run of 3 without a score"):
        list(material)  # type: ignore[call-overload]
