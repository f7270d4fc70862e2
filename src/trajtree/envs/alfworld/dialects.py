"""The two dialects of ALFWorld: `put X in/on Y` of the games and papers, `move X to Y` of alfworld >= 0.4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from trajtree.envs.alfworld.scene import Scene

DialectName: TypeAlias = Literal["put", "move"]

_HELP = (
    ("look:", "look around your current location"),
    ("inventory:", "check your current inventory"),
    ("go to (receptacle):", "move to a receptacle"),
    ("open (receptacle):", "open a receptacle"),
    ("close (receptacle):", "close a receptacle"),
    ("take (object) from (receptacle):", "take an object from a receptacle"),
    ("move (object) to (receptacle):", "place an object in or on a receptacle"),
    ("examine (something):", "examine a receptacle or an object"),
    ("use (object):", "use an object"),
    ("heat (object) with (receptacle):", "heat an object using a receptacle"),
    ("clean (object) with (receptacle):", "clean an object using a receptacle"),
    ("cool (object) with (receptacle):", "cool an object using a receptacle"),
    ("slice (object) with (object):", "slice an object using a sharp object"),
)


def _help() -> str:
    # The line of `move` kept the indent of the longer `put ... in/on ...` that it replaced.
    lines = [f"  {form:<{32 if form.startswith('move') else 34}}{meaning}\n" for form, meaning in _HELP]
    return f"Available commands:\n{''.join(lines)}"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How putting down is commanded and reported, what is reported on arrival, and the help (None: no such command)."""

    name: DialectName
    put: str
    was_put: str
    help: str | None

    def arrival(self, scene: Scene, receptacle: str) -> str:
        """Where the agent has arrived: the receptacle or, in the old games, the number of a location."""
        where = receptacle if self.name == "move" else scene.location[receptacle]
        return f"You arrive at {scene.names[where]}."


DIALECTS: dict[DialectName, Dialect] = {
    "put": Dialect("put", "put {} in/on {}", "You put the {} in/on the {}.", None),
    "move": Dialect("move", "move {} to {}", "You move the {} to the {}.", _help()),
}

__all__ = ["DIALECTS", "Dialect", "DialectName"]
