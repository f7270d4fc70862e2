"""The losses against plain computations of their own, and training that is killed and goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from tests.tiny import save_model  # noqa: E402
from tests.toy import DOMAIN, Toy  # noqa: E402
from tests.train.told import Told  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402

from trajtree.errors import DataError, PolicyError, RecipeError  # noqa: E402
from trajtree.models.transcript import ChatFormat, tokenise  # noqa: E402
from trajtree.models.weights import ModelRef, load_model, load_tokenizer, pick_device  # noqa: E402
from trajtree.store.progress import SILENT, Progress  # noqa: E402
from trajtree.train.batch import Batch, collate  # noqa: E402
from trajtree.train.examples import PairExample, SftExample, pair_examples, sft_examples  # noqa: E402
from trajtree.train.losses import Objective, dpo, sft  # noqa: E402
from trajtree.train.scoring import logits_of, scores_of  # noqa: E402
from trajtree.train.settings import Lora, Optimisation  # noqa: E402
from trajtree.train.trainable import with_adapter  # noqa: E402
from trajtree.train.trainer import train  # noqa: E402
from trajtree.train.tree_attention import use_tree_attention  # noqa: E402
from trajtree.trajectory import Message, Outcome, Sampling, Step, Tokens, Trajectory  # noqa: E402
from trajtree.trees.forks import pairs  # noqa: E402
from trajtree.trees.merge import build_tree  # noqa: E402
from trajtree.trees.pair import Pair  # noqa: E402

CONTEXT = 4096


def played(task: str, sample: int, actions: Sequence[str]) -> Trajectory:
    env = Toy()
    observation = env.reset(task)
    messages, steps = [Message("system", env.instruction)], []
    for action in actions:
        result = env.step(action)
        messages += [Message("user", observation), Message("assistant", action)]
        steps.append(Step(observation, action, reward=result.reward))
        observation = result.observation
    score = min(1.0, max(0.0, sum(s.reward for s in steps)))
    return Trajectory(
        task, sample, "test", "toy", "1", 0, Sampling(), tuple(messages), tuple(steps), score, Outcome.COMPLETED
    )


EXPLORED = [
    played("toy/0", 0, ["take red key", "open red door"]),
    played("toy/0", 1, ["take red key", "look", "open blue door"]),
    played("toy/0", 2, ["look", "take blue key", "open blue door"]),
    played("toy/1", 0, ["take blue key", "look", "open blue door"]),
    played("toy/1", 1, ["take blue key", "look", "drop blue key", "look", "look"]),
]
BY_KEY = {t.key: t for t in EXPLORED}
FORKS = [
    pair for task in ("toy/0", "toy/1") for pair in pairs(build_tree(t for t in EXPLORED if t.task == task), per_fork=2)
]


@pytest.fixture(scope="module")
def chat(tiny_words: Path) -> ChatFormat:
    return ChatFormat(load_tokenizer(str(tiny_words)), "tiny")


@pytest.fixture(scope="module")
def demonstrations(chat: ChatFormat) -> list[SftExample]:
    shown = [DOMAIN.demonstrate(Toy(), task) for task in DOMAIN.tasks("toy", "train")[:12]]
    return sft_examples([t for t in shown if isinstance(t, Trajectory)], chat, context=CONTEXT)


@pytest.fixture(scope="module")
def sides(chat: ChatFormat) -> list[PairExample]:
    assert len(FORKS) >= 3
    return pair_examples(FORKS, BY_KEY, chat, context=CONTEXT)


@pytest.fixture
def model(tiny_words: Path) -> Any:
    return load_model(ModelRef(str(tiny_words)), dtype="float32", device="cpu")


def adapted(folder: Path, *, spread: float = 0.0, seed: int = 0) -> Any:
    """The tiny model under an adapter, which does something when `spread` is above 0."""
    model = with_adapter(ModelRef(str(folder)), Lora(4, 8), dtype="float32", seed=seed)
    if spread:
        torch.manual_seed(3)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=spread)
    return model


def log_probabilities(model: Any, tokens: Tokens) -> torch.Tensor:
    """[trained, vocabulary], one sequence alone through the whole model."""
    logits = model(input_ids=torch.tensor([tokens.ids], device=model.device)).logits[0].float()
    trained = [p for start, end in tokens.agent for p in range(start, end)]
    return logits.log_softmax(-1)[[p - 1 for p in trained]]


def agent_ids(tokens: Tokens) -> torch.Tensor:
    return torch.tensor([i for start, end in tokens.agent for i in tokens.ids[start:end]])


# --- sequences ---


def test_the_agents_words_are_trained_and_nothing_else(chat: ChatFormat) -> None:
    (example,) = sft_examples([EXPLORED[2]], chat, context=CONTEXT)
    said = [chat.decode(example.tokens.ids[start:end]) for start, end in example.tokens.agent]
    assert said == [f"{s.action}<|im_end|>" for s in EXPLORED[2].steps]
    rendered = chat._render(EXPLORED[2].messages, (), prompt=False)
    assert chat.decode(example.tokens.ids) == rendered.removesuffix("\n")


def test_both_sides_of_a_pair_begin_alike(chat: ChatFormat, sides: list[PairExample]) -> None:
    for pair, example in zip(FORKS, sides, strict=True):
        start = example.chosen.agent[0][0]
        assert example.rejected.agent[0][0] == start
        assert example.chosen.ids[:start] == example.rejected.ids[:start]
        for side, sample in ((example.chosen, pair.chosen_sample), (example.rejected, pair.rejected_sample)):
            said = [chat.decode(side.ids[a:b]).removesuffix("<|im_end|>") for a, b in side.agent]
            assert said == [s.action for s in BY_KEY[pair.task, sample].steps[pair.depth :]]
        assert example.chosen.ids != example.rejected.ids


def test_the_rejected_side_takes_the_chosen_prefix(chat: ChatFormat) -> None:
    """Merged steps may be spelt differently: the prefix is the chosen side's, token for token."""
    spelt = tuple(
        structs.replace(m, content=m.content.upper()) if m.content == "take red key" else m
        for m in EXPLORED[1].messages
    )
    other = {**BY_KEY, ("toy/0", 1): replace(EXPLORED[1], messages=spelt)}
    pair = Pair("toy/0", 1, 1, 0, 1, 1.0, 0.0, 1, 1, "similar")
    (example,) = pair_examples([pair], other, chat, context=CONTEXT)
    start = example.chosen.agent[0][0]
    assert example.chosen.ids[:start] == example.rejected.ids[:start]
    assert "TAKE" not in chat.decode(example.rejected.ids)
    assert "open blue door" in chat.decode(example.rejected.ids)


def test_a_template_that_rewrites_history_makes_no_pairs(tiny_words: Path, chat: ChatFormat) -> None:
    tokenizer = load_tokenizer(str(tiny_words))
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "message['content']", "(message['content'] if message['role'] != 'assistant' or loop.last else '...')"
    )
    with pytest.raises(RecipeError, match="rewrites earlier turns"):
        pair_examples(FORKS, BY_KEY, ChatFormat(tokenizer, "qwen"), context=CONTEXT)


def test_what_an_engine_said_is_trained_as_it_said_it(tiny_words: Path) -> None:
    """Also where the template would not write it so: here the prompt begins thoughts, which are never closed."""
    tokenizer = load_tokenizer(str(tiny_words))
    tokenizer.chat_template = tokenizer.chat_template.replace("assistant\n", "assistant\n<think>\n")
    chat = ChatFormat(tokenizer, "thinker")
    said = tokenise(chat, EXPLORED[0].messages, verbatim=True)
    assert len(said) == 2
    engine = replace(EXPLORED[0], tokens=said)
    assert [e.tokens for e in sft_examples([engine], chat, context=CONTEXT)] == [*said]
    with pytest.raises(PolicyError, match="does not write a reply where its prompt for one ends"):
        sft_examples([EXPLORED[0]], chat, context=CONTEXT)


def test_too_long_is_refused_or_left_out(chat: ChatFormat) -> None:
    short = DOMAIN.demonstrate(Toy(), "toy/0")
    assert isinstance(short, Trajectory)
    length = len(sft_examples([short], chat, context=CONTEXT)[0].tokens.ids)
    long = replace(short, messages=(Message("system", "x " * length), *short.messages[1:]))
    many = [replace(short, sample=i) for i in range(199)]
    kept = sft_examples([*many[:50], long, *many[50:]], chat, context=length)
    assert len(kept) == 199
    assert all(len(e.tokens.ids) == length for e in kept)
    with pytest.raises(DataError, match=rf"3 of 202 trajectories are longer than {length} tokens \(the longest has"):
        sft_examples([*many, long, long, long], chat, context=length)
    with pytest.raises(DataError, match="1 of 1 trajectories"):
        sft_examples([short], chat, context=length - 1)
    assert len(sft_examples([short], chat, context=length)) == 1


def test_a_pair_is_as_long_as_its_longer_side(chat: ChatFormat, sides: list[PairExample]) -> None:
    longest = max(len(side.ids) for e in sides for side in (e.chosen, e.rejected))
    assert pair_examples(FORKS, BY_KEY, chat, context=longest) == sides
    with pytest.raises(DataError, match=rf"of {len(sides)} pairs are longer than {longest - 1} tokens"):
        pair_examples(FORKS, BY_KEY, chat, context=longest - 1)


def test_nothing_to_train_on(chat: ChatFormat) -> None:
    with pytest.raises(DataError, match="there are no trajectories to train on"):
        sft_examples([], chat, context=CONTEXT)
    with pytest.raises(DataError, match="there are no pairs to train on"):
        pair_examples([], BY_KEY, chat, context=CONTEXT)


# --- losses ---


def value(model: Any, batch: Batch, objective: Objective) -> tuple[torch.Tensor, dict[str, float]]:
    """Weighted mean over the items of one batch, as the trainer takes it over those of a step."""
    batch = batch.to(model.device)
    losses, metrics = objective.loss(scores_of(model, batch, objective), batch)
    weights = objective.items(batch)
    return (losses * weights).sum() / weights.sum(), metrics


def sft_loss(model: Any, examples: Sequence[SftExample], packed: bool = False) -> torch.Tensor:
    if packed:
        use_tree_attention(model)
    return value(model, collate(examples, packed=packed), sft())[0]


both_ways = pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])


@both_ways
def test_sft_loss_is_that_of_labels(
    model: Any, demonstrations: list[SftExample], chat: ChatFormat, packed: bool
) -> None:
    mixed = [*demonstrations[:3], *sft_examples(EXPLORED, chat, context=CONTEXT)]
    width = max(len(e.tokens.ids) for e in mixed)
    ids = torch.full((len(mixed), width), 5)
    labels = torch.full((len(mixed), width), -100)
    attention = torch.zeros(len(mixed), width, dtype=torch.long)
    for row, example in enumerate(mixed):
        ids[row, : len(example.tokens.ids)] = torch.tensor(example.tokens.ids)
        attention[row, : len(example.tokens.ids)] = 1
        for start, end in example.tokens.agent:
            labels[row, start:end] = ids[row, start:end]
    expected = model(input_ids=ids, attention_mask=attention, labels=labels).loss
    found = sft_loss(model, mixed, packed)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_labels(model: Any, demonstrations: list[SftExample]) -> None:
    tokens = demonstrations[0].tokens
    sft_loss(model, demonstrations[:1]).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    labels = torch.full((1, len(tokens.ids)), -100)
    for start, end in tokens.agent:
        labels[0, start:end] = torch.tensor(tokens.ids[start:end])
    model(input_ids=torch.tensor([tokens.ids]), labels=labels).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_what_the_world_says_is_no_target(model: Any, demonstrations: list[SftExample]) -> None:
    """Nothing after the last trained token, and no observation as a target, moves the loss."""
    tokens = demonstrations[0].tokens
    trained = {p for start, end in tokens.agent for p in range(start, end)}
    batch = collate([SftExample(tokens)], packed=False)
    assert set(batch.column.tolist()) == {p - 1 for p in trained}
    assert batch.target.tolist() == [tokens.ids[p] for p in sorted(trained)]
    first = Tokens(tokens.ids, tokens.agent[:1])
    end = tokens.agent[0][1]
    other = Tokens(tokens.ids[:end] + tuple(7 for _ in tokens.ids[end:]), tokens.agent[:1])
    assert sft_loss(model, [SftExample(first)]) == sft_loss(model, [SftExample(other)])
    logits = model(input_ids=torch.tensor([tokens.ids])).logits[0]
    alone = cross_entropy(logits[sorted(p - 1 for p in trained)].float(), agent_ids(tokens))
    torch.testing.assert_close(value(model, batch, sft())[0], alone, rtol=1e-5, atol=1e-6)


def slow_tree_dpo(model: Any, examples: Sequence[PairExample], beta: float, kl: float) -> tuple[Any, Any, Any]:
    """(loss, margins, divergence): a forward pass a sequence, everything written out."""
    losses, margins, divergences = [], [], []
    for example in examples:
        gains, away = [], []
        for side in (example.chosen, example.rejected):
            with model.disable_adapter(), torch.no_grad():
                reference = log_probabilities(model, side)
            policy = log_probabilities(model, side)
            said = agent_ids(side)[:, None].to(policy.device)
            gains.append(policy.gather(1, said).sum() - reference.gather(1, said).sum())
            away += [(p.exp() * (p - r)).sum() for p, r in zip(policy, reference, strict=True)]
        divergences.append(torch.stack(away).mean())
        margins.append(beta * (gains[0] - gains[1]))
        losses.append(-torch.log(1 / (1 + torch.exp(-margins[-1]))))
    divergence = torch.stack(divergences).mean()
    return torch.stack(losses).mean() + kl * divergence, torch.stack(margins), divergence


def tree_dpo_loss(
    model: Any, sides: Sequence[PairExample], *, beta: float, kl: float, packed: bool = False
) -> tuple[torch.Tensor, dict[str, float]]:
    if packed:
        use_tree_attention(model)
    return value(model, collate(sides, packed=packed), dpo(beta, kl=kl))


@both_ways
@pytest.mark.parametrize(("beta", "kl"), [(0.1, 0.1), (0.5, 0.0), (2.0, 3.0)])
def test_tree_dpo_loss_is_the_slow_one(
    tiny_words: Path, sides: list[PairExample], beta: float, kl: float, packed: bool
) -> None:
    model = adapted(tiny_words, spread=0.1)
    expected, margins, divergence = (value.detach() for value in slow_tree_dpo(model, sides, beta, kl))
    loss, metrics = tree_dpo_loss(model, sides, beta=beta, kl=kl, packed=packed)
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-4, atol=1e-5)
    assert metrics["margin"] == pytest.approx(float(margins.mean()), rel=1e-3, abs=1e-5)
    assert metrics["accuracy"] == pytest.approx(float((margins > 0).float().mean()))
    assert metrics.get("kl", float(divergence)) == pytest.approx(float(divergence), rel=1e-3, abs=1e-6)
    assert ("kl" in metrics) == (kl > 0)
    assert float(divergence) > 1e-3 and float(margins.abs().min()) > 1e-4, "the adapter must do something"


@both_ways
def test_tree_dpo_gradients_are_the_slow_ones(tiny_words: Path, sides: list[PairExample], packed: bool) -> None:
    model = adapted(tiny_words, spread=0.1)
    tree_dpo_loss(model, sides, beta=0.3, kl=0.2, packed=packed)[0].backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    assert found and all("lora" in name for name in found)
    model.zero_grad()
    slow_tree_dpo(model, sides, 0.3, 0.2)[0].backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-5)


def test_without_kl_it_is_trls_dpo(tiny_words: Path, sides: list[PairExample]) -> None:
    """TRL's sigmoid loss: -logsigmoid(beta * ((pi_c - pi_r) - (ref_c - ref_r))) over summed completion log-ratios."""
    model = adapted(tiny_words, spread=0.1)

    def summed(side: Tokens) -> torch.Tensor:
        found = log_probabilities(model, side)
        return found.gather(1, agent_ids(side)[:, None].to(found.device)).sum()

    losses = []
    with torch.no_grad():
        for example in sides:
            policy = summed(example.chosen) - summed(example.rejected)
            with model.disable_adapter():
                reference = summed(example.chosen) - summed(example.rejected)
            losses.append(-torch.nn.functional.logsigmoid(0.1 * (policy - reference)))
    loss, _ = tree_dpo_loss(model, sides, beta=0.1, kl=0.0)
    torch.testing.assert_close(loss, torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)


def test_the_reference_is_the_model_without_adapter(tiny_words: Path, sides: list[PairExample]) -> None:
    model = adapted(tiny_words, spread=0.1)
    plain = load_model(ModelRef(str(tiny_words)), dtype="float32", device=pick_device())
    with torch.no_grad(), model.disable_adapter():
        without = log_probabilities(model, sides[0].chosen)
    with torch.no_grad():
        torch.testing.assert_close(without, log_probabilities(plain, sides[0].chosen))
        assert (log_probabilities(model, sides[0].chosen) - without).abs().max() > 1e-2


def test_the_first_step_knows_no_difference(tiny_words: Path, sides: list[PairExample]) -> None:
    loss, metrics = tree_dpo_loss(adapted(tiny_words), sides, beta=0.1, kl=0.1)
    assert metrics["margin"] == 0 and metrics["kl"] == 0 and metrics["accuracy"] == 0
    assert float(loss.detach()) == pytest.approx(math.log(2), abs=1e-6)


def test_scaled_logits_are_trained_as_they_are(
    tmp_path: Path, tiny_words: Path, demonstrations: list[SftExample]
) -> None:
    tokenizer = load_tokenizer(str(tiny_words))
    granite = save_model(tmp_path / "granite", tokenizer, "Granite", logits_scaling=8.0, attention_multiplier=0.3)
    scaled = load_model(ModelRef(str(granite)), dtype="float32", device="cpu")
    tokens = demonstrations[0].tokens
    places = [p for start, end in tokens.agent for p in range(start - 1, end - 1)]
    expected = cross_entropy(scaled(input_ids=torch.tensor([tokens.ids])).logits[0][places], agent_ids(tokens))
    for packed in (False, True):
        torch.testing.assert_close(sft_loss(scaled, demonstrations[:1], packed), expected, rtol=1e-5, atol=1e-6)


# --- training ---


def how(**changes: Any) -> Optimisation:
    return Optimisation(
        **{"epochs": 1, "lr": 5e-3, "batch": 2, "checkpoint_steps": 2, "deterministic": True, **changes}
    )


def run_sft(model: Any, examples: Sequence[SftExample], folder: Path, progress: Progress = SILENT) -> dict[str, float]:
    return train(model, examples, sft(), how(), folder, seed=1, dtype="float32", progress=progress)


def run_dpo(model: Any, examples: Sequence[PairExample], folder: Path, progress: Progress = SILENT) -> dict[str, float]:
    six = how(epochs=6 / math.ceil(len(examples) / 2))
    return train(model, examples, dpo(0.1, kl=0.1), six, folder, seed=1, dtype="float32", progress=progress)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class Killed(Exception):
    pass


def kill_after(steps: int) -> Progress:
    def on_step(done: int, total: int, figures: dict[str, float]) -> None:
        if done == steps:
            raise Killed

    return Told(on_step)


def test_training_learns_and_tells(tiny_words: Path, tmp_path: Path, demonstrations: list[SftExample]) -> None:
    model = adapted(tiny_words)
    before = float(sft_loss(model, demonstrations).detach())
    told: list[tuple[int, int, float]] = []
    last = run_sft(model, demonstrations, tmp_path, Told(lambda done, total, m: told.append((done, total, m["loss"]))))
    assert [(done, total) for done, total, _ in told] == [(i, 6) for i in range(1, 7)]
    assert last["loss"] == told[-1][2]
    assert float(sft_loss(model, demonstrations).detach()) < before - 0.05
    assert not (tmp_path / "checkpoints").exists()


def test_tree_dpo_parts_the_sides(tiny_words: Path, tmp_path: Path, sides: list[PairExample]) -> None:
    model = adapted(tiny_words)
    first: list[dict[str, float]] = []
    last = run_dpo(model, sides, tmp_path, Told(lambda done, total, m: first.append(dict(m))))
    assert first[0]["margin"] == pytest.approx(0, abs=1e-6)
    assert last["margin"] > 0 and last["kl"] > 0
    names = {"loss", "margin", "kl", "accuracy", "chosen", "rejected", "tokens/s", "shared", "self_check"}
    assert set(last) == names
    assert last["shared"] > 1.5 and last["self_check"] < 1e-4


@pytest.mark.parametrize("after", [1, 4, 5])
@pytest.mark.parametrize("run", [run_sft, run_dpo])
def test_a_killed_training_goes_on_to_the_same_weights(
    tiny_words: Path,
    tmp_path: Path,
    demonstrations: list[SftExample],
    sides: list[PairExample],
    run: Callable[..., dict[str, float]],
    after: int,
) -> None:
    examples = demonstrations if run is run_sft else sides
    unbroken = adapted(tiny_words)
    metrics = run(unbroken, examples, tmp_path / "unbroken")
    with pytest.raises(Killed):
        run(adapted(tiny_words), examples, tmp_path / "broken", kill_after(after))
    assert any((tmp_path / "broken" / "checkpoints").iterdir()) == (after > 2)
    steps: list[int] = []
    resumed = adapted(tiny_words)
    again = run(resumed, examples, tmp_path / "broken", Told(lambda done, total, m: steps.append(done)))
    assert steps[-1] == 6 and steps[0] == {1: 1, 4: 3, 5: 5}[after]
    assert same(weights(resumed), weights(unbroken))
    assert {name: again[name] for name in metrics if name not in ("tokens/s", "shared")} == {
        name: metrics[name] for name in metrics if name not in ("tokens/s", "shared")
    }


def test_a_torn_checkpoint_is_skipped(tiny_words: Path, tmp_path: Path, demonstrations: list[SftExample]) -> None:
    unbroken = adapted(tiny_words)
    run_sft(unbroken, demonstrations, tmp_path / "unbroken")
    for name, tear in {
        "missing": lambda path: path.unlink(),
        "cut": lambda path: path.write_text(path.read_text()[:50]),
    }.items():
        with pytest.raises(Killed):
            run_sft(adapted(tiny_words), demonstrations, tmp_path / name, kill_after(5))
        checkpoints = tmp_path / name / "checkpoints"
        assert sorted(p.name for p in checkpoints.iterdir()) == ["checkpoint-2", "checkpoint-4"]
        tear(checkpoints / "checkpoint-4" / "trainer_state.json")
        steps: list[int] = []
        resumed = adapted(tiny_words)
        with pytest.warns(UserWarning, match="checkpoint-4.*: the training goes on from checkpoint-2"):
            run_sft(resumed, demonstrations, tmp_path / name, Told(lambda done, total, m, s=steps: s.append(done)))
        assert steps == [3, 4, 5, 6]
        assert same(weights(resumed), weights(unbroken))


def test_the_seed_decides(tiny_words: Path, tmp_path: Path, demonstrations: list[SftExample]) -> None:
    trained = []
    for seed in (1, 1, 2):
        model = adapted(tiny_words, seed=seed)
        train(model, demonstrations, sft(), how(), tmp_path, seed=seed, dtype="float32")
        trained.append(weights(model))
    assert same(trained[0], trained[1]) and not same(trained[0], trained[2])


def test_nothing_trained_is_refused(tiny_words: Path, tmp_path: Path, demonstrations: list[SftExample]) -> None:
    mute = SftExample(Tokens(demonstrations[0].tokens.ids, ()))
    with pytest.raises(DataError, match="no trained token"):
        run_sft(adapted(tiny_words), [mute, *demonstrations], tmp_path)


def test_only_the_adapter_moves(tiny_words: Path, tmp_path: Path, demonstrations: list[SftExample]) -> None:
    model = adapted(tiny_words)
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    run_sft(model, demonstrations, tmp_path)
    for name, parameter in model.named_parameters():
        if name in frozen:
            assert torch.equal(parameter, frozen[name])


def test_a_rounded_base_under_a_precise_adapter(
    tiny_words: Path, tmp_path: Path, demonstrations: list[SftExample]
) -> None:
    """As recipes train by default: a bfloat16 base, and float32 adapters that move."""
    model = with_adapter(ModelRef(str(tiny_words)), Lora(4, 8), dtype="bfloat16", seed=0)
    before = weights(model)
    losses: list[float] = []
    run_sft(model, demonstrations, tmp_path, Told(lambda done, total, m: losses.append(m["loss"])))
    assert {p.dtype for p in before.values()} == {torch.float32}
    assert losses[-1] < losses[0]
    assert not same(before, weights(model))


def test_merged_adapters_are_the_tuned_model(
    tiny_words: Path, tmp_path: Path, demonstrations: list[SftExample], sides: list[PairExample]
) -> None:
    model = adapted(tiny_words)
    run_sft(model, demonstrations, tmp_path)
    model.save_pretrained(tmp_path / "model")
    merged = load_model(ModelRef(str(tiny_words), (str(tmp_path / "model"),)), dtype="float32", device=pick_device())
    batch = collate([SftExample(sides[0].chosen)], packed=False).to(model.device)
    with torch.no_grad():
        tuned, untuned = logits_of(model.eval(), batch), logits_of(adapted(tiny_words), batch)
        torch.testing.assert_close(logits_of(merged, batch), tuned, rtol=1e-4, atol=1e-4)
    assert (tuned - untuned).abs().max() > 0.1
