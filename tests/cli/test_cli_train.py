"""Training by command: from the trees and pairs that other commands wrote to a folder with an adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

pytest.importorskip("torch")
pytest.importorskip("peft")

from tests.test_docs import code_of, tries
from tests.toy import TASKS
from tests.train.test_examples import played

import trajtree
from trajtree.cli import train as cli_train
from trajtree.cli.main import app
from trajtree.errors import DataError, PolicyError, RecipeError, RunError, TrajtreeError
from trajtree.train import job, methods
from trajtree.train.job import Job
from trajtree.train.trainer import Optimisation


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trees")
    runs = [played(task, sample, actions) for task in TASKS[:3] for sample, actions in enumerate(tries(task))]
    trajtree.write_trees(trajtree.build(runs), folder / "trees.jsonl")
    return folder / "trees.jsonl"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def quick(source: Path, model: Path, **changes: Any) -> Job:
    how = Optimisation(epochs=2, lr=1e-2, row_tokens=600, accumulate=2, dtype="float32", checkpoint_steps=1)
    return Job(source, str(model), **{"optimisation": how, **changes})


def weights(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("method", methods.METHODS)
def test_every_method_trains(trees: Path, tiny_words: Path, tmp_path: Path, method: methods.Method) -> None:
    told: list[dict[str, float]] = []
    folder = job.run(
        quick(trees, tiny_words, method=method), tmp_path, progress=lambda done, total, m: told.append(dict(m))
    )
    assert told and told[-1]["shared"] > 1
    held = json.loads((tmp_path / "train.json").read_text())
    assert held["done"] and held["examples"] > 0 and held["metrics"]["self_check"] < 1e-4
    card = (folder / "README.md").read_text()
    assert held["data"] in card and f"| method | {method} |" in card and "Not evaluated" in card


def test_the_commands_know_the_methods() -> None:
    assert get_args(cli_train.Method) == methods.METHODS


def test_a_finished_training_is_not_done_again(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    folder = job.run(quick(trees, tiny_words), tmp_path)
    before = weights(folder)
    steps: list[int] = []
    job.run(quick(trees, tiny_words), tmp_path, progress=lambda done, total, m: steps.append(done))
    assert steps == [] and weights(folder) == before
    with pytest.raises(RunError, match="another method"):
        job.run(quick(trees, tiny_words, method="ipo"), tmp_path)


def test_a_training_of_one_step_trains(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    todo = quick(trees, tiny_words, optimisation=Optimisation(1, 1e-2, row_tokens=10**6, dtype="float32"))
    steps: list[int] = []
    folder = job.run(todo, tmp_path, progress=lambda done, total, m: steps.append(total))
    assert steps == [1]
    moved = [w for name, w in load_file(folder / "adapter_model.safetensors").items() if "lora_B" in name]
    assert moved and all(w.abs().max() > 0 for w in moved)


def test_a_model_is_merged_when_it_is_asked_for_later(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    at_once = job.run(quick(trees, tiny_words), tmp_path / "once", merge=True).parent / "merged"
    job.run(quick(trees, tiny_words), tmp_path / "later")
    later = tmp_path / "later" / "merged"
    assert not later.exists()
    job.run(quick(trees, tiny_words), tmp_path / "later", merge=True)
    assert (later / "model.safetensors").read_bytes() == (at_once / "model.safetensors").read_bytes()
    assert (later / "README.md").exists() and (later / "tokenizer.json").exists()


def test_what_failed_before_it_began_may_be_asked_for_otherwise(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="name a reference model"):
        job.run(quick(trees, tiny_words, lora=None), tmp_path)
    assert (job.run(quick(trees, tiny_words), tmp_path) / "adapter_model.safetensors").exists()


def test_only_good_runs_are_imitated(tiny_words: Path, tmp_path: Path) -> None:
    runs = [played(TASKS[0], sample, actions) for sample, actions in enumerate(tries(TASKS[0]))]
    store = trajtree.TrajectoryStore(tmp_path / "runs.jsonl")
    store.append(runs)
    good = sum(run.score == 1 for run in runs)
    assert 0 < good < len(runs)
    todo = quick(store.path, tiny_words, method="path-sft", settings=methods.Settings(min_score=1.0))
    assert len(job.examples(todo)[0]) == good
    store = trajtree.TrajectoryStore(tmp_path / "bad.jsonl")
    store.append([run for run in runs if run.score < 1])
    with pytest.raises(DataError, match=r"no run scored at least 1\.0; lower --min-score"):
        job.examples(quick(store.path, tiny_words, method="path-sft", settings=methods.Settings(min_score=1.0)))


def test_an_adapter_beneath_is_named_on_the_card(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    first = job.run(quick(trees, tiny_words, method="path-sft"), tmp_path / "first")
    second = job.run(quick(trees, tiny_words, adapters=(str(first),)), tmp_path / "second", merge=True)
    assert f"**with these adapters merged in first**: {first}" in (second / "README.md").read_text()
    assert "merged in first" not in (second.parent / "merged" / "README.md").read_text()


class Killed(Exception):
    pass


def test_a_killed_training_goes_on_to_the_same_adapter(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    def kill(done: int, total: int, metrics: dict[str, float]) -> None:
        assert total > 2
        if done == 2:
            raise Killed

    todo = quick(trees, tiny_words, optimisation=Optimisation(3, 1e-2, row_tokens=300, checkpoint_steps=1))
    unbroken = job.run(todo, tmp_path / "unbroken")
    with pytest.raises(Killed):
        job.run(todo, tmp_path / "broken", progress=kill)
    assert weights(job.run(todo, tmp_path / "broken")) == weights(unbroken)


def test_a_cached_reference_changes_nothing(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    how = Optimisation(epochs=2, lr=1e-2, row_tokens=300, dtype="float32")
    plain = quick(trees, tiny_words, method="dpo", optimisation=how)
    cached = quick(trees, tiny_words, method="dpo", optimisation=how, cache_reference=True)
    one: dict[int, float] = {}
    two: dict[int, float] = {}
    job.run(plain, tmp_path / "plain", progress=lambda done, total, m: one.update({done: m["loss"]}))
    job.run(cached, tmp_path / "cached", progress=lambda done, total, m: two.update({done: m["loss"]}))
    assert one.keys() == two.keys() and one[1] != one[max(one)]
    assert all(two[step] == pytest.approx(one[step], abs=1e-5) for step in one)
    assert len(list((tmp_path / "cached" / "reference").iterdir())) == 1
    with pytest.raises(RecipeError, match="whole distribution"):
        job.run(quick(trees, tiny_words, cache_reference=True), tmp_path / "kl")


def test_another_model_as_reference(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    """The paper's reference is the tuned weak model, not the strong one's start."""
    first = job.run(quick(trees, tiny_words, method="path-sft"), tmp_path / "weak", merge=True)
    held_to = quick(trees, tiny_words, method="dpo", reference=str(first.parent / "merged"))
    told: list[float] = []
    job.run(held_to, tmp_path / "strong", progress=lambda done, total, m: told.append(m["margin"]))
    assert abs(told[0]) > 1e-4, "policy and reference differ from the first step on"


def test_pairs_that_the_command_wrote(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    """The same pairs, from trees and by way of a preference file, make the same adapter."""
    pairs = tmp_path / "pairs.jsonl"
    assert invoke("pairs", trees, "--to", "trl", "--out", pairs).exit_code == 0
    from_trees = job.run(quick(trees, tiny_words, method="dpo"), tmp_path / "trees")
    from_pairs = job.run(quick(pairs, tiny_words, method="dpo"), tmp_path / "pairs")
    assert weights(from_trees) == weights(from_pairs)
    with pytest.raises(DataError, match="holds pairs, but kto takes trees"):
        job.run(quick(pairs, tiny_words, method="kto"), tmp_path / "kto")


def test_the_command(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    shown = invoke("train", trees, "--model", tiny_words, "--preview")
    assert shown.exit_code == 0, shown.output
    assert (
        "fork at node" in shown.output and "chosen, from the fork" in shown.output and "sharing saves" in shown.output
    )
    out = tmp_path / "tuned"
    done = invoke("train", trees, "--model", tiny_words, "--out", out, "--row-tokens", 600, "--dtype", "float32")
    assert done.exit_code == 0, done.output
    assert "tokens/s" in done.output and (out / "model" / "adapter_model.safetensors").exists()
    nowhere = invoke("train", trees, "--model", tiny_words)
    assert isinstance(nowhere.exception, RunError) and "--preview" in str(nowhere.exception)


@pytest.mark.parametrize(
    ("text", "what"),
    [("", "not JSON"), ('{"a": 1}\n', "neither trees, nor runs, nor pairs"), ("{broken\n", "not JSON")],
)
def test_files_of_another_kind(tmp_path: Path, tiny_words: Path, text: str, what: str) -> None:
    (tmp_path / "file.jsonl").write_text(text)
    with pytest.raises(DataError, match=what):
        job.run(quick(tmp_path / "file.jsonl", tiny_words), tmp_path / "out")


def test_a_pair_whose_sides_are_equal(tmp_path: Path, tiny_words: Path) -> None:
    side = [{"role": "assistant", "content": "look"}]
    row = {"prompt": [{"role": "user", "content": "Where?"}], "chosen": side, "rejected": side}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"pairs.jsonl, line 1.*equal"):
        job.run(quick(tmp_path / "pairs.jsonl", tiny_words, method="dpo"), tmp_path / "out")


def test_a_context_shorter_than_a_branch(trees: Path, tmp_path: Path) -> None:
    from tests.tiny import save_model, toy_words

    short = save_model(tmp_path / "short", toy_words(), max_position_embeddings=32)
    with pytest.raises(DataError, match="longer than 32 tokens"):
        job.run(quick(trees, short), tmp_path / "out")


def test_a_reference_of_another_vocabulary(trees: Path, tiny: Path, tiny_words: Path, tmp_path: Path) -> None:
    with pytest.raises(TrajtreeError, match="vocabulary"):
        job.run(quick(trees, tiny_words, method="dpo", reference=str(tiny)), tmp_path)


def test_an_adapter_for_another_base(trees: Path, tiny: Path, tiny_words: Path, tmp_path: Path) -> None:
    other = job.run(quick(trees, tiny_words, method="path-sft"), tmp_path / "other")
    with pytest.raises(TrajtreeError, match="cannot be loaded"):
        job.run(quick(trees, tiny, adapters=(str(other),)), tmp_path / "out")


def test_the_python_in_the_docs_runs(trees: Path, tiny_words: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    code = code_of("docs/training.md").replace("trees.jsonl", str(trees))
    exec(code.replace("Qwen/Qwen2.5-0.5B-Instruct", str(tiny_words)), {})
    assert (tmp_path / "tuned" / "model" / "adapter_model.safetensors").exists()
