"""Sessions of pi and OpenClaw: which entries are the run, and what the model was given of each."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.formats.conversations import lines_of
from tests.formats.one_story import CALLS
from tests.formats.vendor_logs import as_pi, pi_entries, pi_message

from trajtree.formats.import_report import ImportReport
from trajtree.formats.importing import import_files
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Message, Outcome, ToolCall, Trajectory

HEAD = {"type": "session", "version": 3, "id": "S", "timestamp": "t", "cwd": "/code"}


def said(by: Any, text: str, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "message": {**pi_message(Message(by, text)), **fields}}


ASK, ANSWER = said("user", "Go"), said("assistant", "Gone")


def imported(folder: Path, *entries: dict[str, Any], head: dict[str, Any] = HEAD) -> ImportReport:
    (folder / "x.jsonl").write_text(lines_of([head, *entries]))
    return import_files(folder / "x.jsonl", folder / "s", keep_unscored=True)


def only(folder: Path, *entries: dict[str, Any], head: dict[str, Any] = HEAD) -> Trajectory:
    report = imported(folder, *entries, head=head)
    assert (report.added, report.formats) == (1, {"pi": 1}), report.left_out
    (found,) = TrajectoryStore(folder / "s")
    return found


def heard(run: Trajectory) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in run.messages]


def test_the_branch_of_the_last_entry_is_the_run(tmp_path: Path) -> None:
    rewound = said("user", "Rather stay") | {"parentId": "1"}
    summary = {"type": "branch_summary", "summary": "It went.", "fromId": "3"}
    run = only(tmp_path, *pi_entries(ASK, ANSWER, said("user", "Back"), ANSWER, rewound, summary, ANSWER))
    assert heard(run) == [
        ("user", "Go"),
        ("assistant", "Gone"),
        ("user", "Rather stay"),
        (
            "user",
            "The following is a summary of a branch that this conversation came back from:\n\n"
            "<summary>\nIt went.</summary>",
        ),
        ("assistant", "Gone"),
    ]


def test_entries_of_version_1_follow_one_another(tmp_path: Path) -> None:
    head = {"type": "session", "id": "S", "timestamp": "t", "cwd": "/code", "branchedFrom": "/old.jsonl"}
    run = only(tmp_path, ASK, {"type": "thinking_level_change", "thinkingLevel": "off"}, ANSWER, head=head)
    assert heard(run) == [("user", "Go"), ("assistant", "Gone")]
    assert [run.metadata[name] for name in ("session", "version", "parent_session")] == ["S", "1", "/old.jsonl"]


def test_what_the_model_was_given_besides_messages(tmp_path: Path) -> None:
    ran = {"role": "bashExecution", "command": "make", "output": "broken", "exitCode": 2}
    kept = {**ran, "output": "", "exitCode": 0, "truncated": True, "cancelled": True, "fullOutputPath": "/log"}
    entries = (
        *(ASK, {"type": "custom", "customType": "x", "data": {"n": 1}}, ANSWER),
        {"type": "message", "message": ran},
        {"type": "message", "message": {**ran, "excludeFromContext": True}},
        {"type": "message", "message": kept},
        {"type": "custom_message", "customType": "x", "content": "By the way", "display": False, "new": 1},
        {"type": "message", "message": {"role": "hookMessage", "customType": "x", "content": "Hook"}},
        *({"type": "label", "targetId": "0", "label": "here"}, {"type": "session_info", "name": "n"}),
        *({"type": "compaction", "summary": "It went.", "firstKeptEntryId": "0", "tokensBefore": 9}, ANSWER),
    )
    run = only(tmp_path, *pi_entries(*entries))
    assert [content for _, content in heard(run)[2:-1]] == [
        "Ran `make`\n```\nbroken\n```\n\nCommand exited with code 2",
        "Ran `make`\n(no output)\n\n(command cancelled)\n\n[Output truncated. Full output: /log]",
        "By the way",
        "Hook",
        "The conversation history before this point was compacted into the following summary:\n\n"
        "<summary>\nIt went.\n</summary>",
    ]
    assert run.metadata["compactions"] == 1
    assert json.loads(str(run.metadata["message_fields"])) == {"events.7": {"new": 1}}


def test_replies_that_were_cut_short_are_only_counted(tmp_path: Path) -> None:
    call = Message("assistant", "I try", tool_calls=(ToolCall("c", "run", "{}"),))
    cut = {"type": "message", "message": {**pi_message(call), "stopReason": "aborted"}}
    answer = {"type": "message", "message": pi_message(Message("tool", "aborted", tool_call_id="c"))}
    failed = said("assistant", "", stopReason="error", errorMessage="529 overloaded")
    run = only(tmp_path, *pi_entries(ASK, cut, answer, failed, ANSWER))
    assert heard(run) == [("user", "Go"), ("assistant", "Gone")]
    assert run.metadata["unsent_replies"] == 2
    (tmp_path / "failed").mkdir()
    report = imported(tmp_path / "failed", *pi_entries(ASK, ANSWER, said("user", "On"), failed))
    assert report.left_out[0].reason.startswith("the session ends in an error of the API")


def test_a_file_of_scores_names_a_session_by_its_id(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(lines_of([HEAD, *pi_entries(ASK, ANSWER)]))
    (tmp_path / "scores.csv").write_text("run,score\nS,0.25\n")
    report = import_files(tmp_path / "x.jsonl", tmp_path / "s", scores=tmp_path / "scores.csv")
    assert report.added == 1, report.left_out
    assert [run.score for run in TrajectoryStore(tmp_path / "s")] == [0.25]


def test_how_replies_were_made_and_ended(tmp_path: Path) -> None:
    other = said("assistant", "Well", model="pi-2", usage={"cost": {"total": 0.5}}, stopReason="length")
    failed = said("user", "again") | {"details": {"shown": "to the user"}}
    run = only(tmp_path, *pi_entries(ASK, ANSWER, failed, ANSWER, ASK, other))
    assert (run.policy, run.outcome) == ("pi-1", Outcome.TRUNCATED)
    assert [(made.model, made.time, made.cost) for made in run.made] == [
        *((None, "t1", None), (None, "t3", None)),
        ("pi-2", "t5", 0.5),
    ]


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        (pi_entries(ASK, ANSWER | {"parentId": "gone"}), "events.2.parentId: is not in the file before, so the beg"),
        (pi_entries(ASK, {"type": "vote"}, ANSWER), "events.2.type: 'vote' is not an entry that is known"),
        (pi_entries(ASK, said("user", "x", role="judge"), ANSWER), "message.role: 'judge' is not one of user, "),
        (pi_entries(said("user", "x", content=[{"type": "image", "data": "", "mimeType": "image/png"}]), ANSWER), "im"),
        (pi_entries(ASK, said("assistant", "", content=[{"type": "audio"}])), "a part of type 'audio'; only text, th"),
        (pi_entries(ASK, said("assistant", "", content=[{"type": "text"}])), "content.0.text: must be text, got None"),
        (pi_entries(ASK, said("assistant", "", content=[{"type": "toolCall"}])), "a toolCall needs an id and a name"),
        (pi_entries(ASK, said("tool", "x", toolCallId=None), ANSWER), "toolCallId: must name the call, got NoneType"),
        (pi_entries(ASK, {"type": "compaction"}, ANSWER), "events.2.summary: must be text, got NoneType"),
    ],
)
def test_sessions_that_cannot_be_kept(tmp_path: Path, entries: list[dict[str, Any]], why: str) -> None:
    report = imported(tmp_path, *entries)
    assert report.added == 0
    assert re.search(why, report.left_out[0].reason), report.left_out[0].reason


def test_a_session_that_was_forked_holds_the_first_one(tmp_path: Path) -> None:
    """The fork repeats the entries with their ids; where both went on, they are two runs."""
    folder = tmp_path / "in"
    folder.mkdir()
    first = as_pi(CALLS[0].messages)
    last = first[-1]["id"]
    more = [said("user", "More") | {"id": "m", "parentId": last}, ANSWER | {"id": "n", "parentId": "m"}]
    other = [said("user", "Less") | {"id": "l", "parentId": last}, ANSWER | {"id": "o", "parentId": "l"}]
    (folder / "a.jsonl").write_text(lines_of(first))
    (folder / "b.jsonl").write_text(lines_of([{**first[0], "id": "S2", "parentSession": "a.jsonl"}, *first[1:], *more]))
    report = import_files(folder, tmp_path / "s", keep_unscored=True)
    assert (report.added, report.resumed, report.left_out_count) == (1, 1, 0)
    (folder / "c.jsonl").write_text(lines_of([{**first[0], "id": "S3"}, *first[1:], *other]))
    report = import_files(folder, tmp_path / "s2", keep_unscored=True)
    assert (report.added, report.resumed) == (2, 1)
