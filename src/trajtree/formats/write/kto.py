"""KTO for TRL: unpaired replies, each with the prompt under which its own run gave it, and whether it is wanted.

Source: TRL's "Dataset formats and types", unpaired preference: `prompt`, `completion`, `label`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from trajtree.formats.pairs import PairMessages
from trajtree.formats.write.trl import trl_pair
from trajtree.store.lines import JsonObject

TARGET = "trl-kto"


def kto_rows(pairs: Sequence[PairMessages]) -> list[JsonObject]:
    """The sides of a tree's pairs as rows: `prompt`, `completion`, `label` and `tools`, each completion once.

    A completion that is the better side of one pair and the worse side of another has no label, and is left out.

    Raises:
        DataError: for the reasons of `trl_pair`.
    """
    found: dict[str, JsonObject | None] = {}
    for pair in pairs:
        for alone, label in ((pair, True), (pair.rejected_alone, False)):
            whole = trl_pair(alone, TARGET)
            row: JsonObject = {"prompt": whole["prompt"], "completion": whole["chosen"], "label": label}
            row |= {"tools": whole["tools"]} if "tools" in whole else {}
            key = json.dumps({**row, "label": None})
            earlier = found.setdefault(key, row)
            if earlier is not None and earlier["label"] is not label:
                found[key] = None
    return [row for row in found.values() if row is not None]


__all__ = ["kto_rows"]
