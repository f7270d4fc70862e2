"""Names of things: "cabinet 3" for one of the cabinets that the simulator identifies by coordinates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

_KIND_ENDS = "_bar_"


def names(ids: Iterable[str]) -> dict[str, str]:
    """Names by id; things of one kind are numbered from 1, in reverse alphabetical order.

    The numbers are those of alfworld's AlfredDemangler, so that its transcripts and ours mean the same cabinet.
    An id without coordinates is its own name, followed by a space.
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
