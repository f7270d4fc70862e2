"""Rows of published datasets of runs (SWE-smith, SWE-Gym, Nebius): chat messages as JSON text, or as `trajectory`.

They are read as `messages` once they have its form. Their messages are OpenAI's, SWE-agent's, or those of Nebius'
first dataset, whose text is in `text` and `system_prompt` and whose agent is called `ai`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic_core import from_json

from trajtree.errors import DataError
from trajtree.formats.read import messages
from trajtree.formats.read.benchmarks import swe_agent
from trajtree.formats.read.fields import SCORES, Record, at, objects
from trajtree.formats.read.to_trajectory import Imported
from trajtree.trajectory import Outcome

_PLACES = ("messages", "trajectory", "conversations")
_ROLES = {"ai": "assistant"}
_FAILED = ("exit_", "early_exit", "submitted (")


def recognises(record: Record) -> bool:
    """Whether a row's messages are JSON text, or are called its trajectory."""
    if any(isinstance(record.get(name), str) and record[name].lstrip().startswith("[{") for name in _PLACES):
        return True
    return isinstance(at(record, "trajectory.0.role"), str)


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one run.

    Args:
        record: `messages`, `trajectory` or `conversations`, and the usual fields beside it.
        score: dotted path of the score; without one, the usual names, or `target` if it is true or false.
        task: dotted path of the task; without one, the usual names.

    Raises:
        DataError: naming the field that is wrong, or the exit status says that something other than the agent failed.
    """
    name = next((name for name in _PLACES if record.get(name) is not None), "messages")
    turns = objects(_decoded(record.get(name), name), name)
    row = {field: value for field, value in record.items() if field not in _PLACES}
    row["messages"] = [_plain(turn, f"{name}.{index}") for index, turn in enumerate(turns)]
    if score is None and isinstance(record.get("target"), bool) and all(at(record, place) is None for place in SCORES):
        score = "target"
    found = messages.read(row, score=score, task=task)
    outcome = _outcome(record.get("exit_status"))
    return found if outcome is None else replace(found, outcome=outcome)


def _decoded(value: object, where: str) -> object:
    if not isinstance(value, str):
        return value
    try:
        return from_json(value)
    except ValueError as error:
        raise DataError(f"{where}: not JSON: {error}") from None


def _plain(turn: Record, where: str) -> dict[str, Any]:
    """A message with OpenAI's fields; the replies of a demonstration are marked as not trained."""
    plain = swe_agent.plain(turn, where)
    plain["role"] = _ROLES.get(str(turn.get("role")), turn.get("role"))
    if turn.get("is_demo") is True and plain["role"] == "assistant":
        plain["loss"] = False
    if "content" not in plain and ("text" in plain or "system_prompt" in plain):
        texts = [plain.pop("system_prompt", None), plain.pop("text", None)]
        plain["content"] = next((text for text in texts if text), "")
    return plain


def _outcome(status: object) -> Outcome | None:
    """By the exit status, where it is one of SWE-agent's; None says nothing."""
    of_swe_agent = isinstance(status, str) and status.startswith(_FAILED)
    return swe_agent.exited(status, "exit_status") if of_swe_agent else None


__all__ = ["read", "recognises"]
