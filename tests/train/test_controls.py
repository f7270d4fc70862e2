"""The controls of a preference loss: what they imitate, and that they are as many steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("peft", reason="needs the train extra")

from tests.tiny import characters

from trajtree.errors import DataError
from trajtree.models.transcript import ChatFormat
from trajtree.store.tree_store import write_trees
from trajtree.train.material import MessagePairs, Taking, Trees, examples_of
from trajtree.trajectory import Message, Outcome, Sampling, Step, Trajectory
from trajtree.trees.forks import PairSettings
from trajtree.trees.merge import build_tree
from trajtree.trees.search import PathSettings


def run(sample: int, actions: str, score: float) -> Trajectory:
    """One action per character."""
    messages, steps = [Message("system", "Act.")], []
    for number, action in enumerate(actions):
        seen = f"after {actions[:number]}"
        messages += [Message("user", seen), Message("assistant", action)]
        steps.append(Step(seen, action))
    last = structs.replace(steps[-1], reward=score)
    return Trajectory(
        "t", sample, "weak", "toy", "1", 0, Sampling(), tuple(messages), (*steps[:-1], last), score, Outcome.COMPLETED
    )


def taken(folder: Path, method: str, *runs: Trajectory) -> list[tuple[str, float]]:
    """The trained text of each example, replies joined, and its weight."""
    chat = ChatFormat(characters())
    write_trees([build_tree(runs)], folder / "trees.jsonl")
    how = Taking(chat, 999, PairSettings(min_gap=0.2, per_fork=9, per_tree=9), PathSettings(), "equal")
    found = examples_of(Trees("trees", folder / "trees.jsonl"), method, how)
    spelt = [
        ("".join(chat.decode(e.tokens.ids[a : b - 1]) for a, b in e.tokens.agent), e.weight)  # without the end of turn
        for e in found
    ]
    return sorted(spelt)


def test_the_runs_of_the_chosen_sides(tmp_path: Path) -> None:
    runs = run(0, "abc", 1.0), run(1, "abd", 0.5), run(2, "abe", 0.0)
    assert taken(tmp_path, "chosen-sft", *runs) == [("c", 1.0), ("c", 1.0), ("d", 1.0)]
    assert taken(tmp_path, "chosen-runs-sft", *runs) == [("abc", 1.0), ("abc", 1.0), ("abd", 1.0)]
    assert taken(tmp_path, "chosen-solved-sft", *runs) == [("abc", 1.0)] * 3, "as many as there are pairs"


def test_no_chosen_run_succeeds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="trees: of 1 chosen run none succeeds"):
        taken(tmp_path, "chosen-solved-sft", run(0, "ab", 0.5), run(1, "ac", 0.0))


def test_pairs_of_messages_have_no_runs(tmp_path: Path) -> None:
    how = Taking(ChatFormat(characters()), 999, PairSettings(), PathSettings(), "equal")
    with pytest.raises(DataError, match="chosen-runs-sft needs to know the runs of pairs; give trees"):
        examples_of(MessagePairs("dpo.jsonl", tmp_path / "dpo.jsonl"), "chosen-runs-sft", how)
