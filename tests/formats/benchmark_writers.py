"""Writers that put a conversation into the logs of benchmarks and their agents, in the structure of real ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trajtree.chat import message_to_dict
from trajtree.trajectory import Message

Conversation = Sequence[Message]
Run = tuple[Conversation, float]


@dataclass(frozen=True)
class Writer:
    """A log format of a benchmark.

    Attributes:
        format: its name in FORMATS.
        write: writes runs of one task into an empty folder.
        task: the task as it is read.
        binary: whether scores are only solved or not.
        reasoning: whether reasoning is held beside text and beside calls.
        ids: whether the ids of calls are held.
    """

    format: str
    write: Callable[[Path, Sequence[Run]], None]
    task: str = "mailbox/7"
    binary: bool = False
    reasoning: bool = True
    ids: bool = True


def _openai(message: Message) -> dict[str, Any]:
    return message_to_dict(message)


def _dump(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _dump_lines(path: Path, rows: Sequence[object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _solved(score: float) -> bool:
    return score == 1


def swe_agent_history(messages: Conversation) -> list[dict[str, Any]]:
    history = []
    for message in messages:
        written: dict[str, Any] = {"role": message.role, "content": message.content, "agent": "main"}
        if message.role == "assistant":
            written |= {"message_type": "action", "thought": message.content, "action": "run"}
            if message.tool_calls:
                written["tool_calls"] = message_to_dict(message)["tool_calls"]
            if message.reasoning is not None:
                written["thinking_blocks"] = [{"type": "thinking", "thinking": message.reasoning, "signature": "x"}]
        elif message.role == "tool":
            written |= {"message_type": "observation", "tool_call_ids": [message.tool_call_id]}
        history.append(written)
    return history


def swe_agent(folder: Path, runs: Sequence[Run]) -> None:
    """A folder per experiment; in it a folder per task, and the harness's report."""
    for number, (messages, score) in enumerate(runs):
        experiment, task = folder / f"run{number}", "post__mailbox-7"
        steps = [{"action": "run", "observation": "", "response": "", "thought": ""}]
        record = {
            "environment": "main",
            "trajectory": steps,
            "history": swe_agent_history(messages),
            "info": {"exit_status": "submitted", "submission": "diff", "model_stats": {}},
            "replay_config": json.dumps({"agent": {"model": {"name": "weak-1"}}}),
        }
        _dump(experiment / task / f"{task}.traj", record)
        solved = [task] if _solved(score) else []
        _dump(experiment / "weak.report.json", {"resolved_ids": solved, "unresolved_ids": [task], "error_ids": []})


def mini_swe_agent(folder: Path, runs: Sequence[Run]) -> None:
    """All tasks of an experiment in one folder, with a report per task as SWE-bench's harness logs it."""
    for number, (messages, score) in enumerate(runs):
        experiment, task = folder / f"run{number}", "post__mailbox-7"
        end = {"role": "exit", "content": "diff", "extra": {"exit_status": "Submitted", "submission": "diff"}}
        turns = [{**_openai(message), "extra": {"timestamp": 1.0}} for message in messages]
        record = {
            "info": {
                "exit_status": "Submitted",
                "submission": "diff",
                "config": {"model": {"model_name": "weak-1"}},
                "mini_version": "2.2.7",
            },
            "messages": [*turns, end],
            "trajectory_format": "mini-swe-agent-1.1",
        }
        _dump(experiment / f"{task}.traj.json", record)
        _dump(experiment / "logs" / task / "report.json", {task: {"resolved": _solved(score), "patch_exists": True}})


def message_list(folder: Path, runs: Sequence[Run]) -> None:
    """The messages alone, as an array or as lines; the score stands in a report."""
    for number, (messages, score) in enumerate(runs):
        experiment, task = folder / f"run{number}", "post__mailbox-7"
        experiment.mkdir()
        turns = [_openai(message) for message in messages]
        if number:
            _dump_lines(experiment / f"{task}.traj.json", turns)
        else:
            _dump(experiment / f"{task}.traj.json", turns)
        _dump(experiment / "report.json", {task: {"resolved": _solved(score)}})


def tau_bench(folder: Path, runs: Sequence[Run]) -> None:
    rows = [
        {
            "task_id": 7,
            "reward": score,
            "info": {"task": {"user_id": "mailbox"}, "reward_info": {"reward": score}, "user_cost": 0.1},
            "traj": [_openai(message) for message in messages],
            "trial": trial,
        }
        for trial, (messages, score) in enumerate(runs)
    ]
    _dump(folder / "results.json", rows)


def tau2_messages(messages: Conversation) -> list[dict[str, Any]]:
    turns = []
    for index, message in enumerate(messages):
        turn: dict[str, Any] = {"role": message.role, "content": message.content, "turn_idx": index, "cost": 0.0}
        if message.role == "tool":
            turn |= {"id": message.tool_call_id, "requestor": "assistant", "error": False}
        if message.role == "assistant":
            said = {"role": "assistant", "reasoning_content": message.reasoning}
            turn |= {"raw_data": {"choices": [{"message": said}]}, "is_audio": False}
            turn["tool_calls"] = [
                {"id": c.id, "name": c.name, "arguments": json.loads(c.arguments), "requestor": "assistant"}
                for c in message.tool_calls
            ] or None
        turns.append(turn)
    return turns


def tau2(folder: Path, runs: Sequence[Run]) -> None:
    """One object; the policy, which is the system message of the runs, is told once."""
    policy = next((m.content for messages, _ in runs for m in messages if m.role == "system"), None)
    simulations = [
        {
            "id": f"s{trial}",
            "task_id": "7",
            "trial": trial,
            "termination_reason": "user_stop",
            "reward_info": {"reward": score},
            "messages": tau2_messages([m for m in messages if m.role != "system"]),
        }
        for trial, (messages, score) in enumerate(runs)
    ]
    info = {
        "agent_info": {"implementation": "llm_agent", "llm": "weak-1"},
        "environment_info": {"domain_name": "mailbox", "policy": policy, "tool_defs": None},
    }
    _dump(folder / "results.json", {"info": info, "tasks": [{"id": "7"}], "simulations": simulations})


def inspect_messages(messages: Conversation) -> list[dict[str, Any]]:
    turns = []
    for message in messages:
        turn: dict[str, Any] = {"id": "m", "role": message.role, "content": message.content}
        if message.role == "assistant":
            turn["source"] = "generate"
            if message.reasoning is not None:
                thought = {"type": "reasoning", "reasoning": message.reasoning, "redacted": False}
                turn["content"] = [thought, {"type": "text", "text": message.content}]
            if message.tool_calls:
                turn["tool_calls"] = [
                    {"id": c.id, "function": c.name, "arguments": json.loads(c.arguments), "type": "function"}
                    for c in message.tool_calls
                ]
        if message.role == "tool":
            turn |= {"tool_call_id": message.tool_call_id, "function": "f"}
        turns.append(turn)
    return turns


def inspect_log(runs: Sequence[Run]) -> dict[str, Any]:
    samples = [
        {
            "id": 7,
            "epoch": epoch,
            "input": "go",
            "target": "x",
            "messages": inspect_messages(messages),
            "output": {"model": "weak-1", "choices": [{"stop_reason": "stop"}]},
            "scores": {"match": {"value": {1: "C", 0: "I"}.get(score, score), "answer": "x"}},
            "events": [{"event": "model", "tools": []}],
            "attachments": {},
        }
        for epoch, (messages, score) in enumerate(runs, 1)
    ]
    head = {"task": "mailbox", "model": "weak-1", "eval_id": "e"}
    return {"version": 2, "status": "success", "eval": head, "plan": {}, "samples": samples}


def inspect(folder: Path, runs: Sequence[Run]) -> None:
    _dump(folder / "log.json", inspect_log(runs))


def inspect_records(folder: Path, runs: Sequence[Run]) -> None:
    """The records that an archive of samples is read as."""
    log = inspect_log(runs)
    samples = log.pop("samples")
    _dump_lines(folder / "samples.jsonl", [{"header": log, "sample": sample} for sample in samples])


def openhands_events(messages: Conversation) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []

    def add(event: dict[str, Any]) -> None:
        events.append({"id": len(events), "timestamp": "t", **event})

    for message in messages:
        if message.role == "system":
            add({"source": "agent", "action": "system", "args": {"content": message.content, "tools": []}})
        elif message.role == "user":
            add({"source": "user", "action": "message", "args": {"content": message.content, "image_urls": None}})
            add({"source": "user", "action": "recall", "args": {"query": message.content}})
            add({"source": "environment", "observation": "recall", "content": "", "cause": len(events) - 1})
        elif message.role == "tool":
            meta = {"tool_call_id": message.tool_call_id, "function_name": "f"}
            add({"observation": "run", "content": message.content, "tool_call_metadata": meta, "extras": {}})
        elif message.tool_calls:
            reply = {"id": f"r{len(events)}", "choices": [{"message": _openai(message)}]}
            for call in message.tool_calls:
                meta = {"tool_call_id": call.id, "function_name": call.name, "model_response": reply}
                add({"source": "agent", "action": "run", "args": {}, "tool_call_metadata": meta})
        else:
            add({"source": "agent", "action": "message", "args": {"content": message.content}})
    return events


def openhands(folder: Path, runs: Sequence[Run]) -> None:
    rows = [
        {
            "instance_id": "mailbox/7",
            "instruction": "go",
            "metadata": {"agent_class": "CodeActAgent", "llm_config": {"model": "weak-1"}},
            "history": openhands_events(messages),
            "error": None,
            "report": {"resolved": _solved(score)},
        }
        for messages, score in runs
    ]
    _dump_lines(folder / "output.jsonl", rows)


def sdk_events(messages: Conversation) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [{"kind": "ConversationStateUpdateEvent", "key": "stats", "value": {}}]

    def parts(text: str) -> list[dict[str, Any]]:
        return [{"type": "text", "text": text, "cache_prompt": False}]

    for message in messages:
        if message.role == "system":
            events.append({"kind": "SystemPromptEvent", "system_prompt": parts(message.content)[0], "tools": []})
        elif message.role == "tool":
            seen = {"kind": "TerminalObservation", "content": parts(message.content), "is_error": False}
            events.append({"kind": "ObservationEvent", "observation": seen, "tool_call_id": message.tool_call_id})
        elif message.tool_calls:
            answer, thought = f"r{len(events)}", parts(message.content)
            for number, call in enumerate(message.tool_calls):
                said = {"id": call.id, "name": call.name, "arguments": call.arguments, "origin": "completion"}
                event: dict[str, Any] = {"kind": "ActionEvent", "tool_call": said, "llm_response_id": answer}
                event |= {"thought": [] if number else thought, "thinking_blocks": []}
                event |= {"reasoning_content": None if number else message.reasoning}
                events.append(event)
        else:
            said = {"role": message.role, "content": parts(message.content), "thinking_blocks": []}
            if message.reasoning is not None:
                said["reasoning_content"] = message.reasoning
            events.append({"kind": "MessageEvent", "source": message.role, "llm_message": said})
    return events


def openhands_sdk(folder: Path, runs: Sequence[Run]) -> None:
    """One file per experiment, with the benchmark's report beside it."""
    for number, (messages, score) in enumerate(runs):
        row = {"instance_id": "mailbox/7", "metadata": {"llm": {"model": "weak-1"}}, "error": None}
        experiment = folder / f"run{number}"
        experiment.mkdir()
        _dump_lines(experiment / "output.jsonl", [{**row, "history": sdk_events(messages)}])
        listed = "resolved_ids" if _solved(score) else "unresolved_ids"
        _dump(experiment / "output.report.json", {"resolved_ids": [], listed: ["mailbox/7"]})


def rllm(folder: Path, runs: Sequence[Run]) -> None:
    episodes = []
    for rollout, (messages, score) in enumerate(runs):
        replies = [index for index, message in enumerate(messages) if message.role == "assistant"]
        steps = [
            {"chat_completions": [_openai(message) for message in messages[: index + 1]], "reward": 0.0, "done": False}
            for index in replies
        ]
        # What follows the last reply is in no call of the model.
        told = [*map(_openai, messages)] if messages[-1].role != "assistant" else steps[-1]["chat_completions"]
        steps[-1]["chat_completions"] = told
        solver = {"uid": "u", "name": "solver", "task": {}, "reward": score, "steps": steps}
        episode = {"id": f"mailbox/7:{rollout}", "task": {"q": "go"}, "is_correct": _solved(score)}
        episodes.append({**episode, "termination_reason": "env_done", "trajectories": [solver]})
    _dump_lines(folder / "episodes.jsonl", episodes)


def llamafactory(folder: Path, runs: Sequence[Run]) -> None:
    rows = []
    for messages, score in runs:
        turns = []
        for message in messages:
            parts = [{"type": "text", "value": message.content}]
            if message.reasoning is not None:
                parts.insert(0, {"type": "reasoning", "value": message.reasoning})
            for call in message.tool_calls:
                told = {"name": call.name, "arguments": json.loads(call.arguments)}
                parts.append({"type": "tool_call", "value": json.dumps(told)})
            weight = float(message.role == "assistant")
            turns.append({"role": message.role, "content": parts, "loss_weight": weight})
        rows.append({"messages": turns, "score": score, "task": "mailbox/7", "model": "weak-1"})
    _dump_lines(folder / "rows.jsonl", rows)


def hub_rows(folder: Path, runs: Sequence[Run]) -> None:
    """SWE-smith's rows: SWE-agent's messages as text."""
    rows = [
        {
            "messages": json.dumps(swe_agent_history(messages)),
            "resolved": _solved(score),
            "instance_id": "mailbox/7",
            "model": "weak-1",
            "traj_id": f"t{number}",
        }
        for number, (messages, score) in enumerate(runs)
    ]
    _dump_lines(folder / "train.jsonl", rows)


def trajectory_rows(folder: Path, runs: Sequence[Run]) -> None:
    """Nebius' later rows: OpenAI's messages under `trajectory`."""
    rows = [
        {
            "trajectory": [_openai(message) for message in messages],
            "resolved": int(_solved(score)),
            "instance_id": "mailbox/7",
            "model": "weak-1",
            "exit_status": "submit",
        }
        for messages, score in runs
    ]
    _dump_lines(folder / "train.jsonl", rows)


WRITERS: dict[str, Writer] = {
    "SWE-agent": Writer("swe-agent", swe_agent, task="post__mailbox-7", binary=True),
    "mini-swe-agent": Writer("mini-swe-agent", mini_swe_agent, task="post__mailbox-7", binary=True),
    "messages alone": Writer("message-list", message_list, task="post__mailbox-7", binary=True),
    "tau-bench": Writer("tau-bench", tau_bench, task="7/mailbox"),
    "tau2-bench": Writer("tau2-bench", tau2),
    "inspect": Writer("inspect", inspect),
    "inspect's samples": Writer("inspect", inspect_records),
    "OpenHands 0": Writer("openhands", openhands, binary=True, reasoning=False),
    "OpenHands 1": Writer("openhands", openhands_sdk, binary=True),
    "rLLM": Writer("rllm", rllm),
    "LLaMA-Factory 1": Writer("llamafactory", llamafactory, ids=False),
    "SWE-smith": Writer("hub-rows", hub_rows, binary=True),
    "Nebius": Writer("hub-rows", trajectory_rows, binary=True),
}
