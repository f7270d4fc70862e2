"""Training by command: from the trees and pairs that other commands wrote to a folder with an adapter."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path
from random import Random
from typing import Any

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

pytest.importorskip("torch")
pytest.importorskip("peft")

from tests.fake_trackers import fake_trackers
from tests.test_docs import code_of, tries
from tests.toy import TASKS
from tests.train.test_examples import played
from tests.train.told import Told

import trajtree
from trajtree.cli.main import app
from trajtree.errors import DataError, PolicyError, RecipeError, RunError, TrajtreeError
from trajtree.explore import trackers
from trajtree.models.weights import ModelRef, fingerprint
from trajtree.train import job
from trajtree.train.job import train_file
from trajtree.train.material import examples_of, material_of
from trajtree.train.settings import METHODS, LossSettings, TrainSettings, users_of
from trajtree.train.tuning import Training
from trajtree.trees.search import PathSettings


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trees")
    runs = [played(task, sample, actions) for task in TASKS[:3] for sample, actions in enumerate(tries(task))]
    trajtree.write_trees(trajtree.build(runs), folder / "trees.jsonl")
    return folder / "trees.jsonl"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def how(**changes: Any) -> TrainSettings:
    return TrainSettings(
        **{
            **{"epochs": 2, "lr": 1e-2, "pack_tokens": 600, "accumulate": 2, "checkpoint_steps": 1},
            **{"deterministic": True, **changes},
        }
    )


def quick(model: Path, **changes: Any) -> Training:
    return Training(str(model), **{"settings": how(), "dtype": "float32", **changes})


def weights(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(trees: Path, tiny_words: Path, tmp_path: Path, method: str) -> None:
    told = Told()
    folder = train_file(trees, quick(tiny_words, method=method), tmp_path, progress=told)
    assert len(told.figures) == told.steps > 0 and told.figures[-1]["shared"] > 1
    held = json.loads((tmp_path / "train.json").read_text())
    assert held["done"] and held["examples"] > 0 and held["metrics"]["self_check"] < 1e-4
    card = (folder / "README.md").read_text()
    assert held["data"] in card and f"| method | {method} |" in card and "Not evaluated" in card
    for name in ("gamma", "beta"):
        assert f"| {name} | {held['settings'][name]} |" in card
    assert f"| pairs.gamma | {held['pairs']['gamma']} |" in card


def test_a_training_reports_to_files_that_stay(
    trees: Path, tiny_words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers keeps TensorBoard's files among the checkpoints, which are removed in the end."""
    (tmp_path / "fakes").mkdir()
    reports = fake_trackers(tmp_path / "fakes", monkeypatch)
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    out, told = tmp_path / "tuned", Told()
    train_file(trees, quick(tiny_words, settings=how(report_to=("tensorboard",))), out, progress=told)
    opened, *logged = reports()
    assert opened == ["open", str(out / "tensorboard")]
    losses = [line for line in logged if line[0] == "log" and any("loss" in name for name in line[1])]
    assert [line[2] for line in losses][: told.steps] == list(range(1, told.steps + 1))
    assert list(losses[0][1].values()) == [pytest.approx(told.figures[0]["loss"])]
    again = Told()
    train_file(trees, quick(tiny_words), out, progress=again)
    assert not again.figures, "who is told makes no other training"


def test_a_tracker_that_is_not_there_is_named_before_anything_is_done(
    trees: Path, tiny_words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    command = ("train", trees, "--model", tiny_words, "--out", tmp_path / "tuned", "--report-to")
    result = invoke(*command, "mlflow")
    assert isinstance(result.exception, RunError) and "report_to mlflow: the package mlflow" in str(result.exception)
    assert invoke(*command, "mlfow").exit_code == 2


def test_a_finished_training_is_not_done_again(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    folder = train_file(trees, quick(tiny_words), tmp_path)
    before = weights(folder)
    told = Told()
    train_file(trees, quick(tiny_words), tmp_path, progress=told)
    assert told.figures == [] and weights(folder) == before
    with pytest.raises(RunError, match="another method"):
        train_file(trees, quick(tiny_words, method="ipo"), tmp_path)


def test_a_training_of_one_step_trains(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    told = Told()
    todo = quick(tiny_words, settings=how(epochs=1, pack_tokens=10**6))
    folder = train_file(trees, todo, tmp_path, progress=told)
    assert told.steps == len(told.figures) == 1
    moved = [w for name, w in load_file(folder / "adapter_model.safetensors").items() if "lora_B" in name]
    assert moved and all(w.abs().max() > 0 for w in moved)


def test_a_model_is_merged_when_it_is_asked_for_later(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    at_once = train_file(trees, quick(tiny_words), tmp_path / "once", merge=True).parent / "merged"
    train_file(trees, quick(tiny_words), tmp_path / "later")
    later = tmp_path / "later" / "merged"
    assert not later.exists()
    train_file(trees, quick(tiny_words), tmp_path / "later", merge=True)
    assert (later / "model.safetensors").read_bytes() == (at_once / "model.safetensors").read_bytes()
    assert (later / "README.md").exists() and (later / "tokenizer.json").exists()


@pytest.mark.parametrize("place", ["merging", "noting"])
def test_a_kill_at_the_end_does_not_fail_for_ever(
    trees: Path, tiny_words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    unbroken = train_file(trees, quick(tiny_words), tmp_path / "unbroken", merge=True)

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(job, {"merging": "load_model", "noting": "_finish"}[place], kill)
        with pytest.raises(Killed):
            train_file(trees, quick(tiny_words), tmp_path / "killed", merge=True)
    for _ in range(2):
        assert weights(train_file(trees, quick(tiny_words), tmp_path / "killed", merge=True)) == weights(unbroken)
        merged = [tmp_path / name / "merged" / "model.safetensors" for name in ("killed", "unbroken")]
        assert merged[0].read_bytes() == merged[1].read_bytes()
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {"model", "merged", "train.json"}


@pytest.mark.parametrize("part", ["model/adapter_model.safetensors", "merged/model.safetensors"])
def test_a_finished_training_is_verified(trees: Path, tiny_words: Path, tmp_path: Path, part: str) -> None:
    train_file(trees, quick(tiny_words), tmp_path, merge=True)
    (tmp_path / "model" / "README.md").write_text("Evaluated.")
    train_file(trees, quick(tiny_words), tmp_path, merge=True)
    (tmp_path / part).write_bytes(bytes((tmp_path / part).stat().st_size))
    with pytest.raises(RunError, match=f"{part}: holds something else .* put it back, or remove {tmp_path} to train"):
        train_file(trees, quick(tiny_words), tmp_path, merge=True)
    shutil.rmtree(tmp_path / "merged")
    (tmp_path / "model" / "adapter_model.safetensors").unlink()
    with pytest.raises(RunError, match=r"model/adapter_model.safetensors: is missing; it was changed since"):
        train_file(trees, quick(tiny_words), tmp_path)


def test_diversity_trains_a_model_that_differs(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    """From its reference more than plain imitation does; at weight 0 the weights are those of plain imitation."""
    plain = train_file(trees, quick(tiny_words, method="sft"), tmp_path / "plain")
    none = train_file(trees, quick(tiny_words, method="sft", settings=how(diversity=0.0)), tmp_path / "none")
    assert weights(none) == weights(plain)
    train_file(trees, quick(tiny_words, method="sft", settings=how(diversity=0.05)), tmp_path / "diverse")
    assert weights(tmp_path / "diverse" / "model") != weights(plain)
    held = json.loads((tmp_path / "diverse" / "train.json").read_text())
    assert held["metrics"]["kl"] > 0 and held["settings"]["diversity"] == 0.05
    with pytest.raises(RecipeError, match="the method needs the whole distribution"):
        cached = how(diversity=0.05, cache_reference=True)
        train_file(trees, quick(tiny_words, method="sft", settings=cached), tmp_path / "cached")


def test_a_training_of_an_earlier_version_is_taken_as_it_is(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    folder = train_file(trees, quick(tiny_words), tmp_path)
    held = json.loads((tmp_path / "train.json").read_text())
    del held["files"], held["settings"]["diversity"]
    (tmp_path / "train.json").write_text(json.dumps(held))
    train_file(trees, quick(tiny_words), tmp_path)
    (folder / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match=r"adapter_model.safetensors: has 0 bytes"):
        train_file(trees, quick(tiny_words), tmp_path)


def test_two_trainings_in_one_folder(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    def second(done: int, *_: Any) -> None:
        with pytest.raises(
            RunError, match=rf"^{tmp_path}: another training \(pid {os.getpid()} on .* is working in it"
        ):
            train_file(trees, quick(tiny_words), tmp_path)

    told = Told(second)
    train_file(trees, quick(tiny_words), tmp_path, progress=told)
    assert told.figures


def test_what_failed_before_it_began_may_be_asked_for_otherwise(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="name a reference model"):
        train_file(trees, quick(tiny_words, lora=None), tmp_path)
    assert (train_file(trees, quick(tiny_words), tmp_path) / "adapter_model.safetensors").exists()


def test_only_good_runs_are_imitated(tiny_words: Path, tmp_path: Path) -> None:
    runs = [played(TASKS[0], sample, actions) for sample, actions in enumerate(tries(TASKS[0]))]
    store = trajtree.TrajectoryStore(tmp_path / "runs.jsonl")
    store.append(runs)
    good = sum(run.score == 1 for run in runs)
    assert 0 < good < len(runs)
    todo = quick(tiny_words, method="sft", paths=PathSettings(min_score=1.0))
    taking = todo.taking(todo.chat(), sys.maxsize)
    assert len(examples_of(material_of(store.path, todo.paths), "sft", taking)) == good
    store = trajtree.TrajectoryStore(tmp_path / "bad.jsonl")
    store.append([run for run in runs if run.score < 1])
    with pytest.raises(DataError, match=r"no run scored at least 1\.0; lower --min-score"):
        material_of(store.path, todo.paths)


def test_an_adapter_beneath_is_named_on_the_card(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    first = train_file(trees, quick(tiny_words, method="sft"), tmp_path / "first")
    second = train_file(trees, quick(tiny_words, adapters=(str(first),)), tmp_path / "second", merge=True)
    assert f"**with these adapters merged in first**: {first}" in (second / "README.md").read_text()
    assert "merged in first" not in (second.parent / "merged" / "README.md").read_text()


class Killed(Exception):
    pass


def test_a_killed_training_goes_on_to_the_same_adapter(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    def kill(done: int, total: int, figures: dict[str, float]) -> None:
        assert total > 2
        if done == 2:
            raise Killed

    todo = quick(tiny_words, settings=how(epochs=3, pack_tokens=300, accumulate=1))
    unbroken = train_file(trees, todo, tmp_path / "unbroken")
    with pytest.raises(Killed):
        train_file(trees, todo, tmp_path / "broken", progress=Told(kill))
    assert weights(train_file(trees, todo, tmp_path / "broken")) == weights(unbroken)


TRAIN = """
import sys
from trajtree.train.job import train_file
from trajtree.train.settings import TrainSettings
from trajtree.train.tuning import Training
settings = TrainSettings(epochs=6, lr=1e-2, pack_tokens=300, checkpoint_steps=1, deterministic=True)
train_file(sys.argv[1], Training(sys.argv[2], settings=settings, dtype="float32"), sys.argv[3], merge=True)
"""


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_moments_it_ends_with_the_same_bytes(
    trees: Path, tiny_words: Path, tmp_path: Path, seed: int
) -> None:
    random, out = Random(seed), tmp_path / "killed"
    todo = quick(tiny_words, settings=how(epochs=6, pack_tokens=300, accumulate=1))
    unbroken = train_file(trees, todo, tmp_path / "unbroken", merge=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", TRAIN, *map(str, (trees, tiny_words, out))]
    for step in sorted(random.sample(range(1, 12), 2)):
        process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (out / "checkpoints" / f"checkpoint-{step}").exists():
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.1))
        process.kill()
        process.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a checkpoint was not written to its end
        again = train_file(trees, todo, out, merge=True)
    assert weights(again) == weights(unbroken)
    merged = [folder.parent / "merged" / "model.safetensors" for folder in (again, unbroken)]
    assert merged[0].read_bytes() == merged[1].read_bytes()


def test_a_cached_reference_changes_nothing(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    settings = {"pack_tokens": 300, "accumulate": 1}
    plain, cached = (
        quick(tiny_words, method="dpo", settings=how(**settings, cache_reference=held)) for held in (False, True)
    )
    one, two = Told(), Told()
    train_file(trees, plain, tmp_path / "plain", progress=one)
    train_file(trees, cached, tmp_path / "cached", progress=two)
    losses, others = ([figures["loss"] for figures in told.figures] for told in (one, two))
    assert losses[0] != losses[-1] and others == pytest.approx(losses, abs=1e-5)
    (held,) = (tmp_path / "cached" / "reference").iterdir()
    for number, torn in enumerate((b"", bytes(held.stat().st_size), held.read_bytes()[:-100])):
        folder = tmp_path / str(number)
        (folder / "reference").mkdir(parents=True)
        (folder / "reference" / held.name).write_bytes(torn)
        again = train_file(trees, cached, folder)
        assert weights(again) == weights(tmp_path / "cached" / "model"), "it is computed again"
        assert (folder / "reference" / held.name).read_bytes() == held.read_bytes()
    with pytest.raises(RecipeError, match="whole distribution"):
        train_file(trees, quick(tiny_words, settings=how(cache_reference=True)), tmp_path / "kl")


def test_a_cached_reference_is_of_its_adapters_too(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    base, settings = str(tiny_words), how(cache_reference=True)

    def to(*adapters: Path) -> Training:
        reference = ModelRef(base, tuple(map(str, adapters)))
        return quick(tiny_words, method="dpo", settings=settings, reference=reference)

    one, other = (
        train_file(trees, quick(tiny_words, method="sft", seed=seed), tmp_path / f"seed {seed}") for seed in (0, 1)
    )
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    train_file(trees, to(one), out)
    shutil.rmtree(out / "model")  # as if it had ended before its first checkpoint
    train_file(trees, to(other), out)
    train_file(trees, to(other), fresh)
    assert weights(out / "model") == weights(fresh / "model")
    assert len(list((out / "reference").iterdir())) == 2
    assert job._record(trees, to())["reference_weights"] == fingerprint(base)


def test_another_model_as_reference(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    """The paper's reference is the tuned weak model, not the strong one's start."""
    first = train_file(trees, quick(tiny_words, method="sft"), tmp_path / "weak", merge=True)
    held_to = quick(tiny_words, method="dpo", reference=ModelRef(str(first.parent / "merged")))
    told = Told()
    train_file(trees, held_to, tmp_path / "strong", progress=told)
    assert abs(told.figures[0]["margin"]) > 1e-4, "policy and reference differ from the first step on"


def test_pairs_that_the_command_wrote(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    """The same pairs, from trees and by way of a preference file, make the same adapter."""
    pairs = tmp_path / "pairs.jsonl"
    assert invoke("pairs", trees, "--to", "trl", "--out", pairs).exit_code == 0
    from_trees = train_file(trees, quick(tiny_words, method="dpo"), tmp_path / "trees")
    from_pairs = train_file(pairs, quick(tiny_words, method="dpo"), tmp_path / "pairs")
    assert weights(from_trees) == weights(from_pairs)
    with pytest.raises(DataError, match="contains pairs, but kto takes trees"):
        train_file(pairs, quick(tiny_words, method="kto"), tmp_path / "kto")


def test_the_command(trees: Path, tiny_words: Path, tmp_path: Path) -> None:
    shown = invoke("train", trees, "--model", tiny_words, "--preview")
    assert shown.exit_code == 0, shown.output
    assert (
        "fork at node" in shown.output and "chosen, from the fork" in shown.output and "sharing reduces" in shown.output
    )
    out = tmp_path / "tuned"
    done = invoke("train", trees, "--model", tiny_words, "--out", out, "--pack-tokens", 600, "--dtype", "float32")
    assert done.exit_code == 0, done.output
    assert "tokens/s" in done.output and (out / "model" / "adapter_model.safetensors").exists()
    nowhere = invoke("train", trees, "--model", tiny_words)
    assert isinstance(nowhere.exception, RunError) and "--preview" in str(nowhere.exception)


@pytest.mark.parametrize(
    ("text", "what"),
    [("", "not JSON"), ('{"a": 1}\n', "not trees, runs, or pairs"), ("{broken\n", "not JSON")],
)
def test_files_of_another_kind(tmp_path: Path, tiny_words: Path, text: str, what: str) -> None:
    (tmp_path / "file.jsonl").write_text(text)
    with pytest.raises(DataError, match=what):
        train_file(tmp_path / "file.jsonl", quick(tiny_words), tmp_path / "out")


@pytest.mark.parametrize(
    ("option", "value"), [("--lora-alpha", 32), ("--lora-targets", "q_proj"), ("--lora-layers", 1)]
)
def test_settings_of_an_adapter_that_is_not_trained_are_refused(trees: Path, option: str, value: object) -> None:
    failed = invoke("train", trees, "--model", "tiny", "--preview", "--lora-rank", 0, option, value)
    assert isinstance(failed.exception, DataError)
    assert str(failed.exception).startswith(f"{option}: --lora-rank 0 tunes the whole model")


def test_a_pair_whose_sides_are_equal(tmp_path: Path, tiny_words: Path) -> None:
    side = [{"role": "assistant", "content": "look"}]
    row = {"prompt": [{"role": "user", "content": "Where?"}], "chosen": side, "rejected": side}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"pairs.jsonl, line 1.*equal"):
        train_file(tmp_path / "pairs.jsonl", quick(tiny_words, method="dpo"), tmp_path / "out")


def test_a_context_shorter_than_a_branch(trees: Path, tmp_path: Path) -> None:
    from tests.tiny import save_model, toy_words

    short = save_model(tmp_path / "short", toy_words(), max_position_embeddings=32)
    with pytest.raises(DataError, match="longer than 32 tokens"):
        train_file(trees, quick(short), tmp_path / "out")


def test_a_reference_of_another_vocabulary(trees: Path, tiny: Path, tiny_words: Path, tmp_path: Path) -> None:
    with pytest.raises(TrajtreeError, match="vocabulary"):
        train_file(trees, quick(tiny_words, method="dpo", reference=ModelRef(str(tiny))), tmp_path)


def test_an_adapter_for_another_base(trees: Path, tiny: Path, tiny_words: Path, tmp_path: Path) -> None:
    other = train_file(trees, quick(tiny_words, method="sft"), tmp_path / "other")
    with pytest.raises(TrajtreeError, match="cannot be loaded"):
        train_file(trees, quick(tiny, adapters=(str(other),)), tmp_path / "out")


def test_the_python_in_the_docs_runs(trees: Path, tiny_words: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    code = code_of("docs/training.md").replace("trees.jsonl", str(trees))
    exec(code.replace("Qwen/Qwen2.5-0.5B-Instruct", str(tiny_words)), {})
    assert (tmp_path / "tuned" / "model" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("--epochs", "inf"), ("--epochs", "nan"), ("--epochs", "0"), ("--lr", "inf"), ("--lr", "-1"), ("--beta", "inf")],
)
def test_numbers_that_are_none_are_refused(
    trees: Path, tiny_words: Path, tmp_path: Path, option: str, value: str
) -> None:
    done = invoke("train", trees, "--model", tiny_words, "--out", tmp_path / "out", option, value)
    assert isinstance(done.exception, DataError) and option.removeprefix("--") in str(done.exception)
    assert not (tmp_path / "out" / "model").exists()


OF_SOME = {
    **{"beta": "0.2", "kl": "0.2", "anchor": "0.2", "gamma": "0.8", "label_smoothing": "0.1", "diversity": "0.01"},
    **{"weigh": "gap", "min_gap": "0.2", "per_fork": "2", "per_tree": "4", "min_score": "0.4"},
}
"""Options that only some methods use, and a value of each."""


def test_an_option_that_the_method_does_not_use_is_refused(tmp_path: Path) -> None:
    """Whichever it is, also at its default; one that it uses is taken, and then it is the file that is missing."""
    missing = tmp_path / "none.jsonl"
    for name, method in METHODS.items():
        for setting, value in OF_SOME.items():
            option = f"--{setting.replace('_', '-')}"
            done = invoke("train", missing, "--model", "m", "--out", tmp_path / "out", "--method", name, option, value)
            refused = f"{option}: {name} does not use it; leave it out, or use " in str(done.exception)
            assert isinstance(done.exception, TrajtreeError) and refused == (name not in users_of(setting))
            used = setting in method.knobs
            assert refused != used or setting not in LossSettings.__dataclass_fields__ or setting == "weigh"
    assert users_of("gamma") == ["multi-turn-dpo"] and users_of("min_score") == ["sft"]
    assert set(users_of("min_gap")) - set(users_of("per_tree")) == {"node-kto"}
    at_default = invoke("train", missing, "--model", "m", "--method", "sft", "--beta", TrainSettings().beta)
    assert "--beta: sft does not use it" in str(at_default.exception)
    alone = invoke("train", missing, "--model", "m", "--method", "sft", "--reference", "n")
    assert "--reference: sft has a reference only with --diversity" in str(alone.exception)
    pairs = tmp_path / "dpo.jsonl"
    pairs.write_text('{"prompt": [], "chosen": [], "rejected": []}\n')
    for option in ("--min-gap", "--per-fork", "--per-tree"):
        given = invoke("train", pairs, "--model", "m", "--method", "dpo", option, 1)
        assert f"{option}: {pairs} holds pairs, which are all taken" in str(given.exception)
    cached = invoke("train", missing, "--model", "m", "--method", "sft", "--cache-reference")
    assert "--cache-reference: sft does not use it" in str(cached.exception)


@pytest.mark.parametrize("seed", ["-1", "4294967296", "99999999999999999999999"])
def test_a_seed_is_one_that_every_generator_takes(trees: Path, tiny_words: Path, tmp_path: Path, seed: str) -> None:
    done = invoke("train", trees, "--model", tiny_words, "--out", tmp_path / "out", "--seed", seed)
    assert done.exit_code == 2 and "--seed" in done.output


@pytest.mark.parametrize("text", ["", "{", "[]", "\0", '{"done": true}', '{"a": ' * 100_000])
def test_a_damaged_record_is_named(trees: Path, tiny_words: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(RunError, match=r"train\.json: damaged \(.*; remove .* or name another folder"):
        train_file(trees, quick(tiny_words), tmp_path)


@pytest.mark.parametrize("share", [0.02, 0.5, 1.5], ids=["the record", "the adapter", "its optimiser"])
def test_a_full_disk_is_one_sentence_and_nothing_is_lost(
    trees: Path, tiny_words: Path, tmp_path: Path, share: float
) -> None:
    whole = train_file(trees, quick(tiny_words), tmp_path / "whole")
    limited = (
        "import resource, sys\n"
        "limit = int(sys.argv.pop(1))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))\n"
        "from trajtree.cli.main import main\nmain()\n"
    )
    options = ["--epochs", "2", "--lr", "0.01", "--pack-tokens", "600", "--accumulate", "2", "--dtype", "float32"]
    options.append("--deterministic")
    words = ["train", str(trees), "--model", str(tiny_words), "--out", str(tmp_path / "out"), *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(limit: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", limited, str(limit), *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    full = run(int(len(weights(whole)) * share))
    assert full.returncode == 1 and "Traceback" not in full.stderr, full.stderr
    last = full.stderr.strip().splitlines()[-1]
    assert last.startswith("trajtree: ") and str(tmp_path / "out") in last and "make room" in last
    again = run(1 << 40)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "out" / "model" / "adapter_model.safetensors").exists()
