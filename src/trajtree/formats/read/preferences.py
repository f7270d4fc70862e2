"""Rows of preferences, which have two answers to one prompt: they look like runs, and are none."""

from __future__ import annotations

from trajtree.errors import DataError
from trajtree.formats.read.fields import Record

_PREFERENCES = tuple((f"chosen{of}", f"rejected{of}") for of in ("", "_messages", "_response"))
A_PREFERENCE = (
    "a preference, which has two answers to one prompt and is not a run; import the runs that it was made from"
)


def is_preference(record: Record) -> bool:
    """Whether a record has two answers to one prompt, one of them preferred."""
    return _preferred(record) is not None


def refuse_preferences(record: Record) -> None:
    """Raise DataError if the record is a preference: what is beside its answers is their prompt, not a run."""
    if (names := _preferred(record)) is not None:
        raise DataError(f"{', '.join(names)}: {A_PREFERENCE}")


def _preferred(record: Record) -> tuple[str, str] | None:
    """The names of the two answers; texts are answers only where no reply ends the conversation that is there."""
    for names in _PREFERENCES:
        sides = [record.get(name) for name in names]
        if all(isinstance(side, list | dict) for side in sides):
            return names
        if all(isinstance(side, str) for side in sides) and not _is_answered(record):
            return names
    return None


def _is_answered(record: Record) -> bool:
    turns = record.get("messages") or record.get("conversations")
    last = turns[-1] if isinstance(turns, list) and turns else None
    role = last.get("role", last.get("from")) if isinstance(last, dict) else None
    return role in ("assistant", "gpt") or "completion" in record


__all__ = ["A_PREFERENCE", "is_preference", "refuse_preferences"]
