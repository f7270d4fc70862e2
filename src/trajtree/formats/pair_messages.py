"""Preference pairs as messages: what an exporter needs to know of a pair."""

from __future__ import annotations

from dataclasses import dataclass, field

from trajtree.trajectory import Message


@dataclass(frozen=True, slots=True)
class PairMessages:
    """Two continuations of one conversation.

    Attributes:
        prompt: what both sides share: everything up to the fork.
        chosen, rejected: the continuations; each begins with a reply of the agent and may hold many turns. The agent's
            replies in them, and no other messages, are what the pair compares.
        tools: the tools' definitions, each as JSON text.
        provenance: where the pair comes from (task, depth, samples, values, ...); errors name the pair by it.
    """

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    tools: tuple[str, ...] = ()
    provenance: dict[str, str | int | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError when there is no prompt or a side does not begin with a reply."""
        if not self.prompt:
            raise ValueError("a pair needs a prompt")
        for side in (self.chosen, self.rejected):
            if not side or side[0].role != "assistant":
                raise ValueError("each side of a pair begins with a reply of the agent")

    @property
    def name(self) -> str:
        """What errors call the pair."""
        return "pair " + (", ".join(f"{key} {value}" for key, value in self.provenance.items()) or "of unknown origin")


__all__ = ["PairMessages"]
