"""The whole recipe on the toy, through the command line, killed and broken in every way that a user will meet."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("torch")
pytest.importorskip("peft")

from tests.starting import IMPORTED, Started, command_line
from tests.toy import Toy

from trajtree.errors import RecipeError, RunError
from trajtree.experiment.guarantee import MEASURED
from trajtree.experiment.learn import model_of
from trajtree.experiment.pipeline import stages_of
from trajtree.experiment.recipe import load_recipe
from trajtree.experiment.report_folders import folder_of, keep_recipe, read_reports
from trajtree.models.transcript import ChatFormat
from trajtree.models.weights import load_model, load_tokenizer
from trajtree.store.lock import locked
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.store.tree_store import read_trees
from trajtree.train.examples import sft_examples
from trajtree.trees.search import best_path, exact

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 600
"""A guard against hanging, wide enough for a machine that is busy with other work."""
ROWS = ("weak", "strong", "strong_sft", "w2sg_treedpo", "w2sg_exact", "w2sg_mcts")


def recipe_of(strong: Path) -> dict[str, Any]:
    return {
        "name": "toy",
        "env": {"name": "tests.toy:DOMAIN"},
        "tasks": {"types": ["toy"], "demonstrations": 8, "unseen": 2, "dev": 2, "test": 12},
        "weak": {
            "tokenizer": str(strong),
            "hidden": 64,
            "layers": 1,
            "context": 512,
            "epochs": 40,
            "lr": 5e-3,
            "batch": 2,
            "deterministic": True,
        },
        "strong": {"model": str(strong), "lora_rank": 4, "lora_alpha": 8},
        "explore": {"rollouts": 5, "grid": [{"temperature": 1.2}]},
        "pairs": {"min_gap": 0.05, "per_fork": 2, "per_tree": 4},
        "paths": {"min_score": 0.4, "iterations": 50, "gamma": 1.414},
        "sft": {"epochs": 20, "lr": 1e-2, "batch": 4, "checkpoint_steps": 10, "deterministic": True},
        "preference": {"epochs": 4, "lr": 1e-3, "batch": 2, "deterministic": True},
        "play": {"batch": 4, "max_new_tokens": 8, "dtype": "float32", "workers": 1},
    }


def environment() -> dict[str, str]:
    paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **quiet, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def command(recipe: Path, run: Path, *more: str, does: str = "run") -> list[str]:
    return [*does.split(), str(recipe), "--run", str(run), *more]


def call(words: list[str], *, largest_file: int | None = None) -> subprocess.CompletedProcess[str]:
    return Started(command_line(words), environment(), largest_file=largest_file).end(SECONDS)


def report(run: Path) -> Path:
    """The folder of the newest report."""
    return max(run.glob("reports/*"), key=lambda folder: (folder / "results.json").stat().st_mtime_ns)


def results(run: Path) -> Any:
    return json.loads((report(run) / "results.json").read_text())


def stage_folders(run: Path) -> dict[str, list[str]]:
    """Keys of the finished stages, by name."""
    found: dict[str, list[str]] = {}
    for marker in sorted(run.glob("*/*/stage.json")):  # reports hold none
        found.setdefault(marker.parent.parent.name, []).append(marker.parent.name)
    return found


def only(run: Path, stage: str) -> Path:
    (folder,) = (run / stage).iterdir()
    return folder


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What the command line says when a user can fix it: a line on stderr and exit status 1, no traceback.

    Before it, it may have said that a checkpoint was torn.
    """
    assert done.returncode == 1, done.stderr[-3000:]
    lines = [line for line in done.stderr.strip().splitlines() if not line.startswith("[transformers]")]
    lines = [line for line in lines if not line.endswith(": the training begins anew")]
    assert len(lines) == 1, done.stderr[-3000:]
    assert lines[0].startswith("trajtree: ")
    return lines[0].removeprefix("trajtree: ")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_words: Path) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "toy.yaml"
    path.write_text(yaml.safe_dump(recipe_of(tiny_words)))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, recipe: Path) -> Path:
    """A run from beginning to end; tests copy it before they change anything."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    done = call(command(recipe, run))
    assert done.returncode == 0, done.stderr[-3000:]
    (run / "stdout.txt").write_text(done.stdout)
    (run / "stderr.txt").write_text(done.stderr)
    return run


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def test_what_processes_are_forked_from_imports_what_there_is() -> None:
    """A module that is not there would be left out without a word."""
    assert [name for name in IMPORTED if find_spec(name) is None] == []


@pytest.mark.parametrize("words", [["report", "RUN"], ["plan", "RECIPE"], ["compare", "RUN", "RUN"], ["status", "RUN"]])
def test_what_trains_nothing_does_without_torch(copy: Path, recipe: Path, words: list[str]) -> None:
    """It need not be installed to read a run that somebody else made, and takes seconds to import where it is."""
    named = {"RUN": str(copy), "RECIPE": str(recipe)}
    code = f"import sys; sys.modules['torch'] = None; sys.argv[1:] = {[named.get(word, word) for word in words]!r}; "
    code += "import runpy; runpy.run_module('trajtree', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_run_writes_everything(finished: Path, recipe: Path) -> None:
    written = results(finished)
    assert [row["name"] for row in written["rows"]] == list(ROWS)
    assert {row["n"] for row in written["rows"]} == {12}
    assert written["provenance"]["environment"] == "toy 1"
    assert all(sum(row["outcomes"].values()) == 12 for row in written["rows"])
    folder = folder_of(load_recipe(recipe), finished)
    assert "<html" in (folder / "report.html").read_text().lower()
    assert load_recipe(folder / "recipe.yaml") == load_recipe(recipe)
    places = json.loads((folder / "stages.json").read_text())
    assert (finished / places["train-w2sg_exact"] / "model" / "adapter_model.safetensors").exists()
    assert set(stage_folders(finished)) == {s.name for s in stages_of(load_recipe(recipe))}
    assert all(len(keys) == 1 for keys in stage_folders(finished).values())
    assert "TreeDPO" in (finished / "stdout.txt").read_text()


def test_the_guarantee_is_measured_by_the_reference_itself(finished: Path, recipe: Path) -> None:
    import torch

    found = json.loads((only(finished, "guarantee-w2sg_treedpo") / MEASURED).read_text())
    assert found["pairs"] == len((only(finished, "pairs-weak") / "pairs.jsonl").read_text().splitlines())
    # The reference is the model that the row starts from, with the adapter of the exact search's paths.
    loaded = load_recipe(recipe)
    ref = model_of(loaded, "w2sg_exact", {"model 0": only(finished, "train-w2sg_exact")})
    model, chat = load_model(ref, dtype="float32", device="cpu"), ChatFormat(load_tokenizer(ref.base), ref.base)
    trees = list(read_trees(only(finished, "trees-weak") / "trees.jsonl"))
    assert set(found["nats"]) == set(found["scores"]) == {tree.task for tree in trees}
    for tree in trees[:3]:
        path = best_path(tree, exact)
        assert found["scores"][tree.task] == path.score
        (example,) = sft_examples([path], chat, context=512)
        ids = torch.tensor([example.tokens.ids])
        with torch.no_grad():
            logprobs = model(input_ids=ids).logits[0].log_softmax(-1)
        at = [i for start, stop in example.tokens.agent for i in range(start, stop)]
        nats = -sum(float(logprobs[i - 1, ids[0, i]]) for i in at)
        assert found["nats"][tree.task] == pytest.approx(nats, abs=1e-3)
    (note,) = [note for note in results(finished)["notes"] if note.startswith("The paper's guarantee for ")]
    assert f"Measured: {found['pairs']} pairs" in note and "W2SG + search (exact)" in note
    assert "Warning" not in (finished / "stderr.txt").read_text()
    assert not list(finished.glob("**/checkpoints")), "finished trainings keep no checkpoints"


def test_the_weak_model_has_learnt_and_its_trees_have_forks(finished: Path) -> None:
    written = results(finished)
    scores = {row["name"]: row["score"]["value"] for row in written["rows"]}
    assert min(scores["weak"], scores["w2sg_exact"]) > scores["strong"], "or the tests below test little"
    assert sum(tree["informative_forks"] for tree in written["trees"]) >= 2


def test_the_second_time_nothing_is_done(copy: Path, recipe: Path) -> None:
    stages = [path for path in copy.glob("*/*/**/*") if path.parts[len(copy.parts)] != "reports"]
    before = {path: path.stat().st_mtime_ns for path in stages}
    rows = results(copy)["rows"]
    began = time.monotonic()
    done = call(command(recipe, copy))
    assert done.returncode == 0, done.stderr[-3000:]
    assert time.monotonic() - began < 60
    assert {path: path.stat().st_mtime_ns for path in stages} == before
    assert "..." not in done.stdout, "no stage begins"
    assert results(copy)["rows"] == rows


def test_a_changed_knob_redoes_what_depends_on_it(copy: Path, recipe: Path) -> None:
    before = stage_folders(copy)
    changes = ("explore.rollouts=6", "evaluate.rows=[weak, w2sg_exact]", "evaluate.ceiling=w2sg_exact")
    done = call(command(recipe, copy, *(word for change in changes for word in ("--set", change))))
    assert done.returncode == 0, done.stderr[-3000:]
    after = stage_folders(copy)
    redone = {name for name in after if after[name] != before[name]}
    explored = {"explore-weak", "trees-weak", "paths-weak-exact"}
    assert redone == explored | {"train-w2sg_exact", "evaluate-w2sg_exact"}
    begun = {line.removesuffix(" ...") for line in done.stdout.splitlines() if line.endswith(" ...")}
    assert begun == redone
    assert [row["name"] for row in results(copy)["rows"]] == ["weak", "w2sg_exact"]
    assert load_recipe(report(copy) / "recipe.yaml").explore.rollouts == 6
    first = folder_of(load_recipe(recipe), copy)
    rows = json.loads((first / "results.json").read_text())["rows"]
    assert first != report(copy), "another recipe's tables are never written over"
    assert [row["name"] for row in rows] == [*ROWS]


def test_rows_on_fewer_tasks_are_compared_on_those_that_they_share(copy: Path, recipe: Path) -> None:
    """The untouched model and, which is the ceiling, strong SFT: nothing else is played again."""
    before, whole = stage_folders(copy), results(copy)
    done = call(command(recipe, copy, "--set", "rows={strong: {tasks: 5}, strong_sft: {tasks: 3}}"))
    assert done.returncode == 0, done.stderr[-3000:]
    after, found = stage_folders(copy), results(copy)
    assert {name for name in after if after[name] != before[name]} == {"evaluate-strong", "evaluate-strong_sft"}
    tasks = {row["name"]: [task["task"] for task in row["tasks"]] for row in found["rows"]}
    assert {name: len(some) for name, some in tasks.items()} == dict.fromkeys(ROWS, 12) | {"strong": 5, "strong_sft": 3}
    assert {*tasks["strong_sft"]} < {*tasks["strong"]} < {*tasks["weak"]}
    assert {(c["row"], c["against"]): c["n"] for c in found["comparisons"]} == {
        (row, against): min(len(tasks[row]), len(tasks[against]))
        for against in ("weak", "strong_sft")
        for row in ROWS
        if row != against
    }
    assert {pgr["n"] for pgr in found["pgr"]} == {3}
    rest = {"weak", *ROWS[3:]}
    assert [row for row in found["rows"] if row["name"] in rest] == [
        row for row in whole["rows"] if row["name"] in rest
    ]
    for label, number in (("Strong, untouched", 5), ("Strong SFT on the expert", 3)):
        said = f"{label} was measured on {number} of the 12 test tasks only; what is compared with it is compared on "
        said += "these."
        assert said in found["notes"] and said in (report(copy) / "report.html").read_text()
        assert said in " ".join(done.stdout.split())


def test_one_stage_runs_what_it_needs(tmp_path: Path, recipe: Path) -> None:
    done = call(command(recipe, tmp_path / "part", does="stage demonstrations"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(stage_folders(tmp_path / "part")) == {"tasks", "demonstrations"}
    assert "demonstrations: " in done.stdout


def test_fewer_demonstrations_are_other_demonstrations(tmp_path: Path, recipe: Path) -> None:
    run = tmp_path / "part"
    for more in ((), ("--set", "tasks.demonstrations=3")):
        done = call(command(recipe, run, *more, does="stage demonstrations"))
        assert done.returncode == 0, done.stderr[-3000:]
    assert {name: len(keys) for name, keys in stage_folders(run).items()} == {
        "tasks": 1,
        "demonstrations": 2,
    }
    stores = run.glob("demonstrations/*/trajectories.jsonl")
    assert sorted(path.read_text().count('"task"') for path in stores) == [3, 8]
    assert not (run / "reports").exists(), "they stand for whole runs"


TUNED = {f"train-{row}" for row in ROWS[2:]}
PLAYED = {"explore-weak", *(f"evaluate-{row}" for row in ROWS)}


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        (["tasks.demonstrations=6"], {"demonstrations"}),
        (["tasks.unseen=3"], set()),
        (["tasks.dev=1"], {"tasks"}),
        (["strong.lora_rank=2"], TUNED),
        (["pairs.min_gap=0.2"], {"pairs-weak"}),
        (["preference.gamma=0.5"], set()),
        (["preference.beta=0.5"], {"train-w2sg_treedpo"}),
        (["sft.checkpoint_steps=3"], set()),
        (["play.batch=2"], PLAYED),
        (["rows={strong: {tasks: 5}, weak: {tasks: 3}}"], {"evaluate-strong", "evaluate-weak"}),
        (["rows={strong: {tasks: all}}"], set()),
        (["play.needs={CPU: 2}"], set()),
        (["train.launch=torchrun"], {"weak", *TUNED}),
        (["env.name=tests.toy:NEWER"], {"tasks", "demonstrations", "trees-weak", *PLAYED}),
    ],
)
def test_what_a_knob_changes(recipe: Path, changes: list[str], changed: set[str]) -> None:
    before, after = (stages_of(load_recipe(recipe, more)) for more in ((), changes))
    assert [s.name for s in before] == [s.name for s in after]
    both = zip(before, after, strict=True)
    assert {a.name for a, b in both if (a.settings, a.inputs) != (b.settings, b.inputs)} == changed


def test_a_slot_names_who_plays_it(tmp_path: Path, recipe: Path) -> None:
    """The model before its tuning, for example; its weights are part of the stage's key, and nobody else's."""
    slots = "explore.grid=[{temperature: 1.2}, {temperature: 1.0, by: strong}]"
    run = tmp_path / "run"
    more = ["--set", slots, "--set", "explore.rollouts=3", "--set", "weak.epochs=1"]
    done = call(command(recipe, run, *more, does="stage explore"))
    assert done.returncode == 0, done.stderr[-3000:]
    (store,) = run.glob("explore-weak/*/trajectories.jsonl")
    assert {(t.sample, t.policy) for t in TrajectoryStore(store)} == {(0, "weak"), (1, "strong"), (2, "weak")}
    before = store.read_bytes()
    done = call(command(recipe, run, *more, does="stage explore"))
    assert done.returncode == 0 and store.read_bytes() == before
    assert len(list(run.glob("explore-weak/*"))) == 1


def test_a_slots_model_is_an_input(recipe: Path) -> None:
    plain, strong, tuned = (
        {s.name: s for s in stages_of(load_recipe(recipe, [f"explore.grid=[{{temperature: 1.2{by}}}]"]))}[
            "explore-weak"
        ]
        for by in ("", ", by: strong", ", by: strong_sft")
    )
    assert len({json.dumps(s.settings, default=str) for s in (plain, strong, tuned)}) == 3
    assert plain.inputs == strong.inputs, "the untouched model is no stage"
    assert dict(tuned.inputs) == {**plain.inputs, "strong_sft: model 0": "train-strong_sft"}


@pytest.mark.parametrize(
    ("slot", "said"),
    [
        ("{by: weaker}", "explorations.weak.grid.0.by: 'weaker' is not one of"),
        ("{by: w2sg_exact}", "needs itself"),
        ("{policy: strong}", "explore.grid"),
    ],
)
def test_a_slot_of_nobody(recipe: Path, slot: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        load_recipe(recipe, [f"explore.grid=[{slot}]"])


def test_a_weak_model_from_the_hub_has_the_adapter_of_the_strong_one(recipe: Path, tiny_words: Path) -> None:
    hub = f"weak.model={tiny_words}"
    before, after = (stages_of(load_recipe(recipe, [hub, *more])) for more in ([], ["strong.lora_rank=2"]))
    assert {a.name for a, b in zip(before, after, strict=True) if a.settings != b.settings} == TUNED | {"weak"}


def test_types_that_share_tasks(tmp_path: Path, recipe: Path) -> None:
    twice = ("--set", "env.name=tests.toy:TWICE", "--set", "tasks.types=[one, other]")
    said = sentence(call(command(recipe, tmp_path / "run", *twice)))
    assert said.startswith("tasks.types: toy/") and said.endswith("(train) is of both one and other; name one of them")


def kill_when(words: list[str], there: Callable[[], bool]) -> None:
    """Start the command and send SIGKILL once `there()` holds."""
    process = Started(command_line(words), environment())
    try:
        end = time.monotonic() + SECONDS
        while not there():
            assert not process.ended, process.end(SECONDS).stderr[-3000:]
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        process.kill()
        process.end(SECONDS)


def partly(run: Path, stage: str, inside: str) -> Iterator[Path]:
    """Files of a stage that has begun and is not finished."""
    for folder in (run / stage).glob("*"):
        if not (folder / "stage.json").exists():
            yield from folder.glob(inside)


def holds_lines(run: Path, stage: str) -> bool:
    return any(path.read_bytes().count(b"\n") > 1 for path in partly(run, stage, "trajectories.jsonl"))


def test_killed_anywhere_it_ends_with_the_same_results(tmp_path: Path, finished: Path, recipe: Path) -> None:
    run = tmp_path / "killed"
    words = command(recipe, run)
    kill_when(words, lambda: holds_lines(run, "explore-weak"))
    assert "weak" in stage_folders(run) and "explore-weak" not in stage_folders(run)
    kill_when(words, lambda: any(partly(run, "train-strong_sft", "checkpoints/checkpoint-*/trainer_state.json")))
    assert "explore-weak" in stage_folders(run) and "train-strong_sft" not in stage_folders(run)
    kill_when(words, lambda: holds_lines(run, "evaluate-weak"))
    assert "evaluate-weak" not in stage_folders(run)
    done = call(words)
    assert done.returncode == 0, done.stderr[-3000:]
    assert results(run)["rows"] == results(finished)["rows"]
    assert results(run)["comparisons"] == results(finished)["comparisons"]
    assert stage_folders(run) == stage_folders(finished), "every stage holds the same, to the byte"


def test_two_stages_at_a_time_end_with_the_same_results(tmp_path: Path, finished: Path, recipe: Path) -> None:
    """Killed with both at work, too: their processes end with the first, and the folders are whole."""
    run = tmp_path / "two"
    words = command(recipe, run, "--jobs", "2")
    kill_when(words, lambda: all((run / name).exists() for name in ("weak", "train-strong_sft")))
    done = call(words)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "train-strong_sft" in done.stdout and "Warning" not in done.stderr
    assert results(run)["rows"] == results(finished)["rows"]
    assert results(run)["comparisons"] == results(finished)["comparisons"]
    assert stage_folders(run) == stage_folders(finished), "every stage holds the same, to the byte"


def test_jobs_are_for_this_machine(tmp_path: Path, recipe: Path) -> None:
    said = sentence(call(command(recipe, tmp_path / "run", "--jobs", "2", "--on", "ray")))
    assert said == "--jobs: a cluster decides by itself what is done at the same time; leave out --jobs or --on"


def test_without_an_expert(tmp_path: Path, recipe: Path) -> None:
    said = sentence(call(command(recipe, tmp_path / "run", "--set", "env.name=tests.toy:HOPELESS")))
    assert said.startswith("toy: not enough successful demonstrations among its train tasks (toy/")
    assert "nobody knows how" in said


def test_without_a_fork(copy: Path, recipe: Path) -> None:
    changes = (
        "explore.grid=[{temperature: 0}]",
        "evaluate.rows=[weak, w2sg_treedpo]",
        "evaluate.primary=w2sg_treedpo",
        "evaluate.ceiling=w2sg_treedpo",
        "rows={w2sg_treedpo: {starts_from: strong}}",
    )
    done = call(command(recipe, copy, *(word for change in changes for word in ("--set", change))))
    assert done.returncode == 0, done.stderr[-3000:]
    written = results(copy)
    assert [row["name"] for row in written["rows"]] == ["weak"]
    (lost,) = written["unmeasured"]
    assert (lost["row"], lost["role"]) == ("w2sg_treedpo", "primary")
    assert lost["why"].startswith("no two runs that began alike differ by pairs.min_gap (0.05)")
    assert "explore.rollouts" in lost["why"]
    assert (written["primary"], written["ceiling"]) == ("weak", None)
    assert "the primary row: it was not measured" in written["verdict"]


def test_without_a_path_that_is_good_enough(copy: Path, recipe: Path) -> None:
    babble = ("--set", "explore.grid=[{temperature: 50}]", "--set", "explore.rollouts=1")
    before = stage_folders(copy)
    done = call(command(recipe, copy, *babble))
    assert done.returncode == 0, done.stderr[-3000:]
    written = results(copy)
    assert [row["name"] for row in written["rows"]] == ["weak", "strong", "strong_sft"]
    why = {one["row"]: one["why"] for one in written["unmeasured"]}
    assert list(why) == ["w2sg_treedpo", "w2sg_exact", "w2sg_mcts"]
    assert why["w2sg_exact"].startswith("no trajectory scored at least 0.4, so there is nothing to learn from")
    assert "lower paths.min_score" in why["w2sg_exact"]
    assert why["w2sg_treedpo"] == f"it needs W2SG + search (exact), and {why['w2sg_exact']}"
    new = {stage for stage, keys in stage_folders(copy).items() if keys != before.get(stage)}
    assert new <= {"explore-weak", "trees-weak", "paths-weak-exact", "paths-weak-mcts", "pairs-weak"}
    said = " ".join(done.stdout.split())
    assert "left out, with all that needs it: train-w2sg_exact, train-w2sg_mcts: no trajectory scored at least" in said
    assert "W2SG + search (exact) and W2SG + search (MCTS) were not measured: no trajectory scored" in said
    again = call(["report", str(copy)])
    assert again.returncode == 0 and "W2SG + search (MCTS) were not measured" in " ".join(again.stdout.split())
    assert "were not measured: no trajectory scored" in (report(copy) / "report.html").read_text()


def test_a_directory_in_use(copy: Path, recipe: Path) -> None:
    with locked(copy / ".lock", "no"):
        said = sentence(call(command(recipe, copy)))
    assert said.startswith(f"{copy}: in use by another process (pid {os.getpid()} on ")
    assert "--run" in said


def test_a_full_disk_while_playing(tmp_path: Path, finished: Path, recipe: Path) -> None:
    store = only(finished, "demonstrations") / "trajectories.jsonl"
    run = tmp_path / "full"
    words = command(recipe, run, does="stage demonstrations")
    said = sentence(call(words, largest_file=store.stat().st_size * 2 // 3))
    assert "File too large" in said and "nothing finished is lost" in said
    assert call(words).returncode == 0
    assert (only(run, "demonstrations") / "trajectories.jsonl").read_bytes() == store.read_bytes()
    assert stage_folders(run)["demonstrations"] == stage_folders(finished)["demonstrations"]


def test_a_full_disk_while_training(copy: Path, finished: Path, recipe: Path) -> None:
    adapter = only(finished, "train-w2sg_exact") / "model" / "adapter_model.safetensors"
    shutil.rmtree(copy / "train-w2sg_exact")
    for share in (0.5, 1.5):  # too little for the adapter, then enough for it but not for its optimiser
        limit = int(adapter.stat().st_size * share)
        said = sentence(call(command(recipe, copy, does="stage train"), largest_file=limit))
        assert said.startswith(f"{only(copy, 'train-w2sg_exact')}: could not be written, is the disk full? (")
        assert "nothing finished is lost" in said
    done = call(command(recipe, copy))
    assert done.returncode == 0, done.stderr[-3000:]
    assert stage_folders(copy) == stage_folders(finished)
    assert results(copy)["rows"] == results(finished)["rows"]


def test_a_damaged_line_is_named(copy: Path, recipe: Path) -> None:
    store = only(copy, "explore-weak") / "trajectories.jsonl"
    lines = store.read_text().splitlines()
    record = json.loads(lines[2])
    del record["score"]
    lines[2] = json.dumps(record)
    store.write_text("\n".join(lines) + "\n")
    (store.parent / "stage.json").unlink()
    assert sentence(call(command(recipe, copy))).startswith(f"{store}, line 3, field score: missing")


def test_a_damaged_marker_is_named(copy: Path, recipe: Path) -> None:
    marker = only(copy, "pairs-weak") / "stage.json"
    marker.write_text(marker.read_text()[:40])
    said = sentence(call(command(recipe, copy)))
    assert said.startswith(f"{marker}: damaged") and "with --redo pairs-weak " in said


def cut_to_half(store: Path) -> None:
    lines = store.read_bytes().splitlines(keepends=True)
    store.write_bytes(b"".join(lines[: len(lines) // 2]))


def score_better(store: Path) -> None:
    store.write_text(re.sub(r'"score":[0-9.]+', '"score":1.0', store.read_text()))


def zero(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize(
    ("stage", "file", "spoil"),
    [
        ("evaluate-weak", "trajectories.jsonl", cut_to_half),
        ("evaluate-weak", "trajectories.jsonl", score_better),
        ("evaluate-weak", "trajectories.jsonl", Path.unlink),
        (
            "train-strong_sft",
            "model/adapter_model.safetensors",
            lambda path: path.write_bytes(bytes(path.stat().st_size)),
        ),
    ],
    ids=["half", "edited", "gone", "zeroed adapter"],
)
def test_changed_results_are_not_shown(
    copy: Path, finished: Path, recipe: Path, stage: str, file: str, spoil: Callable[[Path], None]
) -> None:
    spoil(only(copy, stage) / file)
    shown = call(["report", str(copy)])
    assert shown.returncode == 0 and f"caveat: {stage} is not what these figures were computed from: " in shown.stdout
    said = sentence(call(command(recipe, copy)))
    assert said.startswith(str(only(copy, stage) / file)) and f"with --redo {stage} " in said
    done = call(command(recipe, copy, "--redo", stage))
    assert done.returncode == 0, done.stderr[-3000:]
    begun = {line.removesuffix(" ...") for line in done.stdout.splitlines() if line.endswith(" ...")}
    assert begun == {stage} | ({"evaluate-strong_sft"} if stage == "train-strong_sft" else set())
    assert results(copy)["rows"] == results(finished)["rows"]
    assert stage_folders(copy) == stage_folders(finished)
    shown = call(["report", str(copy)])
    assert shown.returncode == 0 and "caveat" not in shown.stdout


def test_edited_figures_are_not_shown(copy: Path, recipe: Path) -> None:
    file = report(copy) / "results.json"
    file.write_text(file.read_text().replace('"n": 12', '"n": 13', 1))
    said = sentence(call(["report", str(copy)]))
    assert said.startswith(
        f"{file}: was changed after it was written; write it again with: trajtree run {report(copy)}"
    )
    assert call(shlex.split(said.partition("with: trajtree ")[2])).returncode == 0
    assert call(["report", str(copy)]).returncode == 0


def test_a_stage_that_is_none(copy: Path, recipe: Path) -> None:
    said = sentence(call(command(recipe, copy, "--redo", "evaluate-week")))
    assert said.startswith("--redo: 'evaluate-week' is not one of ") and "did you mean 'evaluate-weak'?" in said


def test_a_kind_of_stage_that_no_row_needs(tmp_path: Path, recipe: Path) -> None:
    said = sentence(call(command(recipe, tmp_path / "run", does="stage stitch")))
    assert said.startswith("none of the rows needs a stage of kind stitch; their stages are tasks, demonstrations, ")


@pytest.mark.parametrize("knob", ["weak.tokenizer", "weak.model", "strong.model"])
def test_a_wrong_model_path(tmp_path: Path, recipe: Path, knob: str) -> None:
    nowhere = tmp_path / "nowhere"
    said = sentence(call(command(recipe, tmp_path / "run", "--set", f"{knob}={nowhere}")))
    assert said.startswith(f"{nowhere}: not a model folder")
    assert not (tmp_path / "run").exists(), "found out before anything is done"


def test_a_misspelt_knob(tmp_path: Path, recipe: Path) -> None:
    said = sentence(call(command(recipe, tmp_path / "run", "--set", "explore.rolouts=3")))
    assert said == f"{recipe}: explore.rolouts: unknown key; did you mean 'rollouts'?"


# --- rows that are one entry each ---

MORE_ROWS = (
    "chosen_sft",
    "best_of_n",
    "eto",
    "ceiling_whole",
    "ceiling_forks",
    "w2sg_naive",
    "w2sg_stitched",
    "w2sg_node_kto",
)


@pytest.fixture(scope="module")
def more_rows(tmp_path_factory: pytest.TempPathFactory, finished: Path, recipe: Path) -> Path:
    """The finished run, in which the other rows of the table, and one of the recipe's own, were measured too."""
    run = Path(shutil.copytree(finished, tmp_path_factory.mktemp("more") / "run"))
    changes = [
        f"evaluate.rows=[{', '.join([*ROWS, *MORE_ROWS, 'branches'])}]",
        "explorations={own: {by: strong_sft, rollouts: 3, grid: [{temperature: 1.5}]}}",
        "rows={branches: {learns_from: trees, method: branch-sft, label: All branches}}",
    ]
    done = call(command(recipe, run, *(word for change in changes for word in ("--set", change))))
    assert done.returncode == 0, done.stderr[-3000:]
    (run / "stdout.txt").write_text(done.stdout)
    return run


def test_other_rows_are_measured_beside_what_there_is(more_rows: Path, finished: Path) -> None:
    written = results(more_rows)
    assert [row["name"] for row in written["rows"]] == [*ROWS, *MORE_ROWS, "branches"]
    assert written["labels"]["branches"] == "All branches"
    before = stage_folders(finished)
    assert {name: keys for name, keys in stage_folders(more_rows).items() if name in before} == before
    begun = {line.removesuffix(" ...") for line in (more_rows / "stdout.txt").read_text().splitlines() if "..." in line}
    assert {"explore-own", "trees-own", "paths-own-best-of-n", "pairs-own-expert", "stitched-weak"} <= begun
    assert not begun & before.keys()


def test_equal_pairs_are_trained_on_and_played_once(more_rows: Path) -> None:
    """No task has more of its own runs than a tree has pairs, so the ceiling's pairs are those of ETO."""
    pairs = [only(more_rows, name) / "pairs.jsonl" for name in ("pairs-own-expert", "pairs-own-expert-ceiling_whole")]
    assert pairs[0].read_bytes() == pairs[1].read_bytes() != b""
    assert not list(more_rows.glob("*ceiling_whole/*/model")) and not list(more_rows.glob("evaluate-ceiling_whole"))
    written = results(more_rows)
    rows = {row["name"]: row for row in written["rows"]}
    assert rows["eto"] | {"name": ""} == rows["ceiling_whole"] | {"name": ""}
    (said,) = (note for note in written["notes"] if "are one model" in note and "Strong SFT + ETO" in note)
    assert "Ceiling: expert's runs over strong SFT's own" in said


def test_the_experts_steps_stand_over_the_explorers(more_rows: Path) -> None:
    folder = only(more_rows, "pairs-own-expert-forks")
    held = {t.key: t for t in TrajectoryStore(folder / "trajectories.jsonl")}
    pairs = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    assert pairs
    for pair in pairs:
        ours, theirs = held[pair["task"], pair["chosen_sample"]], held[pair["task"], pair["rejected_sample"]]
        assert (ours.policy, theirs.policy) == ("expert", "strong_sft")
        assert ours.steps[: pair["depth"]] == theirs.steps[: pair["depth"]]
        assert ours.steps[pair["depth"]].action != theirs.steps[pair["depth"]].action


def test_stitched_paths_were_really_played(more_rows: Path) -> None:
    paths = list(TrajectoryStore(only(more_rows, "stitched-weak") / "trajectories.jsonl"))
    trees = {tree.task: tree for tree in read_trees(only(more_rows, "trees-weak") / "trees.jsonl")}
    assert paths and {path.policy for path in paths} <= {"weak", "stitched"}
    env = Toy()
    for path in paths:
        env.reset(path.task)
        rewards = [env.step(step.action).reward for step in path.steps]
        assert sum(rewards) == pytest.approx(path.score) and path.score >= 0.4
        assert path.score >= max(t.score for t in trees[path.task].trajectories)


def test_every_row_says_what_it_is_made_from_and_took(more_rows: Path) -> None:
    said = {one["row"]: one for one in results(more_rows)["statements"]}
    assert list(said) == [*ROWS, *MORE_ROWS, "branches"]
    treedpo, chosen, strong = said["w2sg_treedpo"], said["chosen_sft"], said["strong"]
    assert (treedpo["start"], treedpo["reference"]) == ("W2SG + search (exact)", "its start")
    assert treedpo["data"] == "pairs of Weak (teacher)'s runs (weak)"
    assert treedpo["loss"].startswith(
        "tree-dpo (beta 0.1, label_smoothing 0.0, kl 0.1, weigh equal, lr 0.001, epochs 4"
    )
    explored = list(TrajectoryStore(only(more_rows, "explore-weak") / "trajectories.jsonl"))
    tokens = sum(end - start for t in explored for one in t.tokens for start, end in one.agent)
    assert (treedpo["demonstrations"], treedpo["episodes"], treedpo["agent_tokens"]) == (8, len(explored), tokens)
    assert chosen["reference"] == "none" and chosen["steps"] == treedpo["steps"] > 0
    assert treedpo["all_steps"] == treedpo["steps"] + said["w2sg_exact"]["steps"]
    assert (strong["start"], strong["steps"], strong["episodes"], strong["demonstrations"]) == ("as published", 0, 0, 0)
    assert len(treedpo["epochs"]) == 4 and {"loss", "chosen", "rejected"} <= treedpo["epochs"][0].keys()
    assert said["ceiling_forks"]["demonstrations"] == 8 and said["weak"]["start"] == "from scratch"
    page = (report(more_rows) / "report.html").read_text()
    assert "What each row is made from" in page


def test_the_best_of_n_joins_the_demonstrations(more_rows: Path) -> None:
    shown = list(TrajectoryStore(only(more_rows, "demonstrations") / "trajectories.jsonl"))
    own = list(TrajectoryStore(only(more_rows, "explore-own") / "trajectories.jsonl"))
    best = list(TrajectoryStore(only(more_rows, "paths-own-best-of-n") / "trajectories.jsonl"))
    assert {t.task for t in own} == {t.task for t in shown} and {t.policy for t in own} == {"strong_sft"}
    assert best and len({t.task for t in best}) == len(best)
    for t in best:
        assert t.score == max(o.score for o in own if o.task == t.task) >= 0.4
    record = json.loads((only(more_rows, "train-best_of_n") / "stage.json").read_text())
    assert set(record["inputs"]) == {"demonstrations", "paths"}


def test_without_search_the_first_runs_are_imitated_whatever_they_scored(more_rows: Path) -> None:
    explored = list(TrajectoryStore(only(more_rows, "explore-weak") / "trajectories.jsonl"))
    imitated = list(TrajectoryStore(only(more_rows, "paths-weak-best-of-n") / "trajectories.jsonl"))
    first = {t.task: t for t in explored if t.sample == 0}
    assert {t.task: t.steps for t in imitated} == {task: t.steps for task, t in first.items()}
    assert any(t.without_idle_end() != t for t in imitated), "or a cut at the last gain would not be seen"
    assert min(t.score for t in imitated) < 0.5, "or a filter would not be seen"


def test_eto_sets_the_expert_over_what_scored_less(more_rows: Path) -> None:
    folder = only(more_rows, "pairs-own-expert")
    held = {t.key: t for t in TrajectoryStore(folder / "trajectories.jsonl")}
    own = {t.key: t for t in TrajectoryStore(only(more_rows, "explore-own") / "trajectories.jsonl")}
    pairs = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    assert pairs
    for pair in pairs:
        expert, worse = held[pair["task"], pair["chosen_sample"]], held[pair["task"], pair["rejected_sample"]]
        assert expert.policy == "expert" and expert.key not in own, "the expert has a sample of its own"
        assert worse == own[worse.key] and worse.score < expert.score == 1.0
    assert len(pairs) == sum(t.score < 1.0 and bool(t.steps) for t in own.values())


def test_the_chosen_sides_alone_are_trained_from_the_same_start(more_rows: Path) -> None:
    with_rejected, alone = (
        json.loads((only(more_rows, f"train-{row}") / "stage.json").read_text())
        for row in ("w2sg_treedpo", "chosen_sft")
    )
    assert alone["inputs"] == with_rejected["inputs"]
    same = {name: value for name, value in alone["settings"].items() if name != "method"}
    assert same == {name: value for name, value in with_rejected["settings"].items() if name != "method"}
    assert (alone["settings"]["method"], with_rejected["settings"]["method"]) == ("chosen-sft", "tree-dpo")


def test_a_loss_that_is_held_to_the_weak_model(more_rows: Path, recipe: Path) -> None:
    """Its vocabulary is the strong model's here, so it can be the reference, as in the paper."""
    changes = [
        "evaluate.rows=[weak, strong_sft, held]",
        "evaluate.primary=held",
        "rows={held: {like: w2sg_treedpo, starts_from: strong_sft, reference: weak}}",
    ]
    done = call(command(recipe, more_rows, *(word for change in changes for word in ("--set", change))))
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((only(more_rows, "train-held") / "stage.json").read_text())
    assert {"pairs", "explored", "model 0", "reference model 0"} == set(record["inputs"])


# --- what earlier versions left ---


def test_a_run_of_an_earlier_version_is_shown(tmp_path: Path) -> None:
    run = Path(shutil.copytree(ROOT / "tests" / "golden" / "old_run", tmp_path / "old"))
    done = call(["report", str(run)])
    assert done.returncode == 0, done.stderr[-3000:]
    assert "W2SG + search (exact)" in done.stdout and f"report: {run / 'report.html'}" in done.stdout.replace("\n", "")
    assert "<html" in (run / "report.html").read_text().lower()


def test_a_run_of_an_earlier_version_is_redone_beside_what_is_there(tmp_path: Path, recipe: Path) -> None:
    run = Path(shutil.copytree(ROOT / "tests" / "golden" / "old_run", tmp_path / "old"))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    done = call(command(recipe, run, does="stage demonstrations"))
    assert done.returncode == 0, done.stderr[-3000:]
    said = " ".join(done.stdout.split())
    assert f"{run}: 3 stages in it were made by an earlier version of trajtree and cannot be reused" in said
    assert {path: path.read_bytes() for path in before} == before
    assert len(stage_folders(run)["demonstrations"]) == 2


def test_a_report_of_a_run_that_was_stopped_says_how_to_go_on(tmp_path: Path, recipe: Path) -> None:
    loaded = load_recipe(recipe)
    keep_recipe(loaded, tmp_path)
    kept = folder_of(loaded, tmp_path) / "recipe.yaml"
    with pytest.raises(RunError) as said:
        read_reports(tmp_path)
    go_on = f"trajtree run {kept} --run {tmp_path}"
    assert str(said.value) == f"{tmp_path}: was stopped before its report; go on with: {go_on}"
    assert folder_of(load_recipe(kept), tmp_path) == kept.parent, "and it is the same report"


def test_a_report_of_nothing(tmp_path: Path, recipe: Path) -> None:
    assert sentence(call(["report", str(tmp_path)])).startswith(
        f"{tmp_path}: contains no report; make one with: trajtree run"
    )
    said = sentence(call(["report", str(recipe)]))
    assert said == f"{recipe}: report takes a run directory; to run a recipe: trajtree run {recipe}"
