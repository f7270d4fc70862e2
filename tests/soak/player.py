"""`trajtree` with one more policy, without a model: `hat:NAME` draws its actions from a hat.

It plays in waves, as a model in this process does. `python -m tests.soak.player explore --policy hat:x ...`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from trajtree.cli.start import main
from trajtree.policies.base import Reply
from trajtree.policies.opening import SCHEMES, Scheme
from trajtree.trajectory import Message, Sampling, Tokens

ACTIONS = (
    "take red key",
    "take blue key",
    "open red door",
    "open blue door",
    "look",
    "look around",
    "move north",
    "move east",
    "take coin",
)
"""Of the toy, and of TextWorldExpress's coin game."""
HATS = {
    "x": ACTIONS,
    "scienceworld": (
        "teleport to outside",
        "teleport to greenhouse",
        "focus on dove",
        "pick up dove",
        "focus on peach tree",
        "focus on flower pot 1",
        "pick up flower pot 1",
        "teleport to kitchen",
    ),
}
"""By name."""


@dataclass
class Talk:
    """A conversation with a random stream of its own."""

    messages: list[Message]
    random: Random

    def tokens(self) -> tuple[Tokens, ...]:
        return ()


class Hat:
    """A policy without a model."""

    name = "hat"

    def __init__(self, actions: Sequence[str] = ACTIONS) -> None:
        self.actions = actions

    def start(self, system: str, sampling: Sampling, seed: tuple[int, ...]) -> Talk:
        return Talk([Message("system", system)], Random(str(seed)))

    def reply(self, conversations: Sequence[Talk]) -> list[Reply]:
        replies = []
        for talk in conversations:
            said = talk.random.choice(self.actions)
            talk.messages.append(Message("assistant", said))
            replies.append(Reply(said))
        return replies


SCHEMES["hat"] = Scheme(lambda ref, **settings: Hat(HATS[ref.base.partition(":")[2]]), "draws its actions from a hat")

if __name__ == "__main__":
    main()
