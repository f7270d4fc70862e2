"""Reading preference pairs in TRL's conversational format: `prompt`, `chosen`, `rejected`, `tools`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from trajtree.chat import message_from_dict
from trajtree.errors import DataError
from trajtree.formats.fields import objects, tools_at
from trajtree.formats.pair_messages import PairMessages
from trajtree.formats.rows import decode, rows


def read_pairs(path: Path) -> Iterator[PairMessages]:
    """The pairs of a file, as `trajtree pairs --to trl` writes it.

    Raises:
        DataError: naming file, line and field of the first row that is no pair.
    """
    for row in rows(path):
        try:
            record = decode(row)
            prompt, chosen, rejected = (
                tuple(message_from_dict(m, f"{name}.{i}") for i, m in enumerate(objects(record.get(name), name)))
                for name in ("prompt", "chosen", "rejected")
            )
            yield PairMessages(prompt, chosen, rejected, tools_at(record, "tools"), {"of": str(path), "line": row.line})
        except (DataError, ValueError) as error:
            raise DataError(f"{path}, line {row.line}: {error}") from None


__all__ = ["read_pairs"]
