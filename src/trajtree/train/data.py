"""From trajectories and pairs to token sequences of which only the agent's own tokens are trained.

The strong model has not said what it is trained on, so its sequences are made from the messages with its own
chat template, by the code that also makes its prompts when it plays: `policies.transcript`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from trajtree.errors import DataError, RecipeError
from trajtree.forks import Pair, grafted
from trajtree.policies.transcript import ChatFormat, tokenise
from trajtree.trajectory import Tokens, Trajectory

T = TypeVar("T")

TOO_LONG_SHARE = 0.01
"""Largest share of examples that may be left out because they do not fit; past it, training is refused."""


@dataclass(frozen=True, slots=True)
class SftExample:
    """One sequence; the ranges of `tokens.agent` are trained."""

    tokens: Tokens


@dataclass(frozen=True, slots=True)
class PairExample:
    """Two sequences that begin alike; the agent's ranges after the fork are compared."""

    chosen: Tokens
    rejected: Tokens


def sft_examples(trajectories: Iterable[Trajectory], chat: ChatFormat, *, context: int) -> list[SftExample]:
    """Sequences of whole trajectories.

    Raises:
        DataError: nothing to train on, or more than TOO_LONG_SHARE of them exceed `context` tokens.
    """
    made = [
        SftExample(tokens)
        for t in trajectories
        for tokens in without_context(tokenise(chat, t.messages, t.tools), t.context_turns)
    ]
    return _fitting(made, [len(e.tokens.ids) for e in made], context, "trajectories")


def pair_examples(
    pairs: Sequence[Pair], trajectories: dict[tuple[str, int], Trajectory], chat: ChatFormat, *, context: int
) -> list[PairExample]:
    """Sequences of pairs: the chosen side's prefix, then either continuation.

    Raises:
        DataError: nothing to train on, or more than TOO_LONG_SHARE of them exceed `context` tokens.
        RecipeError: the chat template rewrites history, so a pair is not one sequence a side.
    """
    made = [_pair_example(pair, trajectories, chat) for pair in pairs]
    lengths = [max(len(e.chosen.ids), len(e.rejected.ids)) for e in made]
    return _fitting(made, lengths, context, "pairs")


def without_context(sequences: Sequence[Tokens], turns: int) -> list[Tokens]:
    """The sequences without the agent ranges of the first `turns` turns: the prompt's replies are nobody's to learn."""
    kept = []
    for sequence in sequences:
        dropped = min(turns, len(sequence.agent))
        turns -= dropped
        if dropped < len(sequence.agent):
            kept.append(replace(sequence, agent=sequence.agent[dropped:]))
    return kept


def _pair_example(pair: Pair, trajectories: dict[tuple[str, int], Trajectory], chat: ChatFormat) -> PairExample:
    better, worse = trajectories[pair.task, pair.chosen], trajectories[pair.task, pair.rejected]
    sides = []
    for messages in (better.messages, grafted(better, worse, pair.depth)):
        sequences = tokenise(chat, messages, better.tools)
        if len(sequences) != 1:
            raise RecipeError(
                "this chat template rewrites earlier turns, so the two sides of a pair share no prefix; "
                "train on paths, or use a template that only appends"
            )
        sides.append(replace(sequences[0], agent=sequences[0].agent[better.context_turns + pair.depth :]))
    start = sides[0].agent[0][0]
    if sides[0].ids[:start] != sides[1].ids[:start]:
        raise DataError(f"{pair.task}: the sides of a pair differ before their fork at step {pair.depth}")
    return PairExample(*sides)


def _fitting(examples: Sequence[T], lengths: Sequence[int], context: int, what: str) -> list[T]:
    if not examples:
        raise DataError(f"there are no {what} to train on")
    kept = [e for e, length in zip(examples, lengths, strict=True) if length <= context]
    lost = len(examples) - len(kept)
    if lost > TOO_LONG_SHARE * len(examples):
        raise DataError(
            f"{lost} of {len(examples)} {what} are longer than {context} tokens (the longest has {max(lengths)}); "
            "training would lose them: use a model with a longer context or shorten the episodes"
        )
    return kept


__all__ = ["TOO_LONG_SHARE", "PairExample", "SftExample", "pair_examples", "sft_examples"]
