"""Trained on, a branched episode is its whole path: tokens, masks and losses are those of whole episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from tests.toy import COLOURS, Toy  # noqa: E402

from trajtree.models.transcript import ChatFormat, tokenise  # noqa: E402
from trajtree.models.weights import ModelRef, load_model, load_tokenizer  # noqa: E402
from trajtree.train.batch import collate  # noqa: E402
from trajtree.train.examples import pair_examples, sft_examples  # noqa: E402
from trajtree.train.losses import sft  # noqa: E402
from trajtree.train.scoring import scores_of  # noqa: E402
from trajtree.trajectory import Message, Origin, Outcome, Sampling, Step, Tokens, Trajectory  # noqa: E402
from trajtree.trees.forks import pairs  # noqa: E402
from trajtree.trees.merge import build_tree  # noqa: E402

ACTIONS = ("look", *(f"take {colour} key" for colour in COLOURS[:2]), "open red door")


@pytest.fixture(scope="module")
def chat(tiny_words: Path) -> ChatFormat:
    return ChatFormat(load_tokenizer(str(tiny_words)), "tiny")


@pytest.fixture(scope="module")
def model(tiny_words: Path) -> Any:
    return load_model(ModelRef(str(tiny_words)), dtype="float32", device="cpu")


def played(sample: int, actions: Sequence[str], chat: ChatFormat) -> Trajectory:
    """With the tokens of an engine that spells every word letter by letter, so that nothing is tokenised again."""
    env, steps = Toy(), []
    observation = env.reset("toy/0")
    messages = [Message("system", env.instruction), Message("user", observation)]
    for action in actions:
        result = env.step(action)
        steps.append(Step(observation, action, reward=result.reward))
        observation = result.observation
        messages += [Message("assistant", action), Message("user", observation)]
        if result.terminated or result.truncated:
            break
    score = min(1.0, max(0.0, sum(s.reward for s in steps)))
    end = Outcome.COMPLETED if result.terminated else Outcome.TRUNCATED
    tokens = tuple(spelt(t, chat) for t in tokenise(chat, messages))
    return Trajectory(
        "toy/0", sample, "x", "toy", "1", 0, Sampling(), tuple(messages), tuple(steps), score, end, tokens
    )


def spelt(tokens: Tokens, chat: ChatFormat) -> Tokens:
    ids: list[int] = []
    agent = []
    place = 0
    for start, end in tokens.agent:
        ids += tokens.ids[place:start]
        begin = len(ids)
        for letter in chat.decode(tokens.ids[start : end - 1]):
            ids += chat.encode(letter)
        ids.append(tokens.ids[end - 1])
        agent.append((begin, len(ids)))
        place = end
    return Tokens(tuple(ids), tuple(agent))


def branched(whole: Sequence[Trajectory]) -> list[Trajectory]:
    """Each says that it took over all that an earlier one has in common with it."""
    found: list[Trajectory] = []
    for one in whole:
        said = [s.action for s in one.steps]
        shared = {
            other.sample: next(
                (i for i, (a, b) in enumerate(zip(said, [s.action for s in other.steps], strict=False)) if a != b),
                min(len(said), len(other.steps)),
            )
            for other in found
        }
        parent = max(shared, key=lambda sample: shared[sample], default=None)
        origin = Origin(parent, shared[parent]) if parent is not None and shared[parent] else None
        found.append(replace(one, origin=origin))
    return found


@settings(max_examples=40, deadline=None)
@given(plays=st.lists(st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=4), min_size=2, max_size=6))
def test_tokens_masks_and_losses(plays: list[list[str]], chat: ChatFormat, model: Any) -> None:
    whole = [played(sample, actions, chat) for sample, actions in enumerate(plays)]
    parts = branched(whole)
    assert sft_examples(parts, chat, context=4096) == sft_examples(whole, chat, context=4096)
    found = pairs(build_tree(whole), per_fork=3)
    if not found:
        return
    sides = [pair_examples(found, {t.key: t for t in given_}, chat, context=4096) for given_ in (whole, parts)]
    assert sides[0] == sides[1]
    assert all(turn[0] >= side.agent[0][0] for pair in sides[1] for side in pair.sides for turn in side.agent)
    batches = [collate(pair, packed=False) for pair in sides]
    losses = [sft().loss(scores_of(model, batch, sft()), batch)[0] for batch in batches]
    assert torch.equal(losses[0], losses[1])


def test_pairs_of_branched_episodes_are_about_the_right_replies(chat: ChatFormat) -> None:
    """The prefix of one step on the chosen side, of two on the rejected one: their replies are those of the fork."""
    runs = [
        played(0, ["look", "look", "look", "open red door"], chat),
        replace(played(1, ["look", "take red key", "open red door"], chat), origin=Origin(0, 1)),
        replace(played(2, ["look", "look", "take blue key", "look"], chat), origin=Origin(0, 2)),
    ]
    tree = build_tree(runs)
    (pair,) = [p for p in pairs(tree, per_tree=99) if p.depth == 1]
    (example,) = pair_examples([pair], {t.key: t for t in runs}, chat, context=4096, step_only=True)
    start, end = example.chosen.agent[0]
    assert chat.decode(example.chosen.ids[start:end]) == "take red key<|im_end|>"
    start, end = example.rejected.agent[0]
    assert chat.decode(example.rejected.ids[start:end]) == "look<|im_end|>"


def test_ranges_that_are_not_those_of_the_replies_are_refused(chat: ChatFormat) -> None:
    run = played(0, ["look", "look"], chat)
    (tokens,) = run.tokens
    with pytest.raises(ValueError, match="tokens have 1 ranges of the agent's, messages have 2 replies for 2 steps"):
        replace(run, tokens=(replace(tokens, agent=tokens.agent[1:]),))


@pytest.mark.parametrize("context_turns", [0, 1])
def test_log_probabilities_of_the_engine_change_no_example(chat: ChatFormat, context_turns: int) -> None:
    plays = (["look", "take red key", "open red door"], ["look", "take blue key", "look"])
    plain = [with_context(played(sample, actions, chat), context_turns) for sample, actions in enumerate(plays)]
    scored = [replace(run, tokens=tuple(map(with_logprobs, run.tokens))) for run in plain]
    found = pairs(build_tree(plain), per_fork=3)
    assert found
    made = [
        (
            sft_examples(runs, chat, context=4096),
            pair_examples(found, {t.key: t for t in runs}, chat, context=4096, with_run=True),
            pair_examples(found, {t.key: t for t in runs}, chat, context=4096, step_only=True),
        )
        for runs in (plain, scored)
    ]
    assert made[0] == made[1]


def with_logprobs(tokens: Tokens) -> Tokens:
    return replace(tokens, logprobs=tuple(-0.5 for start, end in tokens.agent for _ in range(start, end)))


def with_context(run: Trajectory, turns: int) -> Trajectory:
    """The run after its first `turns` steps, which become a part of its prompt."""
    return replace(run, steps=run.steps[turns:], context_turns=turns)
