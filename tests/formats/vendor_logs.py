"""Writers that put a conversation into the logs of vendors' programs and APIs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from trajtree.trajectory import Message

Lines = list[dict[str, Any]]


def blocks(message: Message) -> list[dict[str, Any]]:
    """Anthropic's blocks of a message that is no system message."""
    if message.role == "tool":
        return [{"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.content}]
    found: list[dict[str, Any]] = []
    if message.reasoning is not None:
        found.append({"type": "thinking", "thinking": message.reasoning, "signature": "s"})
    if message.content or not message.tool_calls:
        found.append({"type": "text", "text": message.content})
    for call in message.tool_calls:
        found.append({"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments)})
    return found


def as_blocks(messages: Sequence[Message], score: object) -> dict[str, Any]:
    """A record with Anthropic's messages: results of one reply's calls share a user message."""
    turns: list[dict[str, Any]] = []
    before: Message | None = None
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        if message.role == "tool" and before is not None and before.role == "tool":
            turns[-1]["content"] += blocks(message)
        else:
            plain = message.role == "user"
            turns.append({"role": role, "content": message.content if plain else blocks(message)})
        before = message
    system = [m.content for m in messages if m.role == "system"]
    return {"messages": turns, "score": score, **({"system": system[0]} if system else {})}


def as_claude(messages: Sequence[Message], score: object = None) -> Lines:
    """A session: one block per line; results of parallel calls follow their own call, beside the branch."""
    lines: Lines = [{"type": "summary", "summary": "A title", "leafUuid": "none", "score": score}]
    last: str | None = None
    asked: dict[str, str] = {}
    for index, message in enumerate(messages):
        if message.role == "system":
            continue
        for block in blocks(message):
            uuid = f"u{len(lines)}"
            role = "assistant" if message.role == "assistant" else "user"
            said: dict[str, Any] = {"role": role, "content": [block]}
            if role == "assistant":
                said |= {"id": f"msg_{index}", "model": "claude-1"}
            elif message.role == "user" and index % 2:
                said["content"] = message.content
            parent = asked.get(str(message.tool_call_id), last)
            lines.append(event(uuid, parent, said))
            last = uuid
            if block["type"] == "tool_use":
                asked[block["id"]] = uuid
    return lines


def event(uuid: str, parent: str | None, message: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """An event of a session of Claude Code."""
    usual = {"isSidechain": False, "sessionId": "S", "version": "2.1.0", "timestamp": "2026-01-01T00:00:00Z"}
    return {"parentUuid": parent, **usual, "type": message["role"], "message": message, "uuid": uuid, **fields}


def pi_message(message: Message) -> dict[str, Any]:
    """A message of the coding agent pi that is no system message."""
    text = [{"type": "text", "text": message.content}]
    if message.role == "tool":
        return {"role": "toolResult", "toolCallId": message.tool_call_id, "toolName": "f", "content": text}
    if message.role == "user":
        return {"role": "user", "content": text}
    parts: Lines = []
    if message.reasoning is not None:
        parts.append({"type": "thinking", "thinking": message.reasoning, "thinkingSignature": "s"})
    if message.content or not message.tool_calls:
        parts += text
    for call in message.tool_calls:
        made = {"type": "toolCall", "id": call.id, "name": call.name, "arguments": json.loads(call.arguments)}
        parts.append(made)
    stop = "toolUse" if message.tool_calls else "stop"
    return {"role": "assistant", "content": parts, "model": "pi-1", "api": "a", "usage": {}, "stopReason": stop}


def as_pi(messages: Sequence[Message], score: object = None) -> Lines:
    """A session of version 3: a header, then entries that each name the one before."""
    head = {"type": "session", "version": 3, "id": "S", "timestamp": "t0", "cwd": "/home/u/code", "score": score}
    said = [pi_message(message) for message in messages if message.role != "system"]
    entries: Lines = [{"type": "model_change", "provider": "p", "modelId": "pi-1"}]
    entries += [{"type": "message", "message": message} for message in said]
    return [head, *pi_entries(*entries)]


def pi_entries(*entries: dict[str, Any]) -> Lines:
    """Entries with their ids, "0" and so on; each follows the one before, unless it says otherwise."""
    parents = [None, *map(str, range(len(entries) - 1))]
    return [
        {"id": str(number), "parentId": parent, "timestamp": f"t{number}", **entry}
        for number, (parent, entry) in enumerate(zip(parents, entries, strict=True))
    ]


def items(messages: Sequence[Message]) -> Lines:
    """Items of OpenAI's Responses API."""
    found: Lines = []
    for message in messages:
        if message.role == "tool":
            output = {"type": "function_call_output", "call_id": message.tool_call_id, "output": message.content}
            found.append(output)
            continue
        if message.reasoning is not None:
            summary = [{"type": "summary_text", "text": message.reasoning}]
            found.append({"type": "reasoning", "summary": summary, "content": None, "encrypted_content": "x"})
        if message.content or not message.tool_calls:
            kind = "output_text" if message.role == "assistant" else "input_text"
            content = [{"type": kind, "text": message.content}]
            found.append({"type": "message", "role": message.role, "content": content})
        for call in message.tool_calls:
            made = {"type": "function_call", "name": call.name, "arguments": call.arguments, "call_id": call.id}
            found.append(made)
    return found


def as_items(messages: Sequence[Message], score: object) -> dict[str, Any]:
    return {"messages": items(messages), "score": score}


def as_codex(messages: Sequence[Message], score: object = None) -> Lines:
    """A session: instructions in its first event, items in the others, and notes for the user between them."""
    system = [m.content for m in messages if m.role == "system"]
    meta = {"id": "S", "cli_version": "0.99", "base_instructions": {"text": "".join(system)}, "score": score}
    lines: Lines = [
        {"timestamp": "t0", "type": "session_meta", "payload": meta},
        {"timestamp": "t1", "type": "turn_context", "payload": {"model": "gpt-1"}},
    ]
    for item in items([m for m in messages if m.role != "system"]):
        lines.append({"timestamp": f"t{len(lines)}", "type": "response_item", "payload": item})
        lines.append({"timestamp": f"t{len(lines)}", "type": "event_msg", "payload": {"type": "token_count"}})
    return lines


def contents(messages: Sequence[Message]) -> Lines:
    """Contents of Gemini's API: results of one reply's calls share a content."""
    found: Lines = []
    before: Message | None = None
    for message in messages:
        if message.role == "tool":
            response = {"id": message.tool_call_id, "name": "f", "response": {"output": message.content}}
            parts: list[dict[str, Any]] = [{"functionResponse": response}]
            if before is not None and before.role == "tool":
                found[-1]["parts"] += parts
                continue
        else:
            parts = [{"text": message.reasoning, "thought": True}] if message.reasoning is not None else []
            if message.content or not message.tool_calls:
                parts.append({"text": message.content})
            for call in message.tool_calls:
                made = {"id": call.id, "name": call.name, "args": json.loads(call.arguments)}
                parts.append({"functionCall": made, "thoughtSignature": "s"})
        before = message
        found.append({"role": "model" if message.role == "assistant" else "user", "parts": parts})
    return found


def as_gemini(messages: Sequence[Message], score: object) -> dict[str, Any]:
    system = [m.content for m in messages if m.role == "system"]
    made = contents([m for m in messages if m.role != "system"])
    instruction = {"systemInstruction": {"parts": [{"text": system[0]}]}} if system else {}
    return {"contents": made, "score": score, "model": "gemini-1", **instruction}


def as_gemini_session(messages: Sequence[Message], score: object) -> dict[str, Any]:
    """A session of the command line: a reply has its calls with their results."""
    told: Lines = []
    for message in messages:
        if message.role == "system":
            continue
        if message.role == "tool":
            response = {"id": message.tool_call_id, "name": "f", "response": {"output": message.content}}
            call = next(c for c in told[-1]["toolCalls"] if c["id"] == message.tool_call_id)
            call["result"] = [{"functionResponse": response}]
            continue
        one: dict[str, Any] = {"id": str(len(told)), "timestamp": "t", "content": message.content}
        if message.role == "user":
            told.append({**one, "type": "user"})
            continue
        calls = [{"id": c.id, "name": c.name, "args": json.loads(c.arguments)} for c in message.tool_calls]
        thoughts = [{"description": message.reasoning, "timestamp": "t"}] if message.reasoning is not None else []
        told.append({**one, "type": "gemini", "model": "gemini-1", "thoughts": thoughts, "toolCalls": calls})
    usual = {"sessionId": "S", "projectHash": "h", "startTime": "t0", "lastUpdated": "t9"}
    return {**usual, "messages": told, "score": score}


def parts_of(message: Message) -> dict[str, Any]:
    """A message of OpenTelemetry."""
    if message.role == "tool":
        parts = [{"type": "tool_call_response", "id": message.tool_call_id, "response": message.content}]
        return {"role": "tool", "parts": parts}
    parts = [{"type": "reasoning", "content": message.reasoning}] if message.reasoning is not None else []
    if message.content or not message.tool_calls:
        parts.append({"type": "text", "content": message.content})
    for call in message.tool_calls:
        made = {"type": "tool_call", "id": call.id, "name": call.name, "arguments": json.loads(call.arguments)}
        parts.append(made)
    return {"role": message.role, "parts": parts}


def as_spans(messages: Sequence[Message], score: object = None, trace: str = "T") -> Lines:
    """A span per reply, each with everything before it, and one for the whole agent."""
    spans: Lines = []
    for index, message in enumerate(messages):
        if message.role == "assistant":
            given = [parts_of(m) for m in messages[:index]]
            said = [{**parts_of(message), "finish_reason": "stop"}]
            attributes = {
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "m-1",
                "gen_ai.input.messages": json.dumps(given),
                "gen_ai.output.messages": json.dumps(said),
            }
            spans.append(
                {
                    "name": "chat",
                    "trace_id": trace,
                    "span_id": str(index),
                    "parent_id": "root",
                    "attributes": attributes,
                }
            )
    return [*spans, {"name": "agent", "trace_id": trace, "span_id": "root", "attributes": {"score": score}}]
