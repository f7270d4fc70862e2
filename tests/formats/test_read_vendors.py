"""Logs of vendors' programs and APIs: what was said is read as it was, and what cannot be kept is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick
from tests.formats.conversations import Run, lines_of, runs
from tests.formats.one_story import CALLS, check_story
from tests.formats.vendor_logs import (
    as_blocks,
    as_claude,
    as_codex,
    as_gemini,
    as_gemini_session,
    as_items,
    as_pi,
    as_spans,
    contents,
    event,
    parts_of,
)

from trajtree.chat import message_to_dict
from trajtree.errors import DataError
from trajtree.formats.importing import import_files
from trajtree.formats.read.detect import beginning_of
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Message, Outcome, ToolCall, Trajectory


@dataclass(frozen=True)
class Log:
    """How a conversation is written, what its format is, where its score is, and what it holds: instructions, and what
    came after the last reply.
    """

    write: Callable[[Sequence[Message], Any], Any]
    format: str
    score: str | None = None
    system: bool = True
    end: bool = True
    policy: str = "unknown"


LOGS = {
    "blocks": Log(as_blocks, "messages"),
    "items": Log(as_items, "messages"),
    "claude-code": Log(as_claude, "claude-code", "events.0.score", system=False, policy="claude-1"),
    "pi": Log(as_pi, "pi", "events.0.score", system=False, policy="pi-1"),
    "codex": Log(as_codex, "codex", "events.0.payload.score", policy="gpt-1"),
    "contents": Log(as_gemini, "gemini", policy="gemini-1"),
    "checkpoint": Log(lambda m, s: [{**c, "score": s} for c in contents(m)], "gemini", "events.0.score", system=False),
    "gemini session": Log(as_gemini_session, "gemini", system=False, policy="gemini-1"),
    "spans": Log(as_spans, "opentelemetry", end=False, policy="m-1"),
}


def written(log: Log, folder: Path, messages: Sequence[Message], score: Any, name: str = "log") -> Path:
    messages = [m for m in messages if log.system or m.role != "system"]
    made = log.write(messages, score)
    file = folder / f"{name}.jsonl"
    file.write_text(lines_of(made if isinstance(made, list) else [made]))
    return file


def only(file: Path, **options: Any) -> Trajectory:
    store = file.with_suffix(".store")
    report = import_files(file, store, **options)
    assert report.added == 1, report.left_out
    (found,) = TrajectoryStore(store)
    return found


def refused(file: Path, **options: Any) -> str:
    report = import_files(file, file.with_suffix(".store"), **options)
    assert report.added == 0
    (found,) = report.left_out
    return found.reason


@pytest.mark.parametrize("name", LOGS)
def test_every_log_tells_the_story(tmp_path: Path, name: str) -> None:
    log = LOGS[name]
    files = [written(log, tmp_path, told.messages, told.score, str(i)) for i, told in enumerate(CALLS)]
    assert {beginning_of(file).format for file in files} == {log.format}
    found = check_story(files, tmp_path / "s", system=log.system, task=None, score=log.score)
    assert {run.policy for run in found} == {log.policy}


@pytest.mark.parametrize("name", LOGS)
@quick
@given(run=runs(tools=True, reasoning=True))
def test_what_was_said_is_read(tmp_path_factory: pytest.TempPathFactory, name: str, run: Run) -> None:
    log = LOGS[name]
    file = written(log, tmp_path_factory.mktemp("log"), run.messages, run.score)
    found = only(file, score=log.score)
    last = max(i for i, m in enumerate(run.messages) if m.role == "assistant")
    told = run.messages if log.end else run.messages[: last + 1]
    said = [m for m in told if m.role != "system" or (log.system and m.content)]
    assert [m for m in found.messages if m.role != "system" or m.content] == said
    assert tuple((s.observation, s.thought, s.action) for s in found.steps) == run.steps
    assert (found.score, found.context_turns) == (float(run.score), 0)


@pytest.mark.parametrize("name", LOGS)
@quick
@given(data=st.data())
def test_damaged_logs_are_said_and_never_crash(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    """Any value of a log may be missing or be anything else, and the file may be cut off."""
    log, folder = LOGS[name], tmp_path_factory.mktemp("log")
    file = written(log, folder, data.draw(runs(tools=True, reasoning=True)).messages, 1)
    records = [json.loads(line) for line in file.read_text().splitlines()]
    spots = [(holder, key) for record in records for holder, key in places(record)]
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(spots))
        holder[key] = data.draw(st.sampled_from([None, [], {}, "", "x", 7, 1e300, True, [[]], [None], {"a": 1}]))
    whole = lines_of(records)
    file.write_text(whole[: data.draw(st.sampled_from([len(whole), len(whole) // 2, len(whole) - 2]))])
    try:
        report = import_files(file, folder / "store", format=log.format, score=log.score)
    except DataError as error:
        assert str(error)
    else:
        assert report.added or report.left_out_count
        assert all(record.reason for record in report.left_out)


def places(value: Any) -> Any:
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


# Anthropic's blocks and OpenAI's items in messages


def write(folder: Path, *records: dict[str, Any]) -> Path:
    (folder / "x.jsonl").write_text(lines_of(records))
    return folder / "x.jsonl"


USE = {"type": "tool_use", "id": "t", "name": "ls", "input": {}}


def test_results_and_text_of_a_user_are_messages_of_their_own(tmp_path: Path) -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "a"}], "is_error": True}
    turns = [
        {"role": "user", "content": "Go"},
        {"role": "assistant", "content": [USE, {"type": "redacted_thinking", "data": "zz"}]},
        {"role": "user", "content": [result, {"type": "text", "text": "and "}, {"type": "text", "text": "then?"}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": ""}, {"type": "text", "text": "done"}]},
    ]
    found = only(write(tmp_path, {"messages": turns, "score": 1, "system": [{"type": "text", "text": "Be brief."}]}))
    assert found.messages == (
        Message("system", "Be brief."),
        Message("user", "Go"),
        Message("assistant", "", tool_calls=(ToolCall("t", "ls", "{}"),)),
        Message("tool", "a", tool_call_id="t"),
        Message("user", "and then?"),
        Message("assistant", "done"),
    )
    assert json.loads(str(found.metadata["message_fields"])) == {
        "messages.1.content.1": {"data": "zz"},
        "messages.2.content.0": {"is_error": True},
    }


@pytest.mark.parametrize(
    ("turn", "why"),
    [
        (
            {"role": "assistant", "content": [USE, {"type": "image"}]},
            r"content\.1: a block of type 'image'; of role as",
        ),
        ({"role": "user", "content": [USE]}, r"content\.0: a block of type 'tool_use'; of role user only text"),
        ({"role": "system", "content": [USE]}, "role: 'system' is not one of user, assistant"),
        ({"role": "assistant", "content": [{**USE, "id": 7}]}, "a tool_use needs an id and a name"),
        ({"role": "user", "content": [{"type": "tool_result"}]}, "tool_use_id: must name the call"),
        ({"role": "assistant", "content": [USE, {"type": "text"}]}, r"content\.1\.text: must be text, got NoneType"),
        (
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]}]},
            r"content\.0\.content\.0: a part of type 'image'",
        ),
        ({"type": "web_search_call"}, "an item of type 'web_search_call'; only message, reasoning"),
        ({"type": "function_call", "call_id": "k"}, "name: a call needs a name"),
        ({"type": "function_call_output", "output": "x"}, "call_id: must name the call"),
        ({"role": "user", "content": [{"type": "input_image"}]}, "a part of type 'input_image'; only text"),
    ],
)
def test_blocks_and_items_that_cannot_be_kept(tmp_path: Path, turn: dict[str, Any], why: str) -> None:
    item = {"type": "function_call_output", "call_id": "k", "output": "x"}
    turns = [{"role": "user", "content": "Go"}, *([] if "content" in turn else [item]), turn]
    if turn.get("content") == [{"type": "input_image"}]:
        turns.append(item)
    assert re.search(why, refused(write(tmp_path, {"messages": turns, "score": 1})))


TOLD = CALLS[0].messages


# Claude Code

ASK = {"role": "user", "content": "Go"}


def says(text: str, id: str, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "id": id, "model": "claude-1", "content": [{"type": "text", "text": text}], **fields}


def session(folder: Path, *events: dict[str, Any]) -> Path:
    return write(folder, {"type": "summary", "leafUuid": "x", "score": 1}, *events)


def heard(file: Path, score: str = "events.0.score") -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in only(file, score=score).messages]


def test_the_last_branch_of_a_session_is_the_run(tmp_path: Path) -> None:
    left = [event("1", None, ASK), event("2", "1", says("wrong", "m1")), event("3", "2", {**ASK, "content": "No"})]
    file = session(tmp_path, *left, event("4", "1", says("right", "m2")), {"type": "last-prompt", "sessionId": "S"})
    assert heard(file) == [("user", "Go"), ("assistant", "right")]


def test_a_session_without_branches_is_read_in_the_order_of_its_file(tmp_path: Path) -> None:
    events = [event(str(i), None, said) for i, said in enumerate([ASK, says("a", "m1"), ASK, says("b", "m2")])]
    assert [content for _, content in heard(session(tmp_path, *events))] == ["Go", "a", "Go", "b"]


def test_a_session_of_the_web_is_one_object(tmp_path: Path) -> None:
    """Its events name neither themselves nor what they follow, and its messages have no ids."""
    said = [says("a", ""), ASK, says("b", "")]
    events = [
        {"type": m["role"], "timestamp": "t", "message": {k: v for k, v in m.items() if k != "id"}}
        for m in (ASK, *said)
    ]
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"loglines": events, "score": 1}))
    assert heard(file, "score") == [("user", "Go"), ("assistant", "a"), ("user", "Go"), ("assistant", "b")]


def test_notes_of_the_program_are_ignored_whatever_they_are(tmp_path: Path) -> None:
    note = {"type": "newly-invented", "sessionId": "S", "value": 1}
    file = session(tmp_path, event("1", None, ASK), note, event("2", "1", says("a", "m1")), note)
    assert heard(file) == [("user", "Go"), ("assistant", "a")]


def test_what_the_model_never_saw_is_left_out(tmp_path: Path) -> None:
    queued = {"type": "attachment", "attachment": {"type": "queued_command", "prompt": "Also this"}}
    events = [
        event("1", None, ASK),
        event("2", "1", says("API Error", "m1", model="<synthetic>"), isApiErrorMessage=True),
        event("3", "2", {**ASK, "content": "Only for the reader"}, isVisibleInTranscriptOnly=True),
        {"type": "system", "subtype": "turn_duration", "uuid": "4", "parentUuid": "3", "sessionId": "S"},
        {"type": "progress", "uuid": "5", "parentUuid": "4", "sessionId": "S"},
        {**queued, "uuid": "6", "parentUuid": "5", "sessionId": "S"},
        {"type": "attachment", "attachment": {"type": "todo_reminder"}, "uuid": "7", "parentUuid": "6"},
        {"type": "system", "subtype": "local_command", "content": "<out>", "uuid": "8", "parentUuid": "7"},
        event("9", "8", says("done", "m2")),
    ]
    file = session(tmp_path, *events)
    assert heard(file) == [("user", "Go"), ("user", "Also this"), ("user", "<out>"), ("assistant", "done")]
    (found,) = TrajectoryStore(file.with_suffix(".store"))
    assert (found.metadata["attachments"], found.metadata["session"]) == ("todo_reminder (1)", "S")


def test_a_session_that_ends_in_an_error_of_the_api_is_left_out(tmp_path: Path) -> None:
    error = event("3", "2", says("API Error: 529", "m2", model="<synthetic>"), isApiErrorMessage=True)
    file = session(tmp_path, event("1", None, ASK), event("2", "1", says("a", "m1")), error)
    assert "ends in an error of the API" in refused(file, score="events.0.score")


def test_a_compacted_session_goes_on_after_its_summary(tmp_path: Path) -> None:
    boundary = {"type": "system", "subtype": "compact_boundary", "uuid": "3", "parentUuid": None, "sessionId": "S"}
    events = [
        event("1", None, ASK),
        event("2", "1", says("a", "m1")),
        {**boundary, "logicalParentUuid": "2"},
        event("4", "3", {**ASK, "content": "This is what was done."}, isCompactSummary=True),
        event("5", "4", says("b", "m2")),
    ]
    file = session(tmp_path, *events)
    assert heard(file) == [
        ("user", "Go"),
        ("assistant", "a"),
        ("user", "This is what was done."),
        ("assistant", "b"),
    ]
    assert next(iter(TrajectoryStore(file.with_suffix(".store")))).metadata["compactions"] == 1


def test_subagents_of_a_session_are_runs_of_their_own(tmp_path: Path) -> None:
    """Their file holds nothing else, or they stand between the session's own events, with or without a name."""
    events = [
        event("1", None, ASK, score=1),
        event("a1", None, {**ASK, "content": "Look"}, isSidechain=True, score=0.5),
        event("2", "1", says("main", "m1")),
        event("a2", "a1", says("looked", "m2"), isSidechain=True),
        event("b1", None, {**ASK, "content": "Count"}, isSidechain=True, agentId="b", score=0.25),
        event("b2", "b1", says("two", "m3"), isSidechain=True, agentId="b"),
    ]
    (tmp_path / "x.jsonl").write_text(lines_of(events))
    assert import_files(tmp_path / "x.jsonl", tmp_path / "s", score="events.0.score").added == 3
    found = {
        run.metadata["session"]: ([m.content for m in run.messages], run.score)
        for run in TrajectoryStore(tmp_path / "s")
    }
    assert found == {
        "S": (["Go", "main"], 1),
        "S/a1": (["Look", "looked"], 0.5),
        "S/b": (["Count", "two"], 0.25),
    }
    (tmp_path / "agent-b.jsonl").write_text(lines_of(events[-2:]))
    assert [content for _, content in heard(tmp_path / "agent-b.jsonl")] == ["Count", "two"]


def test_scores_of_sessions_and_subagents_from_elsewhere(tmp_path: Path) -> None:
    main = as_claude(TOLD)
    side = [{**e, "isSidechain": True, "agentId": "b", "uuid": f"b{i}"} for i, e in enumerate(as_claude(TOLD)[1:])]
    side = [{**e, "parentUuid": f"b{i - 1}" if i else None} for i, e in enumerate(side)]
    (tmp_path / "x.jsonl").write_text(lines_of([*main, *side]))
    (tmp_path / "y.jsonl").write_text(lines_of(as_codex(TOLD)))
    (tmp_path / "scores.csv").write_text("run,file,score\nS,x.jsonl,0.25\nS/b,,0.5\n,y.jsonl,1\n")
    files = [tmp_path / "x.jsonl", tmp_path / "y.jsonl"]
    report = import_files(files, tmp_path / "s", scores=tmp_path / "scores.csv")
    assert report.added == 3, report.left_out
    assert [run.score for run in TrajectoryStore(tmp_path / "s")] == [0.25, 0.5, 1]


def test_a_subagent_in_a_file_of_its_own_may_be_named_by_it(tmp_path: Path) -> None:
    side = [{**e, "isSidechain": True, "agentId": "b"} for e in as_claude(TOLD)[1:]]
    (tmp_path / "agent-b.jsonl").write_text(lines_of(side))
    (tmp_path / "x.jsonl").write_text(lines_of(as_claude(TOLD)))
    (tmp_path / "scores.csv").write_text("run,score\nagent-b.jsonl,0.5\nx.jsonl,1\n")
    files = [tmp_path / "agent-b.jsonl", tmp_path / "x.jsonl"]
    report = import_files(files, tmp_path / "s", scores=tmp_path / "scores.csv")
    assert report.added == 2, report.left_out
    assert {run.metadata["session"]: run.score for run in TrajectoryStore(tmp_path / "s")} == {"S/b": 0.5, "S": 1}


def test_who_spoke_and_when_is_kept(tmp_path: Path) -> None:
    events = [
        event("1", None, ASK),
        event("2", "1", says("a", "m1", model="claude-2"), timestamp="t2"),
        event("3", "2", ASK),
        event("4", "3", says("b", "m2"), timestamp="t4"),
        event("5", "4", ASK),
        event("6", "5", says("c", "m3"), timestamp="t6"),
    ]
    found = only(session(tmp_path, *events), score="events.0.score")
    assert (found.policy, found.metadata["models"]) == ("claude-1", "claude-2, claude-1")
    assert [(made.model, made.time) for made in found.made] == [("claude-2", "t2"), (None, "t4"), (None, "t6")]


def test_sessions_are_redacted_by_default(tmp_path: Path) -> None:
    file = session(tmp_path, event("1", None, ASK), event("2", "1", says("see /home/jane/x", "m1")))
    assert "jane" not in only(file, score="events.0.score").messages[-1].content


@pytest.mark.parametrize(
    ("events", "why"),
    [
        (
            [event("1", None, ASK), {"type": "telepathy", "sessionId": "S", "parentUuid": "1"}],
            r"events\.2\.type: 'telepathy' is not an event",
        ),
        ([event("2", "1", says("a", "m"))], r"events\.1\.parentUuid: is not in the file, so the beginning"),
        ([event("1", None, {"role": "user", "content": [{"type": "image"}]})], "a block of type 'image'"),
        ([event("1", None, {"role": "user"})], r"events\.1\.message\.content: is missing"),
        ([event("1", None, ASK)], "the agent never replies"),
    ],
)
def test_sessions_that_cannot_be_kept(tmp_path: Path, events: list[dict[str, Any]], why: str) -> None:
    assert re.search(why, refused(session(tmp_path, *events), score="events.0.score"))


def test_a_session_that_is_cut_off_is_said(tmp_path: Path) -> None:
    file = session(tmp_path, event("1", None, ASK), event("2", "1", says("a", "m")))
    file.write_text(file.read_text()[:-20])
    reason = refused(file, score="events.0.score")
    assert reason == "line 3: not a JSON object, so the session is not whole; restore or remove the line"


def test_replies_of_thoughts_alone_are_only_counted(tmp_path: Path) -> None:
    thought = {**says("", "m1"), "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}]}
    stop = {**ASK, "content": "[Request interrupted by user]"}
    events = [event("1", None, ASK), event("2", "1", thought), event("3", "2", stop), event("4", "3", says("a", "m2"))]
    file = session(tmp_path, *events)
    assert heard(file) == [("user", "Go"), ("user", "[Request interrupted by user]"), ("assistant", "a")]
    assert next(iter(TrajectoryStore(file.with_suffix(".store")))).metadata["unfinished_replies"] == 1


# Codex

META = {"type": "session_meta", "timestamp": "t", "payload": {"id": "S", "score": 1}}


def codex(folder: Path, *payloads: dict[str, Any]) -> Path:
    events = [p if "payload" in p else {"type": "response_item", "timestamp": "t", "payload": p} for p in payloads]
    return write(folder, META, *events)


def item(role: str, text: str) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}


AT_META = "events.0.payload.score"


@pytest.mark.parametrize(
    ("history", "message", "said"),
    [
        (None, "Summary.", ["Summary."]),
        ([item("user", "Go"), item("user", "Summary.")], "", ["Summary."]),
        ([item("user", "Go"), {"type": "compaction", "encrypted_content": "z"}], "", []),
    ],
)
def test_a_compacted_history_goes_on_after_its_summary(
    tmp_path: Path, history: list[dict[str, Any]] | None, message: str, said: list[str]
) -> None:
    payload = {"message": message, **({} if history is None else {"replacement_history": history})}
    compacted = {"type": "compacted", "timestamp": "t", "payload": payload}
    more = [item("user", "More"), item("assistant", "b")]
    file = codex(tmp_path, item("user", "Go"), item("assistant", "a"), compacted, *more)
    assert [content for _, content in heard(file, AT_META)] == ["Go", "a", *said, "More", "b"]
    assert next(iter(TrajectoryStore(file.with_suffix(".store")))).metadata["compactions"] == 1


def test_calls_of_all_kinds(tmp_path: Path) -> None:
    shell = {"type": "local_shell_call", "call_id": "s", "status": "completed", "action": {"command": ["ls"]}}
    patch = {"type": "custom_tool_call", "call_id": "p", "name": "apply_patch", "input": "*** Begin"}
    broken = {"type": "function_call", "call_id": "f", "name": "run", "arguments": '{"a": '}
    outputs = [
        {"type": "function_call_output", "call_id": "s", "output": [{"type": "input_text", "text": "a.py"}]},
        {"type": "custom_tool_call_output", "call_id": "p", "output": "ok"},
        {"type": "function_call_output", "call_id": "f", "output": {"content": "bad", "success": False}},
    ]
    file = codex(tmp_path, item("user", "Go"), shell, patch, broken, *outputs, item("assistant", "x"))
    _, reply, *results, _ = only(file, score=AT_META).messages
    assert reply.tool_calls == (
        ToolCall("s", "local_shell", '{"command": ["ls"]}'),
        ToolCall("p", "apply_patch", "*** Begin"),
        ToolCall("f", "run", '{"a": '),
    )
    assert [(m.content, m.tool_call_id) for m in results] == [("a.py", "s"), ("ok", "p"), ("bad", "f")]


def test_items_of_old_sessions_are_lines_themselves(tmp_path: Path) -> None:
    meta = {"id": "S", "timestamp": "t", "instructions": "Be brief.", "score": 1}
    file = write(tmp_path, meta, {"record_type": "state"}, item("user", "Go"), item("assistant", "a"))
    assert heard(file) == [("system", "Be brief."), ("user", "Go"), ("assistant", "a")]


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ({"type": "dream", "payload": {}}, r"events\.1\.type: 'dream' is not an event that is known"),
        ({"type": "event_msg", "payload": {"type": "thread_rolled_back"}}, "turns were rolled back"),
        ({"type": "response_item", "payload": {"type": "web_search_call"}}, "an item of type 'web_search_call'"),
        ({"type": "response_item", "payload": "x"}, r"events\.1\.0: must be an object"),
        ({"type": "compacted", "payload": {}}, "the summary of the history is missing"),
    ],
)
def test_events_of_codex_that_cannot_be_kept(tmp_path: Path, event: dict[str, Any], why: str) -> None:
    assert re.search(why, refused(codex(tmp_path, event, item("assistant", "a")), score=AT_META))


# Gemini


def test_a_response_that_is_not_one_text_is_json(tmp_path: Path) -> None:
    def result(**response: Any) -> dict[str, Any]:
        return {"functionResponse": {"name": "ls", "response": response}}

    turns = [
        {"role": "user", "parts": [{"text": "Go"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "ls"}}]},
        {"role": "function", "parts": [result(output="a", code=0), result(error="none"), {"text": "Well?"}]},
        {"role": "model", "parts": [{"text": "One"}]},
        {"role": "model", "parts": [{"text": " file."}]},
    ]
    declared = [{"functionDeclarations": [{"name": "ls"}]}]
    found = only(write(tmp_path, {"contents": turns, "score": 1, "tools": declared, "task": "t"}))
    assert [(m.role, m.content, m.name) for m in found.messages[2:]] == [
        ("tool", '{"output": "a", "code": 0}', "ls"),
        ("tool", "none", "ls"),
        ("user", "Well?", None),
        ("assistant", "One file.", None),
    ]
    assert [json.loads(tool) for tool in found.tools] == [{"type": "function", "function": {"name": "ls"}}]


def test_a_session_of_lines_and_its_notes(tmp_path: Path) -> None:
    lines = [
        {"sessionId": "S", "projectHash": "h", "startTime": "t", "kind": "main", "score": 1},
        {"id": "1", "type": "user", "content": [{"text": "Go"}]},
        {"id": "2", "type": "info", "content": "Update available"},
        {"id": "3", "type": "gemini", "content": "done", "model": "gemini-1"},
    ]
    assert heard(write(tmp_path, *lines)) == [("user", "Go"), ("assistant", "done")]


def test_the_last_state_of_a_session_counts(tmp_path: Path) -> None:
    """Lines are changes: messages are written again when they grow, replaced, and taken back."""

    def said(id: str, kind: str, text: str, **fields: Any) -> dict[str, Any]:
        return {"id": id, "type": kind, "content": [{"text": text}], **fields}

    called = {
        "id": "c",
        "name": "ls",
        "args": {},
        "result": [{"functionResponse": {"id": "c", "response": {"output": "a"}}}],
    }
    twice = [{"functionCall": {"id": "other", "name": "ls", "args": {}}}]
    lines = [
        {"sessionId": "S", "projectHash": "h", "score": 1},
        said("0", "user", "Dropped"),
        {"$set": {"messages": [said("1", "user", "Go")], "lastUpdated": "t"}},
        said("2", "gemini", "I"),
        said("2", "gemini", "I look.", toolCalls=[called]) | {"content": [{"text": "I look."}, *twice]},
        {"$set": {"lastUpdated": "t"}},
        said("3", "user", "No"),
        said("4", "gemini", "wrong"),
        {"$rewindTo": "3"},
        said("5", "user", "Well?"),
        said("6", "gemini", "one file"),
    ]
    assert heard(write(tmp_path, *lines)) == [
        ("user", "Go"),
        ("assistant", "I look."),
        ("tool", "a"),
        ("user", "Well?"),
        ("assistant", "one file"),
    ]
    (tmp_path / "more").mkdir()
    reason = refused(write(tmp_path / "more", *lines, {"$undo": 1}), score="events.0.score")
    assert "a line of $undo is neither a message nor a change that is known" in reason


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"contents": [{"role": "user", "parts": [{"inlineData": {}}]}]}, "a part of inlineData in a content of role"),
        ({"contents": [{"role": "robot", "parts": []}]}, "role: 'robot' is not one of"),
        ({"contents": [{"role": "model", "parts": [{"functionCall": {}}]}]}, "name: a call needs a name"),
        ({"sessionId": "S", "projectHash": "h", "messages": [{"type": "x"}]}, "'x' is not one of user, gemini"),
    ],
)
def test_what_gemini_may_hold_and_we_cannot(tmp_path: Path, record: dict[str, Any], why: str) -> None:
    assert re.search(why, refused(write(tmp_path, {**record, "score": 1})))


# OpenTelemetry


def test_traces_that_are_mixed_in_a_file_are_told_apart(tmp_path: Path) -> None:
    one, two = as_spans(TOLD, 1, "A"), as_spans(CALLS[1].messages, 0, "B")
    file = write(tmp_path, *(span for pair in zip(one, two, strict=False) for span in reversed(pair)), *one[len(two) :])
    assert import_files(file, tmp_path / "s").added == 2
    assert {run.metadata["session"]: run.messages for run in TrajectoryStore(tmp_path / "s")} == {
        "A": TOLD,
        "B": CALLS[1].messages,
    }


def test_a_conversation_beside_the_agents_is_a_run_of_its_own(tmp_path: Path) -> None:
    side = as_spans((Message("user", "Look"), Message("assistant", "looked")), 1)[:1]
    file = write(tmp_path, *side, *as_spans(TOLD, 1))
    assert import_files(file, tmp_path / "s").added == 2
    assert [len(run.steps) for run in TrajectoryStore(tmp_path / "s")] == [1, 3]


def test_the_span_of_the_agent_repeats_the_calls_and_is_no_run(tmp_path: Path) -> None:
    asked, *_, answered = map(parts_of, TOLD[1:])
    agent = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.input.messages": json.dumps([asked]),
        "gen_ai.output.messages": json.dumps([parts_of(TOLD[2]), answered]),
        "score": 1,
    }
    span = {"trace_id": "T", "span_id": "a", "attributes": agent}
    assert only(write(tmp_path, *as_spans(TOLD, 1), span)).messages == TOLD
    (tmp_path / "alone").mkdir()
    assert only(write(tmp_path / "alone", span)).messages == (TOLD[1], TOLD[2], TOLD[-1])


def test_messages_of_spans_may_be_as_in_openais_api(tmp_path: Path) -> None:
    attributes = {
        "gen_ai.input.messages": [{"role": "user", "content": [{"type": "text", "text": "Go"}]}],
        "gen_ai.output.messages": [message_to_dict(TOLD[2])],
        "score": 1,
    }
    found = only(write(tmp_path, {"trace_id": "T", "attributes": attributes}))
    assert found.messages == (Message("user", "Go"), TOLD[2])


def test_replies_before_the_trace_are_context(tmp_path: Path) -> None:
    found = only(write(tmp_path, *as_spans(TOLD, 1)[1:]))
    assert (found.messages, found.context_turns, len(found.steps)) == (TOLD, 1, 2)


def test_otlp(tmp_path: Path) -> None:
    """Attributes as keys with typed values, instructions and tools beside the messages, and an evaluation."""

    def typed(value: Any) -> dict[str, Any]:
        if isinstance(value, list):
            return {"arrayValue": {"values": [typed(item) for item in value]}}
        if isinstance(value, dict):
            return {"kvlistValue": {"values": [{"key": k, "value": typed(v)} for k, v in value.items()]}}
        return {"stringValue": value} if isinstance(value, str) else {"doubleValue": value}

    def attributes(**values: Any) -> list[dict[str, Any]]:
        return [{"key": key.replace("__", "."), "value": typed(value)} for key, value in values.items()]

    evaluation = attributes(gen_ai__evaluation__name="tests", gen_ai__evaluation__score__value=0.75)
    span = {
        "traceId": "T",
        "spanId": "1",
        "parentSpanId": "0",
        "startTimeUnixNano": "7",
        "attributes": attributes(
            gen_ai__response__model="m-2",
            gen_ai__input__messages=[parts_of(Message("user", "Go"))],
            gen_ai__output__messages=[{**parts_of(Message("assistant", "x")), "finish_reason": "length"}],
            gen_ai__system_instructions=[{"type": "text", "content": "Be brief."}],
            gen_ai__tool__definitions=[{"type": "function", "name": "ls"}],
        ),
        "events": [{"name": "gen_ai.evaluation.result", "attributes": evaluation}],
    }
    found = only(write(tmp_path, {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}))
    assert [m.content for m in found.messages] == ["Be brief.", "Go", "x"]
    assert (found.score, found.policy, found.outcome) == (0.75, "m-2", Outcome.TRUNCATED)
    assert json.loads(found.tools[0])["function"]["name"] == "ls"


@pytest.mark.parametrize(
    ("given", "said", "why"),
    [
        ([{"role": "user", "parts": [{"type": "blob"}]}], [], "a part of type 'blob' in a message of role user"),
        ([{"role": "oracle", "parts": []}], [], "role: 'oracle' is not one of"),
        ([], [{"role": "assistant", "parts": []}] * 2, "output: has 2 choices"),
        ([], [{"role": "assistant", "parts": [{"type": "tool_call"}]}], "name: a call needs a name"),
        ("{", [], "input: not JSON"),
    ],
)
def test_spans_that_cannot_be_kept(tmp_path: Path, given: Any, said: Any, why: str) -> None:
    attributes = {"gen_ai.input.messages": given, "gen_ai.output.messages": said, "score": 1}
    assert re.search(why, refused(write(tmp_path, {"trace_id": "T", "attributes": attributes})))


def spans_with(**more: Any) -> dict[str, Any]:
    attributes = {
        "gen_ai.input.messages": [parts_of(Message("user", "Go"))],
        "gen_ai.output.messages": [parts_of(Message("assistant", "x"))],
        "score": 1,
    }
    return {"trace_id": "T", "attributes": attributes | {f"gen_ai.{name}": value for name, value in more.items()}}


@pytest.mark.parametrize("as_text", [False, True])
def test_instructions_of_spans_in_another_spelling_are_read(tmp_path: Path, as_text: bool) -> None:
    parts = [{"type": "text", "content": "Be brief.", "_provider_metadata": {"_known_fields": {"messageIndex": 0}}}]
    found = only(write(tmp_path, spans_with(**{"system.instructions": json.dumps(parts) if as_text else parts})))
    assert [m.content for m in found.messages] == ["Be brief.", "Go", "x"]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (
            {
                "system.instructions": [
                    {"type": "text", "content": "Stop."}
                    | {"_provider_metadata": {"_known_fields": {"messageIndex": 3}}}
                ]
            },
            "system.0: stood further on in the conversation",
        ),
        ({"agent.instruction_text": "Be brief."}, "gen_ai.agent.instruction_text: may hold instructions that"),
        ({"system_instructions": "[]", "system.instructions": '[{"type": "text", "content": "x"}]'}, "may hold"),
    ],
)
def test_instructions_of_spans_are_kept_or_refused(tmp_path: Path, more: dict[str, Any], why: str) -> None:
    assert why in refused(write(tmp_path, spans_with(**more)))


@pytest.mark.parametrize("also", [{"system_instructions": None}, {"agent.instructions": ""}])
def test_instructions_of_spans_may_stand_in_several_places(tmp_path: Path, also: dict[str, Any]) -> None:
    """The agent's own span, and the other spelling, repeat them or are empty."""
    part = {"type": "text", "content": "Be brief."}
    call = spans_with(**{"system.instructions": [part], **also}) | {"span_id": "2", "parent_id": "1"}
    agent = {"trace_id": "T", "span_id": "1", "attributes": {"gen_ai.system_instructions": [part]}}
    found = only(write(tmp_path, agent, call))
    assert [m.content for m in found.messages] == ["Be brief.", "Go", "x"]


@pytest.mark.parametrize("name", ["claude-code", "codex", "gemini session", "pi"])
def test_for_a_session_the_file_of_scores_is_named_first(tmp_path: Path, name: str) -> None:
    reason = refused(written(LOGS[name], tmp_path, CALLS[0].messages, None))
    assert reason.startswith(
        "no score: a session has none; give a file of scores with --scores FILE, a row per session"
    )
    assert reason.index("--scores FILE") < reason.index("--score FIELD")


def resumed(lines: list[dict[str, Any]], session: str, *more: Message) -> list[dict[str, Any]]:
    """A session that continues another one: it repeats its events under its own id."""
    again = [{**line, "sessionId": session} if "sessionId" in line else line for line in lines]
    last = lines[-1]["uuid"]
    for number, message in enumerate(more):
        uuid = f"{session}-{number}"
        said = {"role": message.role, "content": [{"type": "text", "text": message.content}]}
        if message.role == "assistant":
            said |= {"id": uuid, "model": "claude-1"}
        again.append(event(uuid, last, said, sessionId=session))
        last = uuid
    return again


MORE = (Message("user", "And now?"), Message("assistant", "Done too."))


def test_a_session_that_was_resumed_is_read_once(tmp_path: Path) -> None:
    first = as_claude(CALLS[0].messages)
    folder = tmp_path / "in"
    folder.mkdir()
    second = resumed(first, "S2", *MORE)
    for name, lines in (("a", first), ("b", second), ("c", resumed(second, "S3", Message("user", "Thanks.")))):
        (folder / f"{name}.jsonl").write_text(lines_of(lines))
    (folder / "other.jsonl").write_text(re.sub(r'"u(\d+)"', r'"v\1"', lines_of(as_claude(CALLS[1].messages))))
    store = tmp_path / "s.jsonl"
    report = import_files(folder, store, keep_unscored=True)
    assert (report.added, report.resumed, report.left_out_count) == (2, 2, 0)
    whole = next(run for run in TrajectoryStore(store) if run.metadata["session"] == "S3")
    assert [step.action for step in whole.steps][-1] == "Done too."
    again = import_files(folder, store, keep_unscored=True)
    assert (again.added, again.skipped, again.left_out_count) == (0, 2, 0)


def test_a_resumed_session_may_repeat_a_text_as_a_block_under_the_earlier_id(tmp_path: Path) -> None:
    """As Claude Code 1.0.96 does: what the user said is a block now, and keeps the id of the earlier session."""
    first = as_claude(CALLS[0].messages)
    asked = next(line for line in first if line.get("type") == "user")
    text = asked["message"]["content"]
    assert isinstance(text, str)
    again = {**asked, "message": {**asked["message"], "content": [{"type": "text", "text": text}]}}
    second = [
        again if line["uuid"] == asked["uuid"] else line for line in resumed(first, "S2", *MORE) if "uuid" in line
    ]
    (tmp_path / "in").mkdir()
    for name, lines in ((asked["sessionId"], first), ("S2", second)):
        (tmp_path / "in" / f"{name}.jsonl").write_text(lines_of(lines))
    scores = tmp_path / "scores.csv"
    scores.write_text("run,score\nS2,1\n")
    report = import_files(tmp_path / "in", tmp_path / "s.jsonl", scores=scores)
    assert (report.added, report.resumed, report.left_out_count) == (1, 1, 0)
    (run,) = TrajectoryStore(tmp_path / "s.jsonl")
    assert run.metadata["session"] == "S2" and run.score == 1


def subagent(name: str) -> list[dict[str, Any]]:
    return [
        event(f"{name}1", None, {**ASK, "content": f"Look, {name}"}, isSidechain=True, agentId=name),
        event(f"{name}2", f"{name}1", says(f"looked, {name}", name), isSidechain=True, agentId=name),
    ]


@quick
@given(repeated=st.lists(st.sampled_from(("", "b", "c", "bc")), min_size=3, max_size=3))
def test_subagents_of_a_resumed_session_are_each_read_once(repeated: list[str]) -> None:
    """Whichever of the later files repeat them, nothing is lost and nothing counted twice, also in a second import."""
    first = as_claude(CALLS[0].messages)
    second = resumed(first, "S2", *MORE)
    files = {
        "a": [*first, *subagent("x"), *subagent("y")],
        "b": [*second, *subagent("z")],
        "c": resumed(second, "S3", Message("user", "Thanks.")),
    }
    for name, later in zip("xyz", repeated, strict=True):
        for file in later:
            if name != "z" or file != "b":
                files[file] += subagent(name)
    with TemporaryDirectory() as folder:
        for file, lines in files.items():
            Path(folder, f"{file}.jsonl").write_text(lines_of(lines))
        (Path(folder) / "s").mkdir()
        store = Path(folder) / "s" / "s.jsonl"
        scores = Path(folder) / "s" / "scores.csv"
        scores.write_text("file,score\na.jsonl,1\n")
        report = import_files(sorted(Path(folder).glob("*.jsonl")), store, keep_unscored=True, scores=scores)
        assert (report.added, report.resumed, report.left_out_count) == (4, 2, 0)
        told = sorted(run.messages[-1].content for run in TrajectoryStore(store))
        assert told == sorted(["Thanks.", *(f"looked, {name}" for name in "xyz")])
        assert all(run.unscored for run in TrajectoryStore(store)), "the row is about the session, not its subagents"
        again = import_files(sorted(Path(folder).glob("*.jsonl")), store, keep_unscored=True, scores=scores)
        assert (again.added, again.skipped, again.left_out_count) == (0, 4, 0)


def test_a_subagent_that_is_stored_keeps_none_of_the_later_file_out(tmp_path: Path) -> None:
    folder, store = tmp_path / "in", tmp_path / "s.jsonl"
    folder.mkdir()
    first = as_claude(CALLS[0].messages)
    (folder / "a.jsonl").write_text(lines_of([*first, *subagent("x")]))
    assert import_files(folder, store, keep_unscored=True).added == 2
    (folder / "b.jsonl").write_text(lines_of([*resumed(first, "S2", *MORE), *subagent("y")]))
    report = import_files(folder, store, keep_unscored=True)
    assert (report.added, report.skipped, report.left_out_count) == (1, 1, 1), report.left_out
    assert report.left_out[0].number == 1


def test_a_session_that_does_not_repeat_the_one_it_continues_has_no_beginning(tmp_path: Path) -> None:
    """Whether the earlier session is given or not: what was said there is counted once."""
    first = as_claude(CALLS[0].messages)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "b.jsonl").write_text(lines_of(resumed(first, "S2", *MORE)[len(first) :]))
    for added in (0, 1):
        report = import_files(folder, tmp_path / f"s{added}.jsonl", keep_unscored=True)
        assert (report.added, report.resumed, report.left_out_count) == (added, 0, 1)
        assert report.left_out[0].reason.endswith("is not in the file, so the beginning of the run is missing")
        (folder / "a.jsonl").write_text(lines_of(first))


def test_sessions_that_both_went_on_are_two_runs(tmp_path: Path) -> None:
    first = as_claude(CALLS[0].messages)
    for name, words in (("a", "One."), ("b", "Two.")):
        lines = resumed(first, name, Message("user", words), Message("assistant", words))
        (tmp_path / f"{name}.jsonl").write_text(lines_of(lines))
    report = import_files(tmp_path, tmp_path / "x" / "s.jsonl", keep_unscored=True)
    assert (report.added, report.resumed) == (2, 0)


def test_a_session_that_continues_a_stored_one_is_left_out(tmp_path: Path) -> None:
    folder, store = tmp_path / "in", tmp_path / "s.jsonl"
    folder.mkdir()
    first = as_claude(CALLS[0].messages)
    (folder / "a.jsonl").write_text(lines_of(first))
    assert import_files(folder, store, keep_unscored=True).added == 1
    (folder / "b.jsonl").write_text(lines_of(resumed(first, "S2", *MORE)))
    report = import_files(folder, store, keep_unscored=True)
    assert (report.added, report.left_out_count) == (0, 1)
    assert report.left_out[0].reason.startswith("it continues a session that the store has as a run of its own")
