"""Random runs of an agent, and writers that put them into the formats of others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from tests.builders import text

from trajtree.chat import message_to_dict
from trajtree.trajectory import Message, ToolCall

words = st.text("abc déf日[]()/.:", min_size=1, max_size=9).filter(str.strip)
arguments = st.dictionaries(text, text | st.integers(-99, 99) | st.booleans() | st.none() | st.lists(text, max_size=2))


@dataclass(frozen=True)
class Run:
    """A conversation and what must be read off it: (observation, thought, action) of every step."""

    messages: tuple[Message, ...]
    steps: tuple[tuple[str, str | None, str], ...]
    score: float


@st.composite
def runs(draw: st.DrawFn, *, tools: bool, reasoning: bool, system: bool = True) -> Run:
    """`tools` and `reasoning` say what the format can hold."""
    messages, steps = [], []
    if system and draw(st.booleans()):
        messages.append(Message("system", draw(text)))
    asked = draw(text)
    messages.append(Message("user", asked))
    seen = [asked]
    calls = 0
    for turn in range(draw(st.integers(1, 4))):
        thinks = draw(words) if reasoning and draw(st.booleans()) else None
        if tools and draw(st.booleans()):
            made = tuple(
                ToolCall(f"c{calls + i}", draw(words), json.dumps(draw(arguments), ensure_ascii=False))
                for i in range(draw(st.integers(1, 2)))
            )
            calls += len(made)
            said = draw(text)
            messages.append(Message("assistant", said, thinks, made))
            action = "\n".join(f"{c.name}({resorted(c.arguments)})" for c in made)
            steps.append(("\n".join(seen), thinks or said or None, action))
            answers = [Message("tool", draw(text), tool_call_id=c.id) for c in made]
        else:
            said, thought, action = draw(replies(turn))
            messages.append(Message("assistant", said, thinks))
            steps.append(("\n".join(seen), thinks or thought, action))
            answers = [Message("user", draw(text))]
        messages += answers
        seen = [m.content for m in answers]
    return Run(tuple(messages), tuple(steps), draw(st.sampled_from((0, 1, 0.25, True, False))))


@st.composite
def replies(draw: st.DrawFn, turn: int) -> tuple[str, str | None, str]:
    """(text, thought, action). The first has an `Action:`, so that no format takes it for an acknowledgement."""
    thought, action = draw(words), draw(words)
    kind = draw(st.sampled_from(("react", "act", "plain", "think")[: 4 if turn else 2]))
    if kind == "react":
        return f"Thought: {thought}\nAction: {action}", thought.strip(), action.strip()
    if kind == "act":
        return f"Action:\n{action}\n", None, action.strip()
    if kind == "think":
        return f"<think>\n{thought}</think>\n\n{action}", thought.strip(), action.strip()
    return action, None, action


def resorted(arguments_: str) -> str:
    return json.dumps(json.loads(arguments_), ensure_ascii=False, sort_keys=True)


def as_messages(run: Run) -> dict[str, Any]:
    return {"messages": [message_to_dict(m) for m in run.messages], "score": run.score}


def as_completion(run: Run) -> dict[str, Any]:
    written = [message_to_dict(m) for m in run.messages]
    cut = next(i for i, m in enumerate(run.messages) if m.role == "assistant")
    return {"prompt": written[:cut], "completion": written[cut:], "reward": run.score}


def as_sharegpt(run: Run) -> dict[str, Any]:
    who = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
    turns = []
    for message in run.messages:
        if message.tool_calls:
            called = [{"name": c.name, "arguments": json.loads(c.arguments)} for c in message.tool_calls]
            value = json.dumps(called[0] if len(called) == 1 else called)
            turns.append({"from": "function_call", "value": value})
        else:
            turns.append({"from": who[message.role], "value": message.content})
    return {"conversations": turns, "reward": run.score}


def as_atif(run: Run) -> dict[str, Any]:
    """Results of tools in the agent's step, everything else in steps of its own."""
    steps: list[dict[str, Any]] = []
    for message in run.messages:
        if message.role == "tool":
            found = steps[-1].setdefault("observation", {"results": []})
            found["results"].append({"source_call_id": message.tool_call_id, "content": message.content})
            continue
        source = "agent" if message.role == "assistant" else message.role
        step: dict[str, Any] = {"step_id": len(steps) + 1, "source": source, "message": message.content}
        if message.reasoning is not None:
            step["reasoning_content"] = message.reasoning
        if message.tool_calls:
            step["tool_calls"] = [
                {"tool_call_id": c.id, "function_name": c.name, "arguments": json.loads(c.arguments)}
                for c in message.tool_calls
            ]
        steps.append(step)
    agent = {"name": "hand", "version": "1", "model_name": "weak-1"}
    extra = {"score": run.score, "task": "t/1"}
    return {"schema_version": "ATIF-v1.8", "agent": agent, "steps": steps, "extra": extra}


def as_trace(run: Run) -> dict[str, Any]:
    """A verifiers v1 trace without branches."""
    nodes = []
    for index, message in enumerate(run.messages):
        written = {"role": message.role, "content": message.content}
        if message.reasoning is not None:
            written["reasoning_content"] = message.reasoning
        if message.tool_calls:
            calls = [{"id": c.id, "name": c.name, "arguments": c.arguments} for c in message.tool_calls]
            written |= {"tool_calls": calls}
        if message.tool_call_id is not None:
            written["tool_call_id"] = message.tool_call_id
        parent = index - 1 if index else None
        nodes.append({"parent": parent, "message": written, "sampled": message.role == "assistant"})
    return {
        "version": 1,
        "id": "x",
        "task": {"type": "T", "data": {"prompt": "p"}, "key": "t/1", "hash": "ab"},
        "agent": {"config": {"model": "weak-1"}},
        "tools": [],
        "nodes": nodes,
        "rewards": {"solved": {"score": run.score, "weight": 1.0}, "style": None},
        "is_completed": True,
        "stop_condition": "agent_completed",
        "errors": [],
    }


def lines_of(records: Sequence[Any]) -> str:
    return "".join(json.dumps(r) + "\n" for r in records)
