"""Runs as verifiers records them: the message graph of a trace (v1), or prompt and completion (v0)."""

from __future__ import annotations

from typing import TypeGuard

from pydantic_core import from_json

from trajtree.chat import FIELDS, message_from_dict
from trajtree.errors import DataError
from trajtree.formats.read.aside import CALL, FLAT_CALL, OPENAI, Known, fields_aside
from trajtree.formats.read.fields import (
    Record,
    at,
    first_turn,
    leading,
    objects,
    other_scores,
    outcome_at,
    score_at,
    system_beside,
    task_at,
    text_at,
    tools_at,
)
from trajtree.formats.read.made import made_of
from trajtree.formats.read.to_trajectory import Imported
from trajtree.trajectory import Message, Outcome

_SCORES = ("reward", "score")
TASKS = ("task.key", "task.hash", "example_id")
_WITHIN = {**OPENAI, "tool_calls": Known(CALL.fields | FLAT_CALL.fields, CALL.within)}
"""Calls are flat, or nested as in OpenAI's format."""
_CUT_SHORT = ("max_input_tokens", "max_output_tokens", "max_total_tokens", "compaction_failed", "prompt_too_long")


def recognises(record: Record) -> bool:
    """Whether a record is a trace, or has an example's id beside its prompt and completion."""
    if isinstance(record.get("nodes"), list):
        return True
    return {"prompt", "completion", "example_id"} <= record.keys() and first_turn(record) is None


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one trace.

    Args:
        record: a trace with `nodes`, or a record with `prompt` and `completion`.
        score: dotted path of the score; without one, the weighted sum of `rewards`, or `reward`.
        task: dotted path of the task; without one, its key, its hash or the example's id.

    Raises:
        DataError: a field is wrong, or the run failed with an error and was never scored, which says nothing about the
            agent.
    """
    traced = "nodes" in record
    path, branches = _final_branch(record) if traced else (_v0_path(record), 1)
    said = [_message(message, where) for message, _, where in path]
    messages = (*system_beside(record, said), *said)
    aside = fields_aside([("messages", [message for message, _, _ in path])], FIELDS, within=_WITHIN)
    fabricated = (not sampled for message, sampled, _ in path if message.get("role") == "assistant")
    name = None if traced or task is not None else text_at(record, "task")
    found = task_at(record, task, TASKS)
    taken = _score(record, score, traced)
    policy = text_at(record, "agent.config.model", "agent.model", "calls.0.model", "model")
    return Imported(
        messages=messages,
        context_turns=leading(fabricated, "was not written by the model"),
        score=taken,
        task=f"{name}/{found}" if name and found else found,
        task_from="verifiers' task and example_id",
        policy=policy,
        tools=tools_at(record, "tools") or tools_at(record, "tool_defs") or tools_at(record, "nodes.0.tools"),
        outcome=_outcome(record, traced),
        metadata={**aside, "branches": branches} if branches > 1 else aside,
        other_scores=other_scores(record, taken[0], _SCORES),
        made=made_of([message for message, _, _ in path if message.get("role") == "assistant"], policy),
    )


def _final_branch(record: Record) -> tuple[list[tuple[Record, bool, str]], int]:
    """(message, whether the model wrote it, field) from the root to the last leaf, and the number of leaves."""
    nodes = objects(record.get("nodes"), "nodes")
    parents: list[int | None] = []
    for index, node in enumerate(nodes):
        parent = node.get("parent", index - 1 if index else None)
        # Parents come before their children, so a walk to the root ends.
        if parent is not None and (type(parent) is not int or not 0 <= parent < index):
            raise DataError(f"nodes.{index}.parent: {str(parent)[:80]} is not an earlier node")
        if not isinstance(node.get("message"), dict):
            raise DataError(f"nodes.{index}.message: must be an object")
        parents.append(parent)
    leaves = set(range(len(nodes))) - set(parents)
    here = max(leaves, default=None)
    path: list[tuple[Record, bool, str]] = []
    while here is not None:
        node = nodes[here]
        path.append((node["message"], node.get("sampled") is not False, f"nodes.{here}.message"))
        here = parents[here]
    return path[::-1], len(leaves)


def _v0_path(record: Record) -> list[tuple[Record, bool, str]]:
    path: list[tuple[Record, bool, str]] = []
    for name, role in (("prompt", "user"), ("completion", "assistant")):
        value = record.get(name)
        turns = [{"role": role, "content": value}] if isinstance(value, str) else objects(value, name)
        path += [(turn, name == "completion", f"{name}.{index}") for index, turn in enumerate(turns)]
    return path


def _message(message: Record, where: str) -> Message:
    calls = message.get("tool_calls")
    if not isinstance(calls, list) or not calls:
        return message_from_dict(message, where)
    written = [_openai(call, f"{where}.tool_calls.{index}") for index, call in enumerate(calls)]
    return message_from_dict({**message, "tool_calls": written}, where)


def _openai(call: object, where: str) -> object:
    """A call nested as in OpenAI's format; verifiers writes it flat, or as JSON text."""
    if isinstance(call, str):
        text = call
        try:
            call = from_json(text)
        except ValueError:
            raise DataError(f"{where}: not JSON: {text[:80]!r}") from None
    if isinstance(call, dict) and "function" not in call:
        return {"id": call.get("id"), "function": call}
    return call


def _score(record: Record, field: str | None, traced: bool) -> tuple[str, object]:
    broken = bool(record.get("errors") or record.get("error"))
    found: tuple[str, object] | None = None
    if field is None:
        found = _weighted(record) if traced else None
        # Older records have a reward of 0 if an error prevented scoring.
        if broken and (found is None or not traced):
            raise DataError(f"{'errors' if traced else 'error'}: {_what(record)}; the run failed and was not scored")
    return found or score_at(record, field, _SCORES)


def _weighted(record: Record) -> tuple[str, object] | None:
    """The sum of score times weight over the given rewards; None if there are none."""
    rewards = record.get("rewards")
    if not isinstance(rewards, dict):
        return None
    parts: list[float] = []
    for name, reward in rewards.items():
        if reward is None:
            continue
        given = reward if isinstance(reward, dict) else {"score": reward}
        score, weight = given.get("score"), given.get("weight", 1.0)
        if not _is_number(score) or not _is_number(weight):
            raise DataError(f"rewards.{name}: must be a number, or a score with a weight")
        parts.append(score * weight)
    return ("rewards", sum(parts)) if parts else None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and abs(value) <= 1e300


def _what(record: Record) -> str:
    errors = record.get("errors")
    error = errors[-1] if isinstance(errors, list) and errors else record.get("error") or errors
    said = [text for text in (text_at(error, "type"), text_at(error, "message", "error")) if text]
    return ": ".join(said)[:200] if said else str(error)[:200]


def _outcome(record: Record, traced: bool) -> Outcome:
    if record.get("stop_condition") in _CUT_SHORT or record.get("is_completed") is False:
        return Outcome.TRUNCATED
    if traced:
        calls, nodes = at(record, "calls"), record["nodes"]
        last = calls[-1] if isinstance(calls, list) and calls else nodes[-1] if nodes else None
        if outcome_at(last) is Outcome.TRUNCATED:
            return Outcome.TRUNCATED
    return outcome_at(record)


__all__ = ["TASKS", "read", "recognises"]
