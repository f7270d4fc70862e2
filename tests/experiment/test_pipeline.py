"""The whole recipe on the toy, through the command line, killed and broken in every way that a user will meet."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("torch")
pytest.importorskip("peft")

from trajtree.experiment.pipeline import stages_of
from trajtree.experiment.recipe import load_recipe
from trajtree.experiment.stage import locked

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120
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
        },
        "strong": {"model": str(strong), "lora_rank": 4, "lora_alpha": 8},
        "explore": {"rollouts": 5, "grid": [{"temperature": 1.2}]},
        "pairs": {"min_gap": 0.05, "per_fork": 2},
        "paths": {"min_score": 0.4, "mcts_iterations": 50},
        "sft": {"epochs": 20, "lr": 1e-2, "batch": 4},
        "treedpo": {"epochs": 4, "lr": 1e-3, "batch": 2},
        "play": {"batch": 4, "max_new_tokens": 8, "dtype": "float32"},
    }


def environment() -> dict[str, str]:
    paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **quiet, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def command(recipe: Path, run: Path, *more: str, does: str = "run") -> list[str]:
    return [sys.executable, "-m", "trajtree", *does.split(), str(recipe), "--run", str(run), *more]


def call(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=SECONDS)


def results(run: Path) -> Any:
    return json.loads((run / "results.json").read_text())


def stage_folders(run: Path) -> dict[str, list[str]]:
    """Keys of the finished stages, by name."""
    found: dict[str, list[str]] = {}
    for marker in sorted(run.glob("*/*/stage.json")):
        found.setdefault(marker.parent.parent.name, []).append(marker.parent.name)
    return found


def only(run: Path, stage: str) -> Path:
    (folder,) = (run / stage).iterdir()
    return folder


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What the command line says when a user can mend it: a line on stderr and exit status 1, no traceback."""
    assert done.returncode == 1, done.stderr[-3000:]
    lines = [line for line in done.stderr.strip().splitlines() if not line.startswith("[transformers]")]
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


def test_a_run_writes_everything(finished: Path, recipe: Path) -> None:
    written = results(finished)
    assert [row["name"] for row in written["rows"]] == list(ROWS)
    assert {row["n"] for row in written["rows"]} == {12}
    assert written["provenance"]["environment"] == "toy 1"
    assert all(sum(row["outcomes"].values()) == 12 for row in written["rows"])
    assert "<html" in (finished / "report.html").read_text().lower()
    assert load_recipe(finished / "recipe.yaml") == load_recipe(recipe)
    assert set(stage_folders(finished)) == {s.name for s in stages_of(load_recipe(recipe))}
    assert all(len(keys) == 1 for keys in stage_folders(finished).values())
    assert "TreeDPO" in (finished / "stdout.txt").read_text()
    assert "Warning" not in (finished / "stderr.txt").read_text()
    assert not list(finished.glob("**/checkpoints")), "finished trainings keep no checkpoints"


def test_the_weak_model_has_learnt_and_its_trees_have_forks(finished: Path) -> None:
    written = results(finished)
    scores = {row["name"]: row["score"]["value"] for row in written["rows"]}
    assert min(scores["weak"], scores["w2sg_exact"]) > scores["strong"], "or the tests below test little"
    assert sum(tree["informative_forks"] for tree in written["trees"]) >= 2


def test_the_second_time_nothing_is_done(copy: Path, recipe: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.glob("*/*/**/*")}
    rows = results(copy)["rows"]
    began = time.monotonic()
    done = call(command(recipe, copy))
    assert done.returncode == 0, done.stderr[-3000:]
    assert time.monotonic() - began < 20
    assert {path: path.stat().st_mtime_ns for path in copy.glob("*/*/**/*")} == before
    assert "..." not in done.stdout, "no stage begins"
    assert results(copy)["rows"] == rows


def test_a_changed_knob_redoes_what_depends_on_it(copy: Path, recipe: Path) -> None:
    before = stage_folders(copy)
    changes = ("explore.rollouts=6", "evaluate.rows=[weak, w2sg_exact]", "evaluate.ceiling=w2sg_exact")
    done = call(command(recipe, copy, *(word for change in changes for word in ("--set", change))))
    assert done.returncode == 0, done.stderr[-3000:]
    after = stage_folders(copy)
    redone = {name for name in after if after[name] != before[name]}
    explored = {"explore", "trees", "pairs", "paths-exact", "paths-mcts"}
    assert redone == explored | {"train-w2sg_exact", "evaluate-w2sg_exact"}
    begun = {line.removesuffix(" ...") for line in done.stdout.splitlines() if line.endswith(" ...")}
    assert begun == redone
    assert [row["name"] for row in results(copy)["rows"]] == ["weak", "w2sg_exact"]
    assert load_recipe(copy / "recipe.yaml").explore.rollouts == 6


def test_one_stage_runs_what_it_needs(tmp_path: Path, recipe: Path) -> None:
    done = call(command(recipe, tmp_path / "part", does="stage demonstrations"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(stage_folders(tmp_path / "part")) == {"tasks", "demonstrations", "unseen"}
    assert "demonstrations: " in done.stdout


def test_fewer_demonstrations_are_other_demonstrations(tmp_path: Path, recipe: Path) -> None:
    run = tmp_path / "part"
    for more in ((), ("--set", "tasks.demonstrations=3")):
        done = call(command(recipe, run, *more, does="stage demonstrations"))
        assert done.returncode == 0, done.stderr[-3000:]
    assert {name: len(keys) for name, keys in stage_folders(run).items()} == {
        "tasks": 1,
        "demonstrations": 2,
        "unseen": 2,
    }
    stores = run.glob("demonstrations/*/trajectories.jsonl")
    assert sorted(path.read_text().count('"task"') for path in stores) == [3, 8]
    assert not (run / "recipe.yaml").exists(), "it stands for a whole run"


STRONG = {f"train-{row}" for row in ROWS[2:]} | {f"evaluate-{row}" for row in ROWS[1:]}
PLAYED = {"explore", *(f"evaluate-{row}" for row in ROWS)}


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        (["tasks.demonstrations=6"], {"demonstrations"}),
        (["tasks.unseen=3"], {"unseen"}),
        (["tasks.dev=1"], {"tasks"}),
        (["explore.tasks=unseen"], {"explore"}),
        (["strong.lora_rank=2"], STRONG),
        (["pairs.min_gap=0.2"], {"pairs"}),
        (["play.batch=2"], PLAYED),
        (["env.name=tests.toy:NEWER"], {"tasks", "demonstrations", "trees", *PLAYED}),
    ],
)
def test_what_a_knob_changes(recipe: Path, changes: list[str], changed: set[str]) -> None:
    before, after = (stages_of(load_recipe(recipe, more)) for more in ((), changes))
    assert [s.name for s in before] == [s.name for s in after]
    both = zip(before, after, strict=True)
    assert {a.name for a, b in both if (a.settings, a.inputs) != (b.settings, b.inputs)} == changed


def test_a_weak_model_from_the_hub_has_the_adapter_of_the_strong_one(recipe: Path, tiny_words: Path) -> None:
    hub = f"weak.model={tiny_words}"
    before, after = (stages_of(load_recipe(recipe, [hub, *more])) for more in ([], ["strong.lora_rank=2"]))
    assert {a.name for a, b in zip(before, after, strict=True) if a.settings != b.settings} == STRONG | {"weak"}


def test_types_that_share_tasks(tmp_path: Path, recipe: Path) -> None:
    twice = ("--set", "env.name=tests.toy:TWICE", "--set", "tasks.types=[one, other]")
    said = sentence(call(command(recipe, tmp_path / "run", *twice)))
    assert said.startswith("tasks.types: toy/") and said.endswith("(train) is of both one and other; name one of them")


def kill_when(words: list[str], there: Callable[[], bool]) -> None:
    """Start the command and send SIGKILL once `there()` holds."""
    process = subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + SECONDS
        while not there():
            assert process.poll() is None, process.communicate()[1][-3000:]
            assert time.monotonic() < end
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


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
    kill_when(words, lambda: holds_lines(run, "explore"))
    assert "explore" not in stage_folders(run)
    kill_when(words, lambda: any(partly(run, "train-strong_sft", "checkpoints/checkpoint-*/trainer_state.json")))
    assert "explore" in stage_folders(run) and "train-strong_sft" not in stage_folders(run)
    kill_when(words, lambda: holds_lines(run, "evaluate-weak"))
    assert "evaluate-weak" not in stage_folders(run)
    done = call(words)
    assert done.returncode == 0, done.stderr[-3000:]
    assert results(run)["rows"] == results(finished)["rows"]
    assert results(run)["comparisons"] == results(finished)["comparisons"]
    assert stage_folders(run) == stage_folders(finished), "every stage holds the same, to the byte"


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
        "treedpo.start=base",
    )
    said = sentence(call(command(recipe, copy, *(word for change in changes for word in ("--set", change)))))
    assert "no tree has a fork whose sides differ by pairs.min_gap (0.05)" in said
    assert "explore.rollouts" in said


def test_without_a_path_that_is_good_enough(copy: Path, recipe: Path) -> None:
    babble = ("--set", "explore.grid=[{temperature: 50}]", "--set", "explore.rollouts=1")
    said = sentence(call(command(recipe, copy, *babble)))
    assert said.startswith("paths-exact: no trajectory scored at least 0.4, so there is nothing to learn from")
    assert "lower paths.min_score" in said


def test_a_directory_in_use(copy: Path, recipe: Path) -> None:
    with locked(copy):
        said = sentence(call(command(recipe, copy)))
    assert said.startswith(f"{copy}: in use by another process (pid {os.getpid()})")
    assert "--run" in said


LIMITED = """
import resource, runpy, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.argv = ["trajtree", *sys.argv[2:]]
runpy.run_module("trajtree", run_name="__main__")
"""


def no_file_above(size: int, words: list[str]) -> list[str]:
    """The command under a limit on file sizes; Python ignores SIGXFSZ, so writes fail as they do on a full disk."""
    return [words[0], "-c", LIMITED, str(size), *words[3:]]


def test_a_full_disk_while_playing(tmp_path: Path, finished: Path, recipe: Path) -> None:
    store = only(finished, "demonstrations") / "trajectories.jsonl"
    run = tmp_path / "full"
    words = command(recipe, run, does="stage demonstrations")
    said = sentence(call(no_file_above(store.stat().st_size * 2 // 3, words)))
    assert "File too large" in said and "nothing finished is lost" in said
    assert call(words).returncode == 0
    assert (only(run, "demonstrations") / "trajectories.jsonl").read_bytes() == store.read_bytes()
    assert stage_folders(run)["demonstrations"] == stage_folders(finished)["demonstrations"]


def test_a_full_disk_while_training(copy: Path, finished: Path, recipe: Path) -> None:
    adapter = only(finished, "train-w2sg_exact") / "model" / "adapter_model.safetensors"
    shutil.rmtree(copy / "train-w2sg_exact")
    for share in (0.5, 1.5):  # too little for the adapter, then enough for it but not for its optimiser
        limit = int(adapter.stat().st_size * share)
        said = sentence(call(no_file_above(limit, command(recipe, copy, does="stage train"))))
        assert said.startswith(f"{only(copy, 'train-w2sg_exact')}: could not be written, is the disk full? (")
        assert "nothing finished is lost" in said
    done = call(command(recipe, copy))
    assert done.returncode == 0, done.stderr[-3000:]
    assert stage_folders(copy) == stage_folders(finished)
    assert results(copy)["rows"] == results(finished)["rows"]


def test_a_damaged_line_is_named(copy: Path, recipe: Path) -> None:
    store = only(copy, "explore") / "trajectories.jsonl"
    lines = store.read_text().splitlines()
    record = json.loads(lines[2])
    del record["score"]
    lines[2] = json.dumps(record)
    store.write_text("\n".join(lines) + "\n")
    shutil.rmtree(copy / "trees")
    assert sentence(call(command(recipe, copy))).startswith(f"{store}, line 3, field score: Field required")


def test_a_damaged_marker_is_named(copy: Path, recipe: Path) -> None:
    marker = only(copy, "pairs") / "stage.json"
    marker.write_text(marker.read_text()[:40])
    said = sentence(call(command(recipe, copy)))
    assert said.startswith(f"{marker}: damaged") and f"delete the folder {marker.parent}" in said


@pytest.mark.parametrize("knob", ["weak.tokenizer", "weak.model", "strong.model"])
def test_a_wrong_model_path(tmp_path: Path, recipe: Path, knob: str) -> None:
    nowhere = tmp_path / "nowhere"
    said = sentence(call(command(recipe, tmp_path / "run", "--set", f"{knob}={nowhere}")))
    assert said.startswith(f"{nowhere}: no model there")
    assert not (tmp_path / "run").exists(), "found out before anything is done"


def test_a_misspelt_knob(tmp_path: Path, recipe: Path) -> None:
    said = sentence(call(command(recipe, tmp_path / "run", "--set", "explore.rolouts=3")))
    assert said == f"{recipe}: explore.rolouts: unknown key; did you mean 'rollouts'?"
