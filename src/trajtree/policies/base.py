"""What a policy is: it answers many conversations at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from trajtree.trajectory import Cause, Message, Sampling, Tokens


class Reply(NamedTuple):
    """The agent's text, or in words why there is none (`error`), and in type (`cause`)."""

    text: str
    error: str | None = None
    cause: Cause | None = None


class Conversation(Protocol):
    """One episode as its policy sees it; the caller appends to `messages` between replies."""

    messages: list[Message]

    def tokens(self) -> tuple[Tokens, ...]:
        """Engine tokens so far, one entry for each sequence the model was fed; () when the engine tells none."""
        ...


@runtime_checkable
class TakesOver(Protocol):
    """A conversation that can go on where another one was, with its tokens; conversations need not be able to."""

    def take_over(self, messages: Sequence[Message], tokens: Sequence[Tokens]) -> None:
        """Replace what was said by `messages`, the beginning of another conversation, of which `tokens` are all."""
        ...


C = TypeVar("C", bound=Conversation)


class Policy(Protocol[C]):
    """Plays many conversations at once."""

    name: str

    def start(self, system: str, sampling: Sampling, seed: tuple[int, ...]) -> C:
        """Open a conversation with its system message; its random stream depends on `seed` alone."""
        ...

    def reply(self, conversations: Sequence[C]) -> list[Reply]:
        """Answer each conversation, whose last message is the user's, and append the answer to its messages."""
        ...
