"""Every name that a benchmark takes from trajtree is there, and the stored results of runs are whole."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from tests.builders import trajectory
from tests.envs.alfworld_data import all_games, needs_all_games
from tests.toy import COLOURS, Toy

from trajtree.envs.domain import Domain, NoDemonstration, load_domain
from trajtree.envs.replay import replay
from trajtree.explore.branching import tree_maker
from trajtree.report import read_results_json, verdict
from trajtree.store.trajectory_store import write_store

pytest.importorskip("torch")

import torch

from trajtree.train.packing import pack
from trajtree.train.tree_attention import plan_of, tree_attention

BENCHMARKS = sorted((Path(__file__).parent.parent / "benchmarks").glob("*.py"))
RUNS = sorted((Path(__file__).parent.parent / "benchmarks" / "results").glob("*.json"))
RUNS = [path for path in RUNS if '"format": "trajtree.results"' in path.read_text()[:200]]


def benchmark(name: str) -> Any:
    """A benchmark as a module; they import each other as scripts do."""
    sys.path.insert(0, str(BENCHMARKS[0].parent))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_stored_results_know_their_situations_and_say_what_follows(path: Path) -> None:
    data = read_results_json(path)
    assert data.results.by_situation
    assert json.loads(path.read_text())["verdict"] == verdict(data)


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_imports(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trajtree"):
            module = importlib.import_module(str(node.module))
            for name in node.names:
                assert hasattr(module, name.name) or importlib.import_module(f"{node.module}.{name.name}")


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_the_attentions_that_are_compared_compute_the_same() -> None:
    attentions = benchmark("attentions")
    plan = plan_of(pack([(1, 2, 3, 4), (1, 2, 5), (6, 7), (1, 2, 3, 8, 9)]))
    query, key, value = (torch.randn(1, heads, len(plan.positions), 16) for heads in (4, 2, 2))
    layer = torch.nn.Module()
    expected, _ = tree_attention(layer, query, key, value, None, tree_plan=plan)
    for one in (attentions.by_loop, attentions.by_mask):
        torch.testing.assert_close(one(layer, query, key, value, None, tree_plan=plan)[0], expected)
    with torch.no_grad():
        torch.testing.assert_close(attentions.by_flex(layer, query, key, value, None, tree_plan=plan)[0], expected)


def test_every_lifespan_task_asks_for_one_of_five_animals() -> None:
    by_answer = benchmark("other_units").by_answer
    found: dict[str, set[str]] = {}
    for path in RUNS:
        for row in json.loads(path.read_text())["rows"]:
            for task in row["tasks"]:
                changed = by_answer(task)
                if task["task_type"].startswith("lifespan"):
                    found.setdefault(task["task_type"], set()).add(changed.pop("situation"))
                    task.pop("situation")
                assert changed == task
    assert len(found) == 3 and all(len(answers) <= 5 for answers in found.values())


def test_find_types_are_left_out_of_every_row() -> None:
    other_units = benchmark("other_units")
    stored = json.loads(next(path for path in RUNS if path.stem == "own-runs-seed0").read_text())
    seen = other_units.seen(stored, other_units.without_find)
    assert all({task["task_type"].split("-")[0] for task in row["tasks"]} == {"lifespan"} for row in seen["rows"])
    assert other_units.seen(stored, other_units.as_stored) == stored


def test_copies_of_a_demonstration_are_counted_by_their_actions() -> None:
    shown = [trajectory(["look", "Focus on  dove"], 1.0)]
    runs = [trajectory(actions, score) for actions, score in ((["look", "focus on dove"], 1.0), (["look"], 1.0))]
    runs += [trajectory(["look", "focus on dove"], 1.0, task="another")]
    counted = benchmark("copies").copied(runs, shown, lambda action: " ".join(action.lower().split()))
    assert counted == {"runs": 3, "succeed": 3, "demonstrations": 1}


def test_a_gap_that_may_be_zero_is_printed_as_none() -> None:
    recovered = benchmark("experiment_tables").recovered
    assert recovered({"value": None, "low": None, "high": None}) == "none"
    assert recovered({"value": 0.5, "low": None, "high": None}) == "50.0, no end"
    assert recovered({"value": 0.5, "low": 0.25, "high": 1.0}) == "50.0 [25.0, 100.0]"


def test_unseen_tasks_in_seen_situations_and_worlds_are_counted() -> None:
    situations = {
        "a/0": "a: do it [x, y]",
        "a/1": "a: do it [x, y]",
        "b/0": "b: do that [x, y]",
        "b/1": "b: do that [z]",
    }
    found = benchmark("copies").seen_before(["a/0"], ["a/1", "b/0", "b/1"], situations)
    assert found == {"tasks": 3, "in a demonstrated situation": 1, "in a demonstrated world": 1}


@pytest.mark.timeout(900)
def test_what_needs_a_gpu_is_tested_but_for_the_device(tmp_path: Path) -> None:
    """The whole script with tiny models. Packing is as exact as bfloat16, by every kind of attention."""
    out = tmp_path / "gpu.json"
    words = ["bash", str(BENCHMARKS[0].parent / "gpu.sh"), "--device", "cpu", "--tiny", "--seconds", "3000"]
    words += ["--models", "Qwen2.5-0.5B", "Llama-2-7b"]  # with --tiny, the third is the same as the first
    done = subprocess.run(
        [*words, "--out", str(out)],
        env={**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=850,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    written = json.loads(out.read_text())
    assert written["left out"] == ["steps with flex attention: it has no gradient on a CPU"]
    assert list(written["models"]) == ["Qwen2.5-0.5B", "Llama-2-7b"]
    large = written["models"].pop("Llama-2-7b")
    ours = {"packed, loop", "packed, mask", "packed, deterministic"}
    assert {*large["steps"]["a row of trees"]["sides"]} == {*large["plan"]["Tflop/s"]} == ours
    for model in written["models"].values():
        assert model["plan"]["Tflop"] == large["plan"]["Tflop"] > 0  # with --tiny all have one shape
        exact = model["exactness"]
        alone = exact["alone"]["nats from float32, mean"]
        for kind in ("loop", "mask", "flex"):
            assert 0 < exact[f"packed, {kind}"]["nats from float32, mean"] < 2 * alone
        assert exact["packed, loop"]["gradient from float32, share"] < 0.05
        assert len(model["steps"]) == 5
        tree = model["steps"]["a tree's three pairs"]
        assert tree["tokens"] > 3 * tree["packed tokens"]
        assert ours | {"padded", "TRL", "TRL, reference precomputed"} == set(tree["sides"])
        assert model["attention"]["fastest"] in ("loop", "mask")
        assert model["rollouts"]["4 at once"]["sampled tokens"] > 0 and model["rollouts"]["keeps what it read"]


def test_trees_of_the_first_m_episodes_branch_more_as_m_grows(tmp_path: Path) -> None:
    module = benchmark("rollouts_per_task")
    runs = [
        replace(replay(Toy(), f"toy/{task}", [f"take {COLOURS[sample % 3]} key"], policy="weak"), sample=sample)
        for task in range(2)
        for sample in range(10)
    ]
    write_store(runs, tmp_path / "runs.jsonl")
    found = module.by_task(tmp_path / "runs.jsonl")
    trees = {size: module.of_size(found, size, tree_maker(Toy), 0.2) for size in (1, 3, 10)}
    assert [trees[size]["episodes"] for size in trees] == [2, 6, 20]
    assert trees[3]["branching"] == trees[10]["branching"] == 3 and trees[3]["forks"] == 1
    assert trees[1]["solved"] == 0 and trees[3]["best"] == 50
    write_store(runs[:9], tmp_path / "fewer.jsonl")
    with pytest.raises(SystemExit, match="toy/0 has 9 episodes; 10 are needed"):
        module.by_task(tmp_path / "fewer.jsonl")


def test_splits_within_train_are_dealt_by_name_and_share() -> None:
    found = benchmark("splits_within_train").splits(load_domain("textworldexpress"), {"simonsays": 0.3})
    assert {split: len(tasks) for split, tasks in found.items()} == {"train": 520, "dev": 180, "test": 300}
    assert sorted(chain(*found.values())) == sorted(f"simonsays/{seed}" for seed in range(1000))
    assert found["test"] != sorted(found["test"])


def test_no_split_but_train_has_a_group_of_more_tasks_than_asked_for() -> None:
    domain = Domain(
        environment=Toy,
        make=lambda limit: Toy(),
        tasks=lambda kind, split: [f"{kind}/{number}" for number in range(100)],
        demonstrate=lambda env, task: NoDemonstration(task, "none"),
        situation=lambda task: "many" if int(task.partition("/")[2]) < 30 else task,
    )
    dealt = benchmark("splits_within_train").splits
    together = {f"a/{number}" for number in range(30)}
    assert together <= set(dealt(domain, {"a": 0.6}, 29)["train"])
    for limit in (None, 30):
        assert together.isdisjoint(dealt(domain, {"a": 0.6}, limit)["train"])


@needs_all_games
def test_splits_of_alfworld_share_neither_a_task_in_words_nor_a_situation(monkeypatch: pytest.MonkeyPatch) -> None:
    games = all_games()
    assert games is not None
    monkeypatch.setenv("TRAJTREE_DATA", str(games))
    shares = {"pick_and_place_simple": 0.2, "look_at_obj_in_light": 0.1}
    domain = load_domain("alfworld")
    found = benchmark("splits_within_train").splits(domain, shares)
    held = {task: split for split, tasks in found.items() for task in tasks}
    assert len(held) == sum(map(len, found.values())) == 790 + 308
    assert 0.1 * 790 < sum(task.startswith("pick_and_place_simple/") for task in found["test"]) <= 0.2 * 790
    split_of: dict[tuple[str, ...], set[str]] = {}
    for task, split in held.items():
        opening = domain.make(None).reset(task)
        words = opening.partition("Your task is to: ")[2]
        kind = task.partition("/")[0]
        assert words
        split_of.setdefault((kind, words), set()).add(split)
        split_of.setdefault((kind, *domain.situations([task]).values()), set()).add(split)
    assert {len(splits) for splits in split_of.values()} == {1}
