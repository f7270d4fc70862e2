"""The contract of a policy: it answers many conversations at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from trajtree.trajectory import Cause, Message, Sampling, Tokens


class Reply(NamedTuple):
    """The agent's text, or why there is none, as a message (`error`) and a type (`cause`)."""

    text: str
    error: str | None = None
    cause: Cause | None = None


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
        """Open a conversation with its system message; its random stream depends only on `seed`."""
        ...

    def reply(self, conversations: Sequence[C]) -> list[Reply]:
        """Answer each conversation (its last message is the user's) and append the answer to its messages."""
        ...
