"""Token ids that a server reports, kept only if they decode to the same text as the conversation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import isfinite
from typing import NamedTuple

from trajtree.policies.answers import Completion
from trajtree.trajectory import Tokens


class Spelt(NamedTuple):
    """Tokens that spell a reply: their ids and their log-probabilities."""

    ids: list[int]
    logprobs: list[float]


class EngineTokens:
    """Ids of prompts and replies, put together to the sequences that the engine read.

    Each prompt must begin with all that came before it. Where it does not, because the template rewrote history or the
    server read an earlier reply as other tokens, a new sequence begins. One reply whose ids do not spell its text and
    all ids of the conversation are given up: its messages alone are then stored.
    """

    def __init__(self) -> None:
        self._closed: list[Tokens] = []
        self._ids: list[int] = []
        self._agent: list[tuple[int, int]] = []
        self._logprobs: list[float] = []
        self.whole = True

    def add(self, prompt: Sequence[int] | None, reply: Spelt | None) -> None:
        """One turn; None where the server told no ids, or none that spell the text."""
        if prompt is None or reply is None:
            self.whole = False
        if not self.whole or prompt is None or reply is None:
            return
        if list(prompt[: len(self._ids)]) != self._ids:
            self._close()
        self._ids = [*prompt, *reply.ids]
        self._logprobs += reply.logprobs
        if reply.ids:
            self._agent.append((len(prompt), len(self._ids)))

    def tokens(self) -> tuple[Tokens, ...]:
        """See `Conversation.tokens`."""
        if not self.whole:
            return ()
        return (*self._closed, *([self._open()] if self._agent else []))

    def _open(self) -> Tokens:
        return Tokens(tuple(self._ids), tuple(self._agent), tuple(self._logprobs))

    def _close(self) -> None:
        if self._agent:
            self._closed.append(self._open())
        self._ids, self._agent, self._logprobs = [], [], []


def spelt_reply(completion: Completion) -> Spelt | None:
    """Tokens of a reply, with the one that ended its turn; None where there are none, or where they do not spell it.

    A stop sequence is no part of a reply, so neither are its tokens. Replies with reasoning or tool calls are spelled
    by the model in a form of its own, which a server takes apart: their ids cannot be compared with their text.
    """
    choice = completion.choices[0]
    said, entries = choice.message, (choice.logprobs.content if choice.logprobs is not None else None)
    if said.tool_calls or said.reasoning_content or said.reasoning or entries is None:
        return None
    told = choice.token_ids if choice.token_ids is not None else [entry.id for entry in entries]
    ids = [token for token in told if token is not None]
    if len(ids) != len(told) or len(ids) != len(entries) or any(entry.bytes is None for entry in entries):
        return None
    spelt = b"".join(bytes(entry.bytes or ()) for entry in entries)
    text = (said.content or "").encode()
    ends = [0, *accumulate(len(entry.bytes or ()) for entry in entries)]
    if not spelt.startswith(text) or len(text) not in ends:
        return None
    # Tokens that spell the text, then at most the one that ends the turn, which some servers spell and others do not.
    spelling, logprobs = ends.index(len(text)), [entry.logprob for entry in entries]
    if not all(map(isfinite, logprobs)):
        return None
    rest = b"".join(bytes(entry.bytes or ()) for entry in entries[spelling:])
    if choice.finish_reason != "stop" or isinstance(choice.stop_reason, str) or b"\n" in rest:
        return Spelt(ids[:spelling], logprobs[:spelling])
    return Spelt(ids, logprobs) if len(ids) - spelling <= 1 else None


__all__ = ["EngineTokens", "Spelt", "spelt_reply"]
