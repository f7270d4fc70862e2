"""ATIF v1.8, the Agent Trajectory Interchange Format: whole trajectories, for other tools rather than a trainer.

The agent's version is not recorded, so it is "unknown". Context turns are marked `is_copied_context`, which a trainer
must leave out. Source: the ATIF RFC of the Harbor framework.
"""

from __future__ import annotations

from collections.abc import Sequence

from trajtree.formats.write.checks import arguments_of, check_roles, refusal, tools_of, trajectory_name
from trajtree.store.lines import JsonObject
from trajtree.trajectory import Message, Trajectory

TARGET = "atif"
VERSION = "ATIF-v1.8"


def atif_trajectory(trajectory: Trajectory) -> JsonObject:
    """One ATIF document; `extra` has score, task, sample, outcome, environment and metadata.

    Raises:
        DataError: a tool's message does not follow a reply, or names a call that the reply does not have; calls of a
            reply share an id; arguments or tools are not JSON objects.
    """
    name = trajectory_name(trajectory)
    check_roles(trajectory.messages, name, TARGET)
    agent: JsonObject = {"name": trajectory.policy, "version": "unknown", "model_name": trajectory.policy}
    if trajectory.tools:
        agent["tool_definitions"] = tools_of(trajectory.tools, name, TARGET)
    extra: JsonObject = {
        "task": trajectory.task,
        "sample": trajectory.sample,
        **({} if trajectory.unscored else {"score": trajectory.score}),
        "outcome": trajectory.outcome.value,
        "env": trajectory.env,
        "env_version": trajectory.env_version,
        "metadata": dict(trajectory.metadata),
    }
    if trajectory.error is not None:
        extra["error"] = trajectory.error
    return {
        "schema_version": VERSION,
        "trajectory_id": f"{trajectory.task}#{trajectory.sample}",
        "agent": agent,
        "steps": _steps(trajectory, name),
        "extra": extra,
    }


def _steps(trajectory: Trajectory, name: str) -> list[JsonObject]:
    steps: list[JsonObject] = []
    rewards = {reply: step.reward for reply, step in zip(trajectory.replies, trajectory.steps, strict=False)}
    turns = 0
    for index, message in enumerate(trajectory.messages):
        if message.role == "tool":
            _add_result(steps, message, index, name)
            continue
        step: JsonObject = {"step_id": len(steps) + 1, "source": message.role, "message": message.content}
        if message.role == "assistant":
            step |= {"source": "agent"} | _reply(message, index, name)
            turns += 1
            if turns <= trajectory.context_turns:
                step["is_copied_context"] = True
        extra: JsonObject = {"name": message.name} if message.name is not None else {}
        if rewards.get(index):
            extra["reward"] = rewards[index]
        steps.append(step | ({"extra": extra} if extra else {}))
    return steps


def _reply(message: Message, index: int, name: str) -> JsonObject:
    fields: JsonObject = {}
    if message.reasoning is not None:
        fields["reasoning_content"] = message.reasoning
    if message.tool_calls:
        if len({call.id for call in message.tool_calls}) < len(message.tool_calls):
            raise refusal(name, TARGET, f"the calls of message {index} need ids of their own", "fix the data")
        fields["tool_calls"] = [
            {"tool_call_id": c.id, "function_name": c.name, "arguments": arguments_of(c, name, TARGET)}
            for c in message.tool_calls
        ]
    return fields


def _add_result(steps: Sequence[JsonObject], message: Message, index: int, name: str) -> None:
    """Add a tool's message to the step that called the tool."""
    if not steps or steps[-1]["source"] != "agent":
        reason = f"message {index} is a tool's, and no reply comes right before it"
        raise refusal(name, TARGET, reason, "export to trl")
    result: JsonObject = {"content": message.content}
    answers = message.tool_call_id
    if answers is not None:
        if answers not in {call["tool_call_id"] for call in steps[-1].get("tool_calls", [])}:
            made = any(call["tool_call_id"] == answers for step in steps for call in step.get("tool_calls", []))
            way_out = "export to trl" if made else "fix the data, or leave the run out"
            raise refusal(name, TARGET, f"message {index} answers a call that is not right before it", way_out)
        result["source_call_id"] = answers
    if message.name is not None:
        result["extra"] = {"name": message.name}
    steps[-1].setdefault("observation", {"results": []})["results"].append(result)


__all__ = ["VERSION", "atif_trajectory"]
