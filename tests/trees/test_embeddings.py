"""Sentence embeddings: each text once, and a clear error where the package or the model is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from tests.builders import trajectory
from tests.cli.commands import invoke
from tests.fake_sentences import Letters, install

from trajtree.errors import PolicyError, TrajtreeError
from trajtree.store.trajectory_store import write_store
from trajtree.trees.embeddings import MODEL, SentenceEmbeddings
from trajtree.trees.merge import build


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)


def test_texts_are_embedded_once(package: None) -> None:
    embed = SentenceEmbeddings()
    first = embed(["a lamp", "a door", "a lamp"])
    again = embed(["a door", "a key"])
    assert Letters.asked == ["a lamp", "a door", "a key"]
    assert first.shape == (3, 26)
    assert np.array_equal(first[1], again[0])
    assert np.allclose(np.linalg.norm(first, axis=1), 1)


def test_similar_observations_merge_over_all_tasks_with_one_model(package: None) -> None:
    runs = [
        trajectory(["go", action], sample=n, task=task, seen=["start", seen])
        for task in ("t/a", "t/b")
        for n, (action, seen) in enumerate([("take", "a red lamp is here"), ("drop", "here is a red lamp")])
    ]
    assert [len(list(tree.forks())) for tree in build(runs)] == [0, 0]
    trees = build(runs, embed=SentenceEmbeddings())
    assert [len(list(tree.forks())) for tree in trees] == [1, 1]
    assert len(Letters.asked) == 3


def test_a_missing_model_is_named(package: None) -> None:
    with pytest.raises(TrajtreeError, match="nobody/nowhere: no sentence-transformers model"):
        SentenceEmbeddings("nobody/nowhere")


def test_what_is_loaded_is_looked_up_first(package: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As for every other model, an unknown name is known in seconds, not after minutes of retries."""
    asked: list[tuple[str, str]] = []

    def where(name: str, file: str) -> str:
        asked.append((name, file))
        raise PolicyError(f"{name}: check the name")

    monkeypatch.setattr("trajtree.models.sentences.where_to_load", where)
    write_store([trajectory("a")], tmp_path / "runs.jsonl")
    build = ("build", tmp_path / "runs.jsonl", "--out", tmp_path / "trees.jsonl", "--merge", "semantic")
    for more, name in (((), MODEL), (("--model", "tiny"), "sentence-transformers/tiny"), (("--model", "a/b"), "a/b")):
        with pytest.raises(PolicyError, match=f"^{name}: check the name$"):
            invoke(*build, *more)
        assert asked.pop() == (name, "modules.json")


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(TrajtreeError, match=r"pip install 'trajtree\[semantic\]'"):
        SentenceEmbeddings()
