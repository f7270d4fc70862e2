"""A conversation put together from its parts: what is recorded apart but was one reply becomes one message."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trajtree.formats.read.aside import Known, left_over
from trajtree.formats.read.fields import Record
from trajtree.formats.read.made import made_of
from trajtree.trajectory import Made, Message

Metadata = dict[str, str | int | float | bool]

UNFINISHED = "unfinished_replies"
"""Metadata: the number of replies of thoughts alone."""


@dataclass(slots=True)
class Talk:
    """Messages in the order in which they are heard.

    Attributes:
        between: what separates texts of one reply that are recorded apart.
        messages: the messages so far.
        aside: fields of parts that are neither read nor irrelevant, by position.
        by: what the log says of how the replies that come next were made: see `made.made_of`.
    """

    between: str = ""
    messages: list[Message] = field(default_factory=list)
    aside: dict[str, object] = field(default_factory=dict)
    by: Record = field(default_factory=dict)
    _named: dict[str, int] = field(default_factory=dict)
    _by: dict[int, Record] = field(default_factory=dict)

    def hear(self, message: Message) -> None:
        """A message that is not the agent's."""
        self.messages.append(message)

    def hear_user(self, texts: list[str]) -> None:
        """The user's texts since the last result, if any, as one message; the list is emptied."""
        if texts:
            self.hear(Message("user", "".join(texts)))
            texts.clear()

    def reply(self, part: Message, name: str | None = None) -> None:
        """A part of a reply: of the one with that name, or, without one, of the last, if nothing was heard since."""
        last = len(self.messages) - 1
        index = last if name is None else self._named.get(name, -1)
        if index < 0 or self.messages[index].role != "assistant":
            index = len(self.messages)
            self.messages.append(part)
            self._by[index] = self.by
        else:
            so_far = self.messages[index]
            self.messages[index] = Message(
                "assistant",
                self.between.join([text for text in (so_far.content, part.content) if text]),
                "\n".join([text for text in (so_far.reasoning, part.reasoning) if text]) or None,
                so_far.tool_calls + part.tool_calls,
            )
        if name is not None:
            self._named[name] = index

    def keep_aside(self, where: str, part: Mapping[str, Any], known: Known) -> None:
        """Remember the unknown fields of a part and of the objects within it, except empty ones."""
        self.aside.update(left_over(part, known, where))

    def finished(self) -> tuple[tuple[Message, ...], Metadata]:
        """The messages, and metadata: `message_fields` (what was kept aside, as JSON text) and `unfinished_replies`.

        A reply of thoughts alone is not a reply: the agent was interrupted. Such replies are only counted.
        """
        made = tuple([m for m in self.messages if not unfinished(m)])
        found: Metadata = {"message_fields": json.dumps(self.aside)} if self.aside else {}
        if len(made) < len(self.messages):
            found[UNFINISHED] = len(self.messages) - len(made)
        return made, found

    def made(self, policy: str | None) -> tuple[Made, ...]:
        """How each of the replies in `finished` was made; `policy` is the run's model."""
        said = [(i, m) for i, m in enumerate(self.messages) if m.role == "assistant" and not unfinished(m)]
        return made_of([self._by.get(index, {}) for index, _ in said], policy)


def kind_of(part: Mapping[str, Any]) -> str:
    """The `type` of a part; as text, whatever it is, so that it can be looked up in tables."""
    return str(part.get("type"))


def unfinished(message: Message) -> bool:
    """Whether a reply has nothing but thoughts."""
    return message.reasoning is not None and not message.content and not message.tool_calls


__all__ = ["UNFINISHED", "Metadata", "Talk", "kind_of", "unfinished"]
