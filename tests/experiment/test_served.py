"""Recipes whose models play on servers: the weak one as it is, under its name; a strong one untouched only."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("openai")
pytest.importorskip("torch")
from tests.policies.stub_server import Answer, Body, Stub, ok, probed, said, stub
from tests.toy import Toy, demonstrate, solution

from trajtree.errors import LimitError, RecipeError, RunError
from trajtree.experiment.execute import run_recipe
from trajtree.experiment.pipeline import stages_of
from trajtree.experiment.recipe import Recipe, load_recipe
from trajtree.experiment.report_folders import write_report
from trajtree.policies.spending import Spending
from trajtree.store.progress import SILENT
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Message, Trajectory

pytestmark = pytest.mark.timeout(300)
HERE = "openai:stub@http://localhost:1/v1"


def mixed(body: Body) -> Answer:
    """Greedy it wins half of the tasks, warm it tries this and that."""
    if (look := probed(body)) is not None:
        return look
    number = int(body["messages"][1]["content"].split()[1].rstrip(":"))
    turn = sum(message["role"] == "assistant" for message in body["messages"])
    wins = number % 2 if body["temperature"] == 0 else body["seed"] % 3
    return ok(said(solution(f"toy/{number}")[min(turn, 1)] if wins else "look"))


def recipe(folder: Path, weak: str, strong: str, **more: Any) -> Recipe:
    path = folder / "recipe.yaml"
    written: dict[str, Any] = {
        "name": "served",
        "env": {"name": "tests.toy:DOMAIN"},
        "tasks": {"types": ["toy"], "demonstrations": 4, "unseen": 0, "dev": 1, "test": 6},
        "weak": {"model": weak},
        "strong": {"model": strong, "lora_rank": 4},
        "explore": {"rollouts": 3},
        "sft": {"epochs": 1, "batch": 4},
        "evaluate": {"rows": ["weak", "strong", "w2sg_exact"], "ceiling": "strong"},
        "play": {"batch": 4, "max_new_tokens": 8, "dtype": "float32"},
    }
    path.write_text(yaml.safe_dump({**written, **more}))
    return load_recipe(path)


def test_the_opening_of_recorded_demonstrations_begins_every_episode(tmp_path: Path, tiny_words: Path) -> None:
    """A store of runs that were given an example: a server is asked with it, and so is a model that is trained."""
    given = (Message("user", "An example."), Message("assistant", "OK"))
    shown = [demonstrate(Toy(), f"toy/{number}") for number in range(12)]
    runs = [replace(t, messages=(*given, *t.messages[1:]), context_turns=1) for t in shown if isinstance(t, Trajectory)]
    TrajectoryStore(tmp_path / "expert.jsonl").append(runs)
    asked: list[list[dict[str, str]]] = []

    def answer(body: Body) -> Answer:
        if (look := probed(body)) is not None:
            return look
        asked.append(body["messages"])
        return ok(said("look"))

    with stub(answer) as served:
        own = {"expert": str(tmp_path / "expert.jsonl"), "demonstrations": "all"}
        tasks = {"types": ["toy"], "unseen": 0, "dev": 1, "test": 2, **own}
        rows = {"rows": ["weak", "strong_sft"], "primary": "strong_sft", "ceiling": "strong_sft"}
        loaded = recipe(tmp_path, f"openai:stub@{served.url}", str(tiny_words), tasks=tasks, evaluate=rows)
        done = run_recipe(loaded, tmp_path / "run", lambda name: SILENT, until="evaluate")
    assert asked and all([m["content"] for m in messages[:2]] == ["An example.", "OK"] for messages in asked)
    for name in ("demonstrations", "evaluate-weak", "evaluate-strong_sft"):
        found = list(TrajectoryStore(done[name].folder / "trajectories.jsonl"))
        assert found and {(t.context_turns, t.messages[:2]) for t in found} == {(1, given)}, name
    assert len(list(TrajectoryStore(done["demonstrations"].folder / "trajectories.jsonl"))) == 12


def test_rows_are_trained_here_and_played_by_a_server(tmp_path: Path, tiny_words: Path) -> None:
    """As in the paper: the weak model explores after its tuning and, in one slot, before; both on one server."""
    asked: set[tuple[str, float]] = set()

    def answer(body: Body) -> Answer:
        if (look := probed(body)) is not None:
            return look
        asked.add((body["model"], body["temperature"]))
        return mixed(body)

    with stub(answer) as served:
        loaded = recipe(
            tmp_path,
            str(tiny_words),
            str(tiny_words),
            rows={"weak": {"train": {"epochs": 1}}},
            explore={"rollouts": 2, "grid": [{"temperature": 0.7}, {"temperature": 1.0, "by": "weak_untouched"}]},
            evaluate={
                "rows": ["weak", "strong", "treedpo_untouched"],
                "primary": "treedpo_untouched",
                "ceiling": "strong",
            },
            play={
                "batch": 4,
                "servers": {row: f"openai:stub@{served.url}" for row in ("weak", "weak_untouched")},
            },
        )
        stages = {stage.name: stage for stage in stages_of(loaded)}
        done = run_recipe(loaded, tmp_path / "run", lambda name: SILENT, until="explore")
    assert asked == {("stub", 0.7), ("stub", 1.0)}
    played = list(TrajectoryStore(done["explore-weak"].folder / "trajectories.jsonl"))
    assert {(t.sample, t.policy) for t in played} == {(0, "weak"), (1, "weak_untouched")}
    assert (done["weak"].folder / "model").is_dir(), "it is trained here: its weights are a reference"
    assert "reference model 0" in stages["train-treedpo_untouched"].inputs
    how = stages["explore-weak"].settings
    assert how["play"]["server"] == "openai:stub" and "dtype" not in how["play"]
    assert how["policy weak_untouched"]["play"]["server"] == "openai:stub"
    assert "server" not in stages["evaluate-strong"].settings["play"]


def test_a_served_weak_model_plays_as_it_is(tmp_path: Path, tiny_words: Path) -> None:
    with stub(mixed) as served:
        loaded = recipe(tmp_path, f"openai:stub@{served.url}", str(tiny_words))
        spending = Spending()
        done = run_recipe(loaded, tmp_path / "run", lambda name: SILENT, spending=spending)
        assert spending.requests == len(served.requests) + 2, "two stages play on it, and each has a look first"
        asked = len(served.requests)
        data, _ = write_report(loaded, tmp_path / "run", done)
        again = run_recipe(loaded, tmp_path / "run", lambda name: SILENT)
        assert len(served.requests) == asked and all(stage.cached for stage in again.values())
    assert "weak" not in done and set(done) >= {"explore-weak", "evaluate-weak", "train-w2sg_exact"}
    weak = next(row for row in data.results.rows if row.name == "weak")
    assert weak.success_rate.value == 0.5
    explored = list(TrajectoryStore(done["explore-weak"].folder / "trajectories.jsonl"))
    assert len(explored) == 12 and len({t.success for t in explored}) == 2
    assert data.provenance["weak model"] == "openai:stub"
    for name in ("explore-weak", "evaluate-weak"):
        settings = done[name].record["settings"]
        assert settings["model"] == {"model": "openai:stub"}
        assert "dtype" not in settings["play"] and "batch" not in settings["play"]
    beside = done["explore-weak"].folder / "trajectories.jsonl.settings.json"
    assert json.loads(beside.read_text())["server"]["system_fingerprint"] == "fp_stub"


def test_the_key_of_a_stage_knows_the_model_and_not_where_it_is(tmp_path: Path, tiny_words: Path) -> None:
    def explored(weak: str, **play: Any) -> Any:
        loaded = recipe(tmp_path, weak, str(tiny_words), play={"max_new_tokens": 8, **play})
        return next(stage.settings for stage in stages_of(loaded) if stage.name == "explore-weak")

    here = explored(HERE)
    assert here == explored("openai:stub@http://elsewhere:2/v1", batch=99, dtype="bfloat16")
    assert here != explored("openai:other@http://localhost:1/v1")
    assert here != explored(HERE, max_new_tokens=9)


def test_half_a_stage_goes_on_only_under_the_same_server(tmp_path: Path, tiny_words: Path) -> None:
    def go(served: Stub, **limits: Any) -> None:
        loaded = recipe(tmp_path, f"openai:stub@{served.url}", str(tiny_words))
        run_recipe(loaded, tmp_path / "run", lambda name: SILENT, until="explore", spending=Spending(**limits))

    with stub(mixed) as served:
        with pytest.raises(LimitError):
            go(served, limit_tokens=500)
        (store,) = (tmp_path / "run").glob("explore-weak/*/trajectories.jsonl")
        half = len(list(TrajectoryStore(store)))
        assert 0 < half < 12
        with stub(mixed, {"data": [{"id": "stub", "owned_by": "them"}]}) as other:
            with pytest.raises(RunError, match=r'server.owned_by "us" then, "them" now; start the same server again'):
                go(other)
            assert not other.requests
        go(served)
    assert len(list(TrajectoryStore(store))) == 12


@pytest.mark.parametrize("rows", [["weak", "strong", "w2sg_exact"], ["weak", "strong_sft", "strong"]])
def test_a_served_strong_model_is_not_tuned(tmp_path: Path, tiny_words: Path, rows: list[str]) -> None:
    evaluate = {"rows": rows, "primary": "strong", "ceiling": "strong"}
    with pytest.raises(
        RecipeError, match=r"evaluate.rows: \w+ tunes strong.model, which plays on a server \(openai:st"
    ):
        recipe(tmp_path, str(tiny_words), HERE, evaluate=evaluate)
    untouched = recipe(tmp_path, HERE, HERE, evaluate={**evaluate, "rows": ["weak", "strong"]})
    assert [stage.name for stage in stages_of(untouched)] == ["tasks", "evaluate-weak", "evaluate-strong"]


def test_a_served_weak_model_is_not_tuned_either(tmp_path: Path, tiny_words: Path) -> None:
    rows = {"weak": {"learns_from": "demonstrations"}}
    with pytest.raises(RecipeError, match=r"tunes weak\.model"):
        recipe(tmp_path, HERE, str(tiny_words), rows=rows)
    rows = {"w2sg_exact": {"reference": "weak", "train": {"diversity": 0.1}}}
    with pytest.raises(RecipeError, match=r"rows.w2sg_exact.reference: weak plays on a server"):
        recipe(tmp_path, HERE, str(tiny_words), rows=rows)


def test_rows_of_a_served_weak_model_play_from_here(tmp_path: Path, tiny_words: Path) -> None:
    """Servers are asked by this process, with a cluster too: by the untuned weak model as well."""
    rows = {"rows": ["weak", "weak_untouched", "strong"], "primary": "weak", "ceiling": "strong"}
    loaded = recipe(tmp_path, "openai:stub@http://localhost:1/v1", str(tiny_words), evaluate=rows)
    where = {stage.name: stage.where for stage in stages_of(loaded) if stage.kind == "evaluate"}
    assert where == {"evaluate-weak": "here", "evaluate-weak_untouched": "here", "evaluate-strong": "beside"}
