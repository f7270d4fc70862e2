"""From trajectories and pairs to token sequences in which only the agent's own tokens are trained.

Sequences are made from the messages with the trained model's own chat template, by the same code that makes its
prompts when it plays: `models.transcript`. If an engine recorded token ids that spell the same text, those are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trajtree.errors import DataError, NothingToLearn, RecipeError
from trajtree.formats.pairs import PairMessages
from trajtree.models.transcript import ChatFormat, tokenise
from trajtree.trajectory import Tokens, Trajectory
from trajtree.trees.forks import Option
from trajtree.trees.grafting import grafted
from trajtree.trees.pair import Pair

T = TypeVar("T")

TOO_LONG_SHARE = 0.01
"""Largest share of examples that may be left out because they do not fit; beyond it, training is refused."""


@dataclass(frozen=True, slots=True)
class SftExample:
    """One sequence; the ranges of `tokens.agent` are trained.

    Attributes:
        tokens: the sequence.
        weight: its weight in the loss; negative for what KTO should avoid.
        name: its source, for error messages.
        reference: log-probabilities of its trained tokens under the reference, once for each side.
    """

    tokens: Tokens
    weight: float = 1.0
    name: str = ""
    reference: tuple[NDArray[np.float32], ...] | None = None

    @property
    def sides(self) -> tuple[Tokens, ...]:
        """Its only sequence."""
        return (self.tokens,)


@dataclass(frozen=True, slots=True)
class PairExample:
    """Two sequences that begin alike; the agent's ranges after the fork are compared.

    `run` is the whole run of the chosen side, all of whose replies are trained, where a loss keeps it likely. Other
    fields are as in `SftExample`.
    """

    chosen: Tokens
    rejected: Tokens
    weight: float = 1.0
    name: str = ""
    reference: tuple[NDArray[np.float32], ...] | None = None
    run: Tokens | None = None

    @property
    def sides(self) -> tuple[Tokens, ...]:
        """Chosen, rejected and, if there is one, the run."""
        return (self.chosen, self.rejected) if self.run is None else (self.chosen, self.rejected, self.run)


Example = SftExample | PairExample


def sft_examples(
    trajectories: Iterable[Trajectory],
    chat: ChatFormat,
    *,
    context: int,
    weight: Callable[[Trajectory], float] = lambda trajectory: 1.0,
) -> list[SftExample]:
    """Sequences of whole trajectories.

    Raises:
        NothingToLearn: there is nothing to train on.
        DataError: more than TOO_LONG_SHARE of them exceed `context` tokens.
    """
    made = [
        SftExample(tokens, weight(t), f"{t.task}, run {t.sample}")
        for t in trajectories
        for tokens in without_context(sequences_of(t, chat), t.context_turns)
    ]
    return _fitting(made, [len(e.tokens.ids) for e in made], context, "trajectories")


def pair_examples(
    pairs: Sequence[Pair],
    trajectories: Mapping[tuple[str, int], Trajectory],
    chat: ChatFormat,
    *,
    context: int,
    weight: Callable[[Pair], float] = lambda pair: 1.0,
    step_only: bool = False,
    with_run: bool = False,
) -> list[PairExample]:
    """Sequences of pairs: the chosen side's prefix, then either side's continuation or only its first reply.

    `with_run` adds the whole run of the chosen side.

    Raises:
        NothingToLearn: there is nothing to train on.
        DataError: a pair has equal sides, or more than TOO_LONG_SHARE of the pairs exceed `context` tokens.
        RecipeError: the chat template rewrites history, so a pair is not one sequence per side.
    """
    made = [_pair_example(pair, trajectories, chat, weight(pair), step_only, with_run) for pair in pairs]
    lengths = [max(len(side.ids) for side in e.sides) for e in made]
    return _fitting(made, lengths, context, "pairs")


def reply_examples(options: Iterable[tuple[Option, Trajectory]], chat: ChatFormat, *, context: int) -> list[SftExample]:
    """Sequences of single replies at forks, each up to its end, weighted by what choosing it gains or loses.

    Raises:
        NothingToLearn: there is nothing to train on.
        DataError: more than TOO_LONG_SHARE of them exceed `context` tokens.
        RecipeError: the chat template rewrites history, so a run is not one sequence.
    """
    made = []
    for option, trajectory in options:
        name = f"{option.task}, option at node {option.node} after {option.depth} steps, run {trajectory.sample}"
        tokens = _one(sequences_of(trajectory, chat), name)
        begin, end = tokens.agent[trajectory.context_turns + option.depth]
        made.append(SftExample(Tokens(tokens.ids[:end], ((begin, end),)), option.advantage, name))
    return _fitting(made, [len(e.tokens.ids) for e in made], context, "replies")


def message_pairs(pairs: Iterable[PairMessages], chat: ChatFormat, *, context: int) -> list[PairExample]:
    """Sequences of pairs given as messages; replies in the prompt are not trained. Raises like `pair_examples`."""
    made = []
    for pair in pairs:
        turns = sum(message.role == "assistant" for message in pair.prompt)
        sides = [
            _one(tokenise(chat, [*pair.prompt, *side], pair.tools, pair.name), pair.name)
            for side in (pair.chosen, pair.rejected)
        ]
        chosen, rejected = (replace(side, agent=side.agent[turns:]) for side in sides)
        check_pair(chosen, rejected, pair.name)
        made.append(PairExample(chosen, rejected, name=pair.name))
    return _fitting(made, [max(len(e.chosen.ids), len(e.rejected.ids)) for e in made], context, "pairs")


def sequences_of(trajectory: Trajectory, chat: ChatFormat) -> tuple[Tokens, ...]:
    """Tokens of a trajectory: the engine's if this chat format spells the same text with them, else newly made ones.

    They have no log-probabilities, which no training reads and which would not fit a part of the agent's ranges.
    """
    name = f"{trajectory.task}, run {trajectory.sample}"
    spelt = [chat.decode(tokens.ids) for tokens in trajectory.tokens]
    written: tuple[Tokens, ...] = ()
    # What an engine said is right as it said it, also where the template would write the reply differently.
    for verbatim in (True, False) if spelt and not chat.writes_plainly else (False,):
        written = tokenise(chat, trajectory.messages, trajectory.tools, name, verbatim=verbatim)
        if spelt == [chat.decode(tokens.ids) for tokens in written]:
            return tuple(replace(tokens, logprobs=()) for tokens in trajectory.tokens)
    return written


def without_context(sequences: Sequence[Tokens], turns: int) -> list[Tokens]:
    """The sequences without the agent ranges of the first `turns` turns: replies in the prompt are not trained."""
    kept = []
    for sequence in sequences:
        dropped = min(turns, len(sequence.agent))
        turns -= dropped
        if dropped < len(sequence.agent):
            kept.append(replace(sequence, agent=sequence.agent[dropped:]))
    return kept


def _pair_example(
    pair: Pair,
    trajectories: Mapping[tuple[str, int], Trajectory],
    chat: ChatFormat,
    weight: float,
    step_only: bool,
    with_run: bool,
) -> PairExample:
    better, worse = (trajectories[pair.task, sample] for sample in (pair.chosen_sample, pair.rejected_sample))
    name = (
        f"{pair.task}, fork at node {pair.node} after {pair.depth} steps, run {better.sample} over run {worse.sample}"
    )
    turn = better.context_turns + pair.depth
    chosen = _one(sequences_of(better, chat), name)
    if chosen.ids == _one(tokenise(chat, better.messages, better.tools, name), name).ids:
        rejected = _one(tokenise(chat, grafted(better, worse, pair.depth), better.tools, name), name)
    else:
        other = _one(sequences_of(worse, chat), name)
        rejected = _joined(chosen, other, turn, worse.context_turns + pair.depth)
    run = replace(chosen, agent=chosen.agent[better.context_turns :]) if with_run else None
    last = turn + 1 if step_only else None
    chosen, rejected = (
        replace(side, ids=side.ids[: side.agent[turn:last][-1][1]], agent=side.agent[turn:last])
        for side in (chosen, rejected)
    )
    check_pair(chosen, rejected, name)
    return PairExample(chosen, rejected, weight, name, run=run)


def _joined(first: Tokens, second: Tokens, turn: int, other_turn: int) -> Tokens:
    """`first` up to its reply `turn`, then `second` from its reply `other_turn` on."""
    here, there = first.agent[turn][0], second.agent[other_turn][0]
    moved = tuple((start - there + here, end - there + here) for start, end in second.agent[other_turn:])
    return Tokens(first.ids[:here] + second.ids[there:], first.agent[:turn] + moved)


def _one(sequences: Sequence[Tokens], name: str) -> Tokens:
    if not sequences:
        raise DataError(f"{name}: its messages contain no reply, so nothing can be trained")
    if len(sequences) != 1:
        raise RecipeError(
            "this chat template rewrites earlier turns, so the two sides of a pair share no prefix; "
            "train on paths, or use a template that only appends"
        )
    return sequences[0]


def check_pair(chosen: Tokens, rejected: Tokens, name: str) -> None:
    """Raise DataError, naming the pair, if its sides are equal or differ before their fork."""
    start = chosen.agent[0][0]
    if chosen.ids[:start] != rejected.ids[:start]:
        raise DataError(f"{name}: the sides of the pair differ before their fork")
    if chosen.ids == rejected.ids:
        raise DataError(f"{name}: the sides of the pair are equal, so there is nothing to prefer")


def _fitting(examples: Sequence[T], lengths: Sequence[int], context: int, what: str) -> list[T]:
    if not examples:
        raise NothingToLearn(f"there are no {what} to train on")
    kept = [e for e, length in zip(examples, lengths, strict=True) if length <= context]
    lost = len(examples) - len(kept)
    if lost > TOO_LONG_SHARE * len(examples):
        raise DataError(
            f"{lost} of {len(examples)} {what} are longer than {context} tokens (the longest has {max(lengths)}); "
            "training would leave them out: use a model with a longer context or shorten the episodes"
        )
    return kept


__all__ = [
    "TOO_LONG_SHARE",
    "Example",
    "PairExample",
    "SftExample",
    "check_pair",
    "message_pairs",
    "pair_examples",
    "reply_examples",
    "sequences_of",
    "sft_examples",
    "without_context",
]
