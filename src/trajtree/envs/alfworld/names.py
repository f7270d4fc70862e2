"""What things are called: "cabinet 3" for one of the cabinets that the simulator knows by its coordinates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

_KIND_ENDS = "_bar_"


def names(ids: Iterable[str]) -> dict[str, str]:
    """Name by id; things of one kind are numbered from 1, the last in alphabetical order first.

    The numbers are those of alfworld's AlfredDemangler, so that its transcripts and ours speak of the same cabinet.
    An id without coordinates is its own name, with a space behind it.
    """
    found: dict[str, str] = {}
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for id in sorted(set(ids)):
        kind, coordinates, _ = id.partition(_KIND_ENDS)
        if coordinates:
            # The basin of a sink is a part of it, and has its coordinates.
            kinds[f"{kind}basin" if "basin" in id else kind].append(id)
        else:
            found[id] = f"{id} "
    for kind, members in kinds.items():
        found |= {id: f"{kind} {number}" for number, id in enumerate(reversed(members), 1)}
    return found


__all__ = ["names"]
