"""The same adapter however a step's examples are cut up, and errors that say where.

Plain SGD: AdamW divides by the gradient's own size, which makes rounding in entries near zero as large as any other.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("peft", reason="needs the train extra")

from tests.train import two_processes  # noqa: E402
from tests.train.branching import SETTINGS, adapt, branches, branching_pairs, build, moved  # noqa: E402
from tests.train.told import Told  # noqa: E402
from torch import Tensor  # noqa: E402

from trajtree.errors import DataError, PolicyError, RunError  # noqa: E402
from trajtree.formats.pairs import PairMessages  # noqa: E402
from trajtree.models.transcript import ChatFormat  # noqa: E402
from trajtree.models.weights import load_tokenizer  # noqa: E402
from trajtree.store.progress import SILENT, Progress  # noqa: E402
from trajtree.train.examples import Example, PairExample, SftExample, check_pair, message_pairs  # noqa: E402
from trajtree.train.losses import Metrics, Objective, Scores, dpo, sft  # noqa: E402
from trajtree.train.packing import packs  # noqa: E402
from trajtree.train.settings import METHODS, OPTIMISERS, Optimisation, TrainSettings, resolved  # noqa: E402
from trajtree.train.trainer import History, train  # noqa: E402
from trajtree.trajectory import Message, Tokens  # noqa: E402

PAIRS = branching_pairs(8, seed=2)
BRANCHES = branches(PAIRS)
SGD = Optimisation(epochs=2, lr=0.05, batch=4, optimiser="sgd", schedule="constant")
Moved = dict[str, Tensor]


def trained(
    folder: Path,
    examples: Sequence[Example],
    objective: Objective,
    how: Optimisation,
    *,
    progress: Progress = SILENT,
    model: Any = None,
) -> tuple[Moved, dict[str, float]]:
    """By how much a training moves each adapter, and the last metrics."""
    model = adapt(build("llama")) if model is None else model
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    last = train(model, examples, objective, how, folder, seed=1, dtype="float32", progress=progress)
    return moved(model, before), last


def assert_equal(found: Moved, expected: Moved) -> None:
    """Within 1e-6, where the largest step is at least a thousand times as large."""
    assert found.keys() == expected.keys()
    assert max(float(change.abs().max()) for change in expected.values()) > 1e-3
    for name, change in expected.items():
        torch.testing.assert_close(found[name], change, rtol=0, atol=1e-6)


# --- one step, cut up in many ways ---


@pytest.mark.parametrize(
    ("examples", "objective"),
    [(BRANCHES, sft()), (PAIRS, dpo(0.3, label_smoothing=0.1, kl=0.2))],
    ids=["sft", "dpo"],
)
def test_accumulation_is_a_larger_batch(tmp_path: Path, examples: Sequence[Any], objective: Objective) -> None:
    """Batches of unequal numbers of tokens and unequal weights; packed as well as padded."""
    expected, last = trained(tmp_path, examples, objective, SGD)
    for cut in (replace(SGD, batch=1, accumulate=4), replace(SGD, batch=2, accumulate=2, packed=False)):
        found, figures = trained(tmp_path, examples, objective, cut)
        assert_equal(found, expected)
        assert figures["loss"] == pytest.approx(last["loss"], abs=1e-5)


def test_packs_accumulated_are_one_large_pack(tmp_path: Path) -> None:
    cut = packs(BRANCHES, lambda example: [example.tokens.ids], 45)
    assert len(cut) == 4 and len(set(map(len, cut))) > 1, "packs of unequal numbers of examples"
    how = replace(SGD, epochs=5)
    expected, last = trained(tmp_path, BRANCHES, sft(), replace(how, batch=None, pack_tokens=1000))
    found, figures = trained(tmp_path, BRANCHES, sft(), replace(how, batch=None, pack_tokens=45, accumulate=4))
    assert_equal(found, expected)
    assert figures["loss"] == pytest.approx(last["loss"], abs=1e-5)


def test_packs_of_pairs_accumulated_are_one_large_pack(tmp_path: Path) -> None:
    cut = packs(PAIRS, lambda example: [side.ids for side in example.sides], 60)
    assert sorted(map(len, cut)) == [2, 3, 3]
    how = replace(SGD, epochs=5)
    expected, _ = trained(tmp_path, PAIRS, dpo(0.3, kl=0.2), replace(how, batch=None, pack_tokens=1000))
    found, _ = trained(tmp_path, PAIRS, dpo(0.3, kl=0.2), replace(how, batch=None, pack_tokens=60, accumulate=3))
    assert_equal(found, expected)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma2", "gpt_oss"])
def test_packed_training_is_padded_training(tmp_path: Path, architecture: str) -> None:
    found = [
        trained(tmp_path, PAIRS, dpo(0.3), replace(SGD, packed=packed), model=adapt(build(architecture)))
        for packed in (True, False)
    ]
    assert_equal(found[0][0], found[1][0])
    assert found[0][1]["shared"] > 1.3 > found[1][1]["shared"]
    assert 0 <= found[0][1]["self_check"] < 1e-5


@pytest.mark.parametrize("how", [SGD, replace(SGD, batch=None, pack_tokens=60)], ids=["batches", "packs"])
def test_recomputing_changes_nothing(tmp_path: Path, how: Optimisation) -> None:
    expected, _ = trained(tmp_path, PAIRS, dpo(0.3), how)
    found, _ = trained(tmp_path, PAIRS, dpo(0.3), replace(how, recompute=True))
    assert_equal(found, expected)


def test_whole_models_are_tuned_against_another(tmp_path: Path) -> None:
    """Full tuning: packed as padded, and the reference stays as it was."""
    found = []
    for packed in (True, False):
        model, other = build("llama"), build("llama")
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        train(model, PAIRS, dpo(0.3), replace(SGD, packed=packed), tmp_path, seed=1, dtype="float32", reference=other)
        found.append(moved(model, before))
        assert all(torch.equal(p, before[n]) for n, p in other.named_parameters())
    assert len(found[0]) == len(before)
    assert_equal(*found)


def test_two_processes_are_one(tmp_path: Path) -> None:
    """Under torchrun with gloo: half the batch, or half the accumulated rows, in each."""
    script = Path(two_processes.__file__)
    done = subprocess.run(
        [*(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"), script, tmp_path],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(script.parents[2]), *sys.path]),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one = two_processes.trainings(tmp_path / "one")
    for rank in (0, 1):
        two = torch.load(tmp_path / f"{rank}.pt")
        for part, (moves, last) in one.items():
            assert_equal(two[part][0], moves)
            assert two[part][1]["loss"] == pytest.approx(last["loss"], abs=1e-5)
        for name in ("accuracy", "margin"):
            assert two["pairs"][1][name] == pytest.approx(one["pairs"][1][name], abs=1e-5)


# --- kill and resume ---


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 3])
def test_rows_resume_bit_for_bit(tmp_path: Path, after: int) -> None:
    # 4 rows: 2 steps an epoch, 6 in all. AdamW and its schedule: they too must go on as they were.
    how = Optimisation(epochs=3, lr=5e-3, pack_tokens=45, accumulate=2, checkpoint_steps=2)
    expected, last = trained(tmp_path / "unbroken", BRANCHES, sft(), how)

    def kill(done: int, total: int, metrics: dict[str, float]) -> None:
        assert total == 6
        if done == after:
            raise Killed

    with pytest.raises(Killed):
        trained(tmp_path / "broken", BRANCHES, sft(), how, progress=Told(kill))
    steps: list[int] = []
    found, again = trained(
        tmp_path / "broken", BRANCHES, sft(), how, progress=Told(lambda done, *_: steps.append(done))
    )
    assert steps == list(range(after, 7))
    assert all(torch.equal(found[name], change) for name, change in expected.items())
    assert again["loss"] == last["loss"]


def test_the_history_of_a_training_survives_a_kill(tmp_path: Path) -> None:
    """8 pairs, 4 to a step: 2 steps an epoch, 3 in all, so that the second epoch is a part of one."""
    how = replace(SGD, epochs=1.5, checkpoint_steps=1)
    histories: list[History] = []
    figures: list[dict[str, float]] = []

    def run(folder: Path, progress: Any) -> None:
        model = adapt(build("llama"))
        train(model, PAIRS, dpo(0.3), how, folder, seed=1, dtype="float32", progress=progress, watch=histories.append)

    def kill(done: int, *_: Any) -> None:
        if done == 2:
            raise Killed

    run(tmp_path / "unbroken", Told(lambda done, total, metrics: figures.append(metrics)))
    with pytest.raises(Killed):
        run(tmp_path / "broken", Told(kill))
    run(tmp_path / "broken", Told(lambda *_: None))
    whole, resumed = histories
    assert (whole.steps, len(whole.epochs), len(figures)) == (3, 2, 3)
    for name in ("loss", "chosen", "rejected"):
        per_step = [step[name] for step in figures]
        found = [epoch[name] for epoch in whole.epochs]
        assert found == pytest.approx([sum(per_step[:2]) / 2, per_step[2]])
        assert [epoch[name] for epoch in resumed.epochs] == pytest.approx(found)
    assert resumed.steps == 3 and whole.epochs[1]["chosen"] != 0


def spoil_missing(file: Path) -> None:
    file.unlink()


def spoil_shorter(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def spoil_zeroed(file: Path) -> None:
    """As a machine that went down leaves it: size and time are there, the content is not."""
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    file.write_bytes(bytes(file.stat().st_size))
    os.utime(file, ns=times)


def broken_off(folder: Path, after: int) -> Path:
    """A training that ended after so many of 6 steps; its newest checkpoint."""

    def kill(done: int, *_: Any) -> None:
        if done == after:
            raise Killed

    with pytest.raises(Killed):
        trained(folder, BRANCHES, sft(), EVERY_STEP, progress=Told(kill))
    return folder / "checkpoints" / f"checkpoint-{after - 1}"


EVERY_STEP = Optimisation(epochs=3, lr=5e-3, pack_tokens=45, accumulate=2, checkpoint_steps=1)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Moved:
    return trained(tmp_path_factory.mktemp("unbroken"), BRANCHES, sft(), EVERY_STEP)[0]


def resumed(folder: Path, unbroken: Moved) -> tuple[list[int], list[str]]:
    """The steps that a training goes on with, to where an unbroken one ends, and what it warns of."""
    steps: list[int] = []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found, _ = trained(folder, BRANCHES, sft(), EVERY_STEP, progress=Told(lambda done, *_: steps.append(done)))
    assert all(torch.equal(found[name], change) for name, change in unbroken.items())
    return steps, [str(w.message) for w in told if w.category is UserWarning]


@pytest.mark.parametrize("spoil", [spoil_missing, spoil_shorter, spoil_zeroed])
@pytest.mark.parametrize(
    "name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "adapter_model.safetensors"]
)
def test_a_torn_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, unbroken: Moved, name: str, spoil: Callable[[Path], None]
) -> None:
    newest = broken_off(tmp_path, after=4)
    spoil(newest / name)
    steps, (said,) = resumed(tmp_path, unbroken)
    assert steps == [3, 4, 5, 6]
    assert said.startswith(f"{newest / name}: ") and said.endswith(": the training goes on from checkpoint-2")


def test_where_no_checkpoint_is_whole_the_training_begins_anew(tmp_path: Path, unbroken: Moved) -> None:
    newest = broken_off(tmp_path, after=4)
    for checkpoint in newest.parent.iterdir():
        (checkpoint / "whole.json").unlink()
    steps, (said,) = resumed(tmp_path, unbroken)
    assert steps == [1, 2, 3, 4, 5, 6]
    both = [
        f"{newest.parent / name}: was not written to its end, or by an earlier trajtree"
        for name in ("checkpoint-3", "checkpoint-2")
    ]
    assert said == f"{'; '.join(both)}: the training begins anew"


def test_a_kill_after_the_last_step_loses_no_metrics(tmp_path: Path) -> None:
    def kill(metrics: dict[str, float]) -> None:
        raise Killed

    with pytest.raises(Killed):
        train(adapt(build("llama")), BRANCHES, sft(), EVERY_STEP, tmp_path, seed=1, dtype="float32", save=kill)
    told = Told()
    _, last = trained(tmp_path, BRANCHES, sft(), EVERY_STEP, progress=told)
    assert told.figures == [] and last["loss"] > 0 and "tokens/s" in last


@pytest.mark.parametrize("epochs", [0.5, 1.5, 2])
def test_after_the_last_checkpoint_no_step_is_left(tmp_path: Path, epochs: float) -> None:
    """Ended before the model was saved; also where the last epoch is a part of one."""

    def kill(metrics: dict[str, float]) -> None:
        raise Killed

    how = replace(SGD, epochs=epochs, batch=2, checkpoint_steps=3)
    expected, last = trained(tmp_path / "unbroken", PAIRS, dpo(0.3), how)
    with pytest.raises(Killed):
        train(adapt(build("llama")), PAIRS, dpo(0.3), how, tmp_path / "broken", seed=1, dtype="float32", save=kill)
    told, histories, model = Told(), list[History](), adapt(build("llama"))
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    folder = tmp_path / "broken"
    again = train(model, PAIRS, dpo(0.3), how, folder, seed=1, dtype="float32", progress=told, watch=histories.append)
    found = moved(model, before)
    assert told.figures == [] and histories[0].steps == 4 * epochs
    assert all(torch.equal(found[name], change) for name, change in expected.items())
    assert again["loss"] == last["loss"]


def test_a_whole_model_is_complete_after_the_last_checkpoint(tmp_path: Path) -> None:
    def kill(metrics: dict[str, float]) -> None:
        raise Killed

    how = replace(SGD, epochs=0.75, batch=4)
    whole, broken, resumed = (build("llama", tie_word_embeddings=True) for _ in range(3))
    train(whole, BRANCHES, sft(), how, tmp_path / "unbroken", seed=1, dtype="float32")
    with pytest.raises(Killed):
        train(broken, BRANCHES, sft(), how, tmp_path / "broken", seed=1, dtype="float32", save=kill)
    train(resumed, BRANCHES, sft(), how, tmp_path / "broken", seed=1, dtype="float32")
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), resumed.parameters(), strict=True))


# --- the attention afterwards ---


def test_attention_is_put_back(tmp_path: Path) -> None:
    model, other = build("llama"), build("llama", seed=1)
    seen = []
    train(
        model,
        PAIRS,
        dpo(0.3),
        SGD,
        tmp_path,
        seed=1,
        dtype="float32",
        reference=other,
        progress=Told(lambda *_: seen.append((model.config._attn_implementation, other.config._attn_implementation))),
    )
    assert set(seen) == {("trajtree", "trajtree")}
    assert (model.config._attn_implementation, other.config._attn_implementation) == ("sdpa", "sdpa")


def test_attention_is_put_back_after_an_error(tmp_path: Path) -> None:
    model = adapt(build("gemma2"))

    def kill(*_: Any) -> None:
        assert model.get_base_model().config._attn_implementation == "trajtree"
        raise Killed

    with pytest.raises(Killed):
        train(model, PAIRS, dpo(0.3), SGD, tmp_path, seed=1, dtype="float32", progress=Told(kill))
    assert model.get_base_model().config._attn_implementation == "eager"


@pytest.mark.parametrize("architecture", ["mamba", "bloom"])
def test_what_cannot_attend_along_trees_is_trained_padded(tmp_path: Path, architecture: str) -> None:
    model = build(architecture)
    before = getattr(model.config, "_attn_implementation", None)
    losses: list[float] = []
    with pytest.warns(UserWarning, match=rf"{type(model).__name__}: cannot .* padded instead, and nothing is shared"):
        change, last = trained(
            tmp_path,
            BRANCHES,
            sft(),
            replace(SGD, epochs=4, lr=0.2),
            model=model,
            progress=Told(lambda done, total, metrics: losses.append(metrics["loss"])),
        )
    assert sum(losses[-4:]) < sum(losses[:4]) and any(float(c.abs().max()) > 0 for c in change.values())
    assert last["shared"] <= 1 and last["self_check"] == 0
    assert getattr(model.config, "_attn_implementation", None) == before


def test_packed_training_does_not_warn(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        trained(tmp_path, BRANCHES, sft(), SGD)
    assert not [w for w in told if "padded" in str(w.message)]


# --- refusals ---


def test_optimisers_are_those_that_transformers_has_and_that_need_no_names_of_modules() -> None:
    from transformers.training_args import OptimizerNames

    assert {name.value for name in OptimizerNames} - set(OPTIMISERS) == {
        name.value for name in OptimizerNames if name.value.startswith(("galore", "apollo"))
    }
    assert resolved(TrainSettings(), METHODS["sft"]).optimiser == Optimisation().optimiser == "adamw_torch"


@pytest.mark.parametrize(("name", "near"), [("adamw", "adamw_torch"), ("adamw_touch", "adamw_torch")])
def test_an_optimiser_that_does_not_exist_is_refused_with_the_settings(name: str, near: str) -> None:
    why = f"^optimiser '{name}': .*'{name}' is not one of adamw_torch, adamw_torch_fused, .*; did you mean '{near}'"
    with pytest.raises(DataError, match=why):
        resolved(TrainSettings(optimiser=name), METHODS["sft"])


def test_a_loss_that_is_no_number(tmp_path: Path) -> None:
    """Step and examples are named; nothing of that step reaches the weights."""
    whole = dpo(0.3)

    def broken(scores: Scores, batch: Any) -> tuple[Tensor, Metrics]:
        losses, metrics = whole.loss(scores, batch)
        return (losses * float("nan") if "pair 5" in batch.names else losses), metrics

    model, steps = adapt(build("llama")), []
    with pytest.raises(RunError, match=r"the loss is nan at step (\d), on pair 5; lower the learning rate") as caught:
        trained(
            tmp_path,
            PAIRS,
            replace(whole, loss=broken),
            replace(SGD, batch=1),
            model=model,
            progress=Told(lambda done, *_: steps.append(done)),
        )
    assert f"at step {len(steps) + 1}, " in str(caught.value)
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


@pytest.mark.parametrize("agent", [(), ((0, 1),)], ids=["no reply", "only the very first token"])
@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_a_mute_example_is_refused_by_name(tmp_path: Path, side: str, agent: Any) -> None:
    pair = replace(PAIRS[3], name="toy/7, fork at node 4")
    mute = replace(pair, **{side: Tokens(getattr(pair, side).ids, agent)})
    with pytest.raises(DataError, match=r"toy/7, fork at node 4: has no trained token"):
        trained(tmp_path, [*PAIRS[:2], mute], dpo(0.1), SGD)
    with pytest.raises(DataError, match="an example: has no trained token"):
        trained(tmp_path, [SftExample(Tokens((5, 6), agent))], sft(), SGD)


def test_no_example_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        trained(tmp_path, [], sft(), SGD)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"vocab_size": SETTINGS["vocab_size"] + 8}, "vocabulary"),
        ({"dtype": torch.bfloat16}, "dtype"),
        ({"attn_implementation": "eager"}, "attention"),
    ],
)
def test_a_reference_that_computes_otherwise(tmp_path: Path, other: dict[str, Any], what: str) -> None:
    reference = build("llama", **other)
    model = build("llama")
    with pytest.raises(PolicyError, match=f"the reference differs from the policy in its {what}"):
        train(model, PAIRS, dpo(0.1), SGD, tmp_path, seed=1, dtype="float32", reference=reference)
    assert model.config._attn_implementation == "sdpa"


@pytest.fixture(scope="module")
def chat(tiny_words: Path) -> ChatFormat:
    return ChatFormat(load_tokenizer(str(tiny_words)), "tiny")


def test_pairs_that_teach_nothing(chat: ChatFormat) -> None:
    side = (Message("assistant", "look"),)
    prompt = (Message("system", "You stand in a room."), Message("user", "Keys and doors."))
    pair = PairMessages(prompt, side, side, provenance={"row": 12})
    with pytest.raises(DataError, match="pair row 12: the sides of the pair are equal"):
        message_pairs([pair], chat, context=4096)


def test_handmade_pairs_are_checked_too(tmp_path: Path) -> None:
    one, other = Tokens((5, 6, 7, 8), ((2, 4),)), Tokens((5, 9, 7, 9), ((2, 4),))
    for pair, what in ((PairExample(one, one, 1.0, "mine"), "equal"), (PairExample(one, other, 1.0, "mine"), "differ")):
        with pytest.raises(DataError, match=f"mine: the sides of the pair .*{what}"):
            trained(tmp_path, [pair], dpo(0.1), SGD)


def test_sides_that_differ_before_their_fork() -> None:
    start = ((3, 5),)
    with pytest.raises(DataError, match="row 12: the sides of the pair differ before their fork"):
        check_pair(Tokens((5, 6, 7, 8, 9), start), Tokens((5, 6, 4, 8, 10), start), "row 12")
    check_pair(Tokens((5, 6, 7, 8, 9), start), Tokens((5, 6, 7, 8, 10), start), "row 12")
