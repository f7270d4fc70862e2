"""Stores of several seeds are put together without two runs becoming one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick, trajectory

from trajtree.errors import DataError
from trajtree.store.encoding import Head
from trajtree.store.pooling import pool_stores, pooled
from trajtree.store.trajectory_store import TrajectoryStore, write_store
from trajtree.trajectory import Origin, Trajectory
from trajtree.trees.merge import build_tree


def store_of(path: Path, *given_: Trajectory) -> Path:
    TrajectoryStore(path).append(given_)
    return path


def test_two_seeds(tmp_path: Path) -> None:
    a = store_of(tmp_path / "a.jsonl", trajectory("ab", 1.0, sample=0), trajectory("ac", 0.0, sample=3))
    b = store_of(tmp_path / "b.jsonl", trajectory("ba", 0.5, sample=1), trajectory("bb", 0.25, sample=0))
    done = pool_stores([a, b], tmp_path / "both.jsonl")
    assert (done.kept, done.renumbered, done.repeated) == (4, 2, 0)
    rows = list(TrajectoryStore(tmp_path / "both.jsonl"))
    assert [(t.score, t.sample) for t in rows] == [(1.0, 0), (0.0, 3), (0.5, 5), (0.25, 4)]
    assert [(t.metadata["pooled_from"], t.metadata["pooled_sample"]) for t in rows] == [
        ("a.jsonl", 0),
        ("a.jsonl", 3),
        ("b.jsonl", 1),
        ("b.jsonl", 0),
    ]
    assert len(build_tree(rows).trajectories) == 4


def test_a_mixture_is_sorted_out(tmp_path: Path) -> None:
    """`cat a.jsonl b.jsonl` gives two runs of sample 0, which no tree takes; pooling the mixture renumbers one."""
    rows = [trajectory("a", 1.0), trajectory("b", 0.0), trajectory("c", 0.5, sample=1)]
    mixed = store_of(tmp_path / "mixed.jsonl", *rows)
    with pytest.raises(
        DataError, match=r"task toy/0, sample 0: another run has this number too, .*trajtree pool STORES --out FILE"
    ):
        build_tree(rows)
    pool_stores([mixed], tmp_path / "sorted.jsonl")
    assert [t.sample for t in TrajectoryStore(tmp_path / "sorted.jsonl")] == [0, 2, 1]


def test_branched_runs_keep_their_parents(tmp_path: Path) -> None:
    first = [trajectory("ab"), replace(trajectory("ac", sample=1), origin=Origin(0, 1))]
    again = list(pooled([first, first]))
    assert [(t.sample, t.origin and t.origin.sample) for t in again] == [(0, None), (1, 0), (2, None), (3, 2)]
    build_tree(again)
    with pytest.raises(
        DataError, match=r"sample 1: branched off sample 0, of which the store holds 2; pool the stores"
    ):
        list(pooled([[*first, trajectory("b")]]))


def test_a_record_that_was_imported_twice_is_kept_once(tmp_path: Path) -> None:
    place = {"source": "runs#1", "row": 1, "line": 1, "digest": "0" * 16, "content": "1" * 16}
    imported = replace(trajectory("ab", 1.0), metadata=place)
    other = replace(imported, sample=1, metadata={**place, "row": 2})
    a = store_of(tmp_path / "a.jsonl", imported)
    b = store_of(tmp_path / "b.jsonl", imported, other)
    done = pool_stores([a, b], tmp_path / "both.jsonl")
    assert (done.kept, done.repeated) == (2, 1)


def test_a_pool_of_pools_names_the_first_store(tmp_path: Path) -> None:
    a, b = (store_of(tmp_path / name, trajectory("a")) for name in ("a.jsonl", "b.jsonl"))
    pool_stores([a, b], tmp_path / "ab.jsonl")
    pool_stores([a, tmp_path / "ab.jsonl"], tmp_path / "aab.jsonl")
    rows = list(TrajectoryStore(tmp_path / "aab.jsonl"))
    assert [(t.sample, t.metadata["pooled_from"]) for t in rows] == [(0, "a.jsonl"), (1, "a.jsonl"), (2, "b.jsonl")]


@pytest.mark.parametrize("sample", [-1, 0, -(2**63), 2**63 - 1])
def test_any_number_may_be_a_sample(tmp_path: Path, sample: int) -> None:
    branched = replace(trajectory("ac", sample=5), origin=Origin(sample, 1))
    a = store_of(tmp_path / "a.jsonl", trajectory("ab", sample=sample), branched)
    done = pool_stores([a], tmp_path / "out.jsonl")
    assert (done.kept, done.renumbered, done.repeated) == (2, 0, 0)
    assert [(t.sample, t.origin) for t in TrajectoryStore(tmp_path / "out.jsonl")] == [
        (sample, None),
        (5, Origin(sample, 1)),
    ]


@quick
@given(st.lists(st.lists(st.tuples(st.sampled_from("xyz"), st.integers(-2, 3)), max_size=6), max_size=3))
def test_nothing_is_lost_and_no_number_is_used_twice(stores: list[list[tuple[str, int]]]) -> None:
    rows = [[trajectory("a", task=task, sample=sample) for task, sample in store] for store in stores]
    out = list(pooled(rows))
    assert Counter(t.task for t in out) == Counter(task for store in stores for task, _ in store)
    assert len({t.key for t in out}) == len(out)
    if rows and len({t.key for t in rows[0]}) == len(rows[0]):
        assert out[: len(rows[0])] == rows[0]


@pytest.mark.parametrize("sample", [2**63, 10**400, -(2**63) - 1])
def test_a_sample_that_no_index_can_hold_is_named(tmp_path: Path, sample: int) -> None:
    path = tmp_path / "runs.jsonl"
    write_store([trajectory(["go"])], path)
    text = path.read_text()
    assert '"sample":0' in text
    path.write_text(text.replace('"sample":0', f'"sample":{sample}'))
    with pytest.raises(DataError, match=r"runs\.jsonl, line 2, field sample: "):
        pool_stores([path], tmp_path / "out.jsonl")


def test_a_store_named_twice_is_refused(tmp_path: Path) -> None:
    path, link = tmp_path / "runs.jsonl", tmp_path / "link.jsonl"
    write_store([trajectory(["go"])], path)
    link.symlink_to(path)
    for again in (path, link):
        with pytest.raises(DataError, match="named twice"):
            pool_stores([path, again], tmp_path / "out.jsonl")


def test_stores_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    paths = [tmp_path / seed / "runs" / "trajectories.jsonl" for seed in ("seed0", "seed1")]
    for path in paths:
        path.parent.mkdir(parents=True)
        write_store([trajectory(["go"])], path)
    pool_stores(paths, tmp_path / "out.jsonl")
    found = [t.metadata["pooled_from"] for t in TrajectoryStore(tmp_path / "out.jsonl")]
    assert found == ["seed0/runs/trajectories.jsonl", "seed1/runs/trajectories.jsonl"]


def test_a_store_that_grows_meanwhile_is_pooled_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    write_store([trajectory(["go"], sample=n) for n in range(2)], path)

    class Growing(TrajectoryStore):
        def heads(self) -> Iterator[Head]:
            yield from list(super().heads())
            TrajectoryStore(self.path).append([trajectory(["late"], sample=9)])

    assert [t.sample for t in pooled([Growing(path)])] == [0, 1]


def test_the_largest_number_has_none_after_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sample can follow 9223372036854775807"):
        list(pooled([[trajectory(["go"], sample=2**63 - 1)], [trajectory(["go"])]]))
