"""The contract of a policy: it answers many conversations at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from hashlib import sha256
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from trajtree.trajectory import Cause, Message, Sampling, Tokens


class Reply(NamedTuple):
    """The agent's text, or why there is none, as a message (`error`) and a type (`cause`)."""

    text: str
    error: str | None = None
    cause: Cause | None = None


def too_long(limit: int, text: str) -> Reply:
    """The reply that was cut at its length limit of `limit` tokens: what it says is not all that was meant."""
    return Reply(text, f"reply too long: it had not ended after {limit} tokens", Cause.REPLY_TOO_LONG)


class Conversation(Protocol):
    """One episode as its policy sees it; the caller appends to `messages` between replies."""

    messages: list[Message]

    def tokens(self) -> tuple[Tokens, ...]:
        """Engine tokens so far, one entry for each sequence the model was fed; () if the engine reports none."""
        ...


@runtime_checkable
class TakesOver(Protocol):
    """Optional for conversations: can continue where another conversation was, with its tokens."""

    def take_over(self, messages: Sequence[Message], tokens: Sequence[Tokens]) -> None:
        """Replace the conversation by `messages`, the beginning of another one, whose complete tokens are `tokens`."""
        ...


C = TypeVar("C", bound=Conversation)


class Policy(Protocol[C]):
    """Answers many conversations at once."""

    name: str

    def start(self, system: str, sampling: Sampling, seed: tuple[int, ...]) -> C:
        """Open a conversation with its system message, or with the policy's own opening if it has one.

        Its random stream depends only on `seed`.
        """
        ...

    def reply(self, conversations: Sequence[C]) -> list[Reply]:
        """Answer each conversation (its last message is the user's) and append the answer to its messages."""
        ...


@runtime_checkable
class ServedPolicy(Policy[C], Protocol):
    """A policy that answers one conversation at a time and many at once: what plays on model servers.

    Its episodes are played each at its own pace, so that a slow reply holds up no other episode.
    """

    identity: Mapping[str, str]
    """What the servers say of themselves; a result is not added to under another."""

    def session(self) -> AbstractAsyncContextManager[Callable[[C], Awaitable[Reply]]]:
        """Connections to the servers, for as long as the context lasts: asks for the reply to one conversation.

        Raises (when asked):
            LimitError: a limit of the command would be passed.
            PolicyError: no conversation can be answered, for example because the key is wrong.
        """
        ...


@runtime_checkable
class ToolCaller(Protocol):
    """A conversation whose replies may be calls of an environment's tools."""

    tools: tuple[str, ...]
    """Definitions of the tools, each as JSON text; set before the first reply."""


def turn_seed(seed: tuple[int, ...], turn: int) -> int:
    """The seed of one reply, in [0, 2**31), from the conversation's own and the number of replies before it."""
    packed = b"".join((part & 0xFFFFFFFFFFFFFFFF).to_bytes(8) for part in (*seed, turn))
    return int.from_bytes(sha256(packed).digest()[:4]) & 0x7FFFFFFF
