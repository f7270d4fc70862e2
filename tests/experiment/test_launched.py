"""Trainings in processes that a launcher starts: as in this process, with its figures, errors and end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

import torch
from safetensors.torch import load_file
from tests.builders import Told
from tests.experiment.test_pipeline import recipe_of
from tests.toy import TASKS, Toy, demonstrate

from trajtree.errors import DataError, RecipeError, RunError
from trajtree.experiment.launched import _ORDER, launch
from trajtree.experiment.learn import MODEL, train_row
from trajtree.experiment.recipe import Recipe, load_recipe
from trajtree.experiment.stage import Work
from trajtree.experiment.tasks import STORE
from trajtree.store.trajectory_store import TrajectoryStore

TORCHRUN = "torchrun --standalone --nproc_per_node 2"


@pytest.fixture
def demonstrations(tmp_path: Path) -> Path:
    store = TrajectoryStore(tmp_path / "demonstrations" / STORE, create=True)
    store.append(demonstrate(Toy(), task) for task in TASKS[:8])
    return store.path.parent


def recipe(model: Path, launcher: str, **weak: Any) -> Recipe:
    found = recipe_of(model)
    found["weak"] |= {"epochs": 1, "optimiser": "sgd", "lr": 0.1, "schedule": "constant", **weak}
    return Recipe.model_validate({**found, "train": {"launch": launcher}})


def trained(folder: Path, train: Any, what: Recipe, demonstrations: Path) -> tuple[Any, dict[str, Any], Told]:
    """The weights, the figures and the progress of the weak model's training."""
    told = Told()
    folder.mkdir()
    work = Work(folder, {"demonstrations": demonstrations}, told)
    train(what, what.all_rows["weak"], work)
    assert {path.name for path in folder.iterdir()} <= {MODEL, _ORDER}, "no checkpoint is left"
    return load_file(folder / MODEL / "model.safetensors"), work.figures, told


def test_a_launched_process_trains_as_this_one_does(tmp_path: Path, tiny_words: Path, demonstrations: Path) -> None:
    plain, launched = recipe(tiny_words, ""), recipe(tiny_words, f"'{sys.executable}'")
    weights, figures, told = trained(tmp_path / "here", train_row, plain, demonstrations)
    there, said, heard = trained(tmp_path / "there", launch, launched, demonstrations)
    assert weights.keys() == there.keys() and all(torch.equal(weights[name], there[name]) for name in weights)
    assert said == json.loads(json.dumps(figures)) and said["examples"] == 8
    assert (heard.totals, heard.amounts) == (told.totals, told.amounts)


def test_two_processes_train_as_one(tmp_path: Path, tiny_words: Path, demonstrations: Path) -> None:
    weights, _, _ = trained(tmp_path / "here", train_row, recipe(tiny_words, "", batch=2), demonstrations)
    launched = recipe(tiny_words, TORCHRUN, batch=1)
    there, said, _ = trained(tmp_path / "there", launch, launched, demonstrations)
    assert said["steps"] == 4
    for name, tensor in weights.items():
        torch.testing.assert_close(there[name], tensor, atol=1e-5, rtol=1e-4)


def test_errors_of_the_processes_are_their_own_sentences(tmp_path: Path, tiny_words: Path) -> None:
    empty = tmp_path / "demonstrations"
    empty.mkdir()
    with pytest.raises(DataError, match=r"^no trajectory scored at least 0\.4, so there is nothing to learn from"):
        trained(tmp_path / "there", launch, recipe(tiny_words, f"'{sys.executable}'"), empty)


def test_launchers_that_are_none(tmp_path: Path, tiny_words: Path) -> None:
    with pytest.raises(
        RunError, match=r"^train\.launch: there is no command 'acelerate'; for example accelerate launch"
    ):
        trained(tmp_path / "one", launch, recipe(tiny_words, "acelerate launch"), tmp_path)
    with pytest.raises(RunError, match=r"^train\.launch: false ended with status 1 before .*; its last lines: none$"):
        trained(tmp_path / "two", launch, recipe(tiny_words, "false"), tmp_path)
    failing = "sh -c 'echo no device is left; exit 3'"
    with pytest.raises(RunError, match=r"ended with status 3 .*; its last lines: no device is left$"):
        trained(tmp_path / "three", launch, recipe(tiny_words, failing), tmp_path)
    with pytest.raises(RunError, match=r"^train\.launch: true ended with status 0 before the training did"):
        trained(tmp_path / "four", launch, recipe(tiny_words, "true"), tmp_path)
    (tmp_path / "r.yaml").write_text('name: x\ntasks: {types: [t]}\ntrain: {launch: "sh \'a"}\n')
    with pytest.raises(RecipeError, match=re.escape("train.launch: No closing quotation")):
        load_recipe(tmp_path / "r.yaml")


def test_launched_processes_end_with_the_one_that_launched(tmp_path: Path) -> None:
    """A pipe to it is their standard input: nobody else may work in the folder when it is gone."""
    order = tmp_path / "no.json"
    script = "import sys, time; from trajtree.experiment import launched; from pathlib import Path; "
    script += "launched.train_row = lambda *_: (print('works', flush=True), time.sleep(600)); "
    script += f"launched.main(Path({str(order)!r}))"
    made = Recipe.model_validate({"name": "x", "tasks": {"types": ["t"]}})
    asked = {"recipe": made.model_dump(mode="json"), "row": "weak", "folder": str(tmp_path), "inputs": {}}
    order.write_text(json.dumps(asked))
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"works\n"
        process.stdin.close()
        assert process.wait(120) == 1
