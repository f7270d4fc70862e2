"""Results of tau2-bench: one object with all simulations, or an array of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from trajtree.chat import FIELDS, message_from_dict
from trajtree.errors import DataError
from trajtree.formats.read.aside import FLAT_CALL, TEXT_PART, Known, fields_aside
from trajtree.formats.read.benchmarks.ended import ended
from trajtree.formats.read.benchmarks.split import decode_file, split
from trajtree.formats.read.fields import Record, at, objects, score_at, task_at, text_at, tools_at
from trajtree.formats.read.records import RawRecord
from trajtree.formats.read.to_trajectory import Imported
from trajtree.trajectory import Message, Outcome

_SCORES = ("simulation.reward_info.reward",)
_TASKS = ("simulation.task_id",)
_OWN = frozenset(
    (
        *("turn_idx", "cost", "raw_data", "requestor", "error", "generation_time_seconds"),
        *("is_audio", "contains_speech", "is_final_chunk", "chunk_id", "utterance_ids"),
    )
)
"""Fields of a message that are read here or irrelevant to what was said; `raw_data` is the engine's whole answer."""

_WITHIN = {"content": TEXT_PART, "tool_calls": Known(FLAT_CALL.fields | {"requestor"})}
_REASONING = ("raw_data.choices.0.message.reasoning_content", "raw_data.message.reasoning_content")
_ENDS = {
    "user_stop": Outcome.COMPLETED,
    "agent_stop": Outcome.COMPLETED,
    "max_steps": Outcome.TRUNCATED,
    "timeout": Outcome.TRUNCATED,
    "context_window_exceeded": Outcome.TRUNCATED,
    "too_many_errors": Outcome.AGENT_ERROR,
    "agent_error": Outcome.AGENT_ERROR,
}


def recognises(record: Record) -> bool:
    """Whether a record holds simulations, or is one of them."""
    if isinstance(record.get("simulations"), list):
        return "info" in record or "tasks" in record
    if isinstance(record.get("simulation"), dict):
        return "info" in record
    return {"termination_reason", "task_id"} <= record.keys() and ("reward_info" in record or "ticks" in record)


def runs(path: Path, records: Iterator[RawRecord]) -> Iterator[RawRecord]:
    """A record per simulation, `{"info": ..., "simulation": ...}`, with what they share: agent, domain and policy.

    In a results folder, simulations are files of their own, and what they share is in `results.json` above them.
    """
    shared = path.parent.parent / "results.json"
    info: Record = {}
    if path.parent.name == "simulations" and shared.is_file():
        try:
            info = _info(decode_file(shared))
        except DataError as error:
            problem = str(error)
            return (raw._replace(data=b"", problem=problem) for raw in records)
    return split(records, partial(_simulations, info=info))


def _simulations(record: Record, info: Record) -> list[dict[str, Any]]:
    if "simulations" not in record:
        return [{"info": info, "simulation": record}]
    if not record["simulations"] and "simulation_index" in record:
        raise DataError("simulations: the simulations of these results are files of their own, in the folder beside it")
    return [{"info": _info(record), "simulation": one} for one in objects(record["simulations"], "simulations")]


def _info(record: Record) -> Record:
    return {name: at(record, f"info.{name}") for name in ("agent_info", "environment_info")}


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one simulation as its agent saw it.

    The domain's policy is the system message, because tau2 logs no other. What the simulated user does with tools of
    its own is between it and the environment: the agent sees none of it, so it is kept in the metadata `user_tools`.
    The greeting that tau2 says in the agent's name is context.

    Args:
        record: `info` and `simulation`, as `runs` makes them.
        score: dotted path of the score; without one, `simulation.reward_info.reward`.
        task: dotted path of the task; without one, `simulation.task_id` after the name of the domain.

    Raises:
        DataError: a field is wrong; the conversation was spoken; or something other than the agent ended it.
    """
    simulation = record.get("simulation")
    if at(simulation, "ticks"):
        raise DataError("simulation.ticks: a spoken conversation; only text can be kept")
    turns = objects(at(simulation, "messages"), "simulation.messages")
    heard = [(index, turn) for index, turn in enumerate(turns) if not _of_user(turn)]
    messages = [_message(turn, f"simulation.messages.{index}") for index, turn in heard]
    greeted = _greets(heard)
    policy = text_at(record, "info.environment_info.policy", "simulation.policy")
    if policy and not (messages and messages[0].role == "system"):
        messages.insert(0, Message("system", policy))
    user_tools = {str(index): _bare(turn) for index, turn in enumerate(turns) if _of_user(turn)}
    metadata = fields_aside([("simulation.messages", turns)], FIELDS | _OWN, within=_WITHIN)
    domain, name = text_at(record, "info.environment_info.domain_name"), task_at(record, task, _TASKS)
    reason = at(simulation, "termination_reason")
    return Imported(
        messages=tuple(messages),
        context_turns=int(greeted),
        score=score_at(record, score, _SCORES),
        task=f"{domain}/{name}" if domain and name and task is None else name,
        task_from="tau2-bench's domain and task_id",
        policy=text_at(record, "info.agent_info.llm"),
        tools=tools_at(record, "info.environment_info.tool_defs"),
        outcome=ended(reason, "simulation.termination_reason", _ENDS) if reason is not None else Outcome.COMPLETED,
        metadata={**metadata, "user_tools": json.dumps(user_tools)} if user_tools else metadata,
    )


def _of_user(turn: Record) -> bool:
    """Whether a message is the simulated user's call of a tool, or its result."""
    if turn.get("role") == "user":
        return bool(turn.get("tool_calls"))
    return turn.get("role") == "tool" and turn.get("requestor") == "user"


def _greets(heard: Sequence[tuple[int, Record]]) -> bool:
    """Whether the conversation begins with a text of the agent's that no model wrote."""
    first = next((turn for _, turn in heard if turn.get("role") != "system"), {})
    return first.get("role") == "assistant" and not first.get("tool_calls") and not first.get("raw_data")


def _bare(turn: Record) -> dict[str, Any]:
    return {name: value for name, value in turn.items() if name not in _OWN}


def _message(turn: Record, where: str) -> Message:
    if turn.get("is_audio") is True:
        raise DataError(f"{where}: is spoken; only text can be kept")
    plain = _bare(turn)
    if turn.get("role") == "tool":
        plain["tool_call_id"] = plain.pop("id", None)
    if turn.get("tool_calls"):
        calls = objects(turn["tool_calls"], f"{where}.tool_calls")
        plain["tool_calls"] = [{"id": call.get("id"), "function": call} for call in calls]
    if turn.get("role") == "assistant" and (thought := text_at(turn, *_REASONING)) is not None:
        plain["reasoning_content"] = thought
    return message_from_dict(plain, where)


__all__ = ["read", "recognises", "runs"]
