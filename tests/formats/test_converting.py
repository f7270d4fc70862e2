"""What is converted is read again as the same run, or it is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick
from tests.formats.export_cases import Can, plain, runs

from trajtree.errors import DataError
from trajtree.formats.converting import row_of, rows_of, runs_in
from trajtree.formats.import_report import ImportReport, LeftOut
from trajtree.formats.importing import import_files
from trajtree.formats.read.detect import FORMATS, beginning_of
from trajtree.formats.read.to_trajectory import trajectory_of
from trajtree.store.trajectory_store import write_store
from trajtree.trajectory import Message, Outcome, Trajectory

FORMAT = {
    "trl": "messages",
    "trl-completion": "messages",
    "axolotl": "messages",
    "sharegpt": "sharegpt",
    "llamafactory": "sharegpt",
    "atif": "atif",
}
"""The formats as which targets are imported."""


def without_empty_thoughts(messages: Sequence[Message]) -> list[Message]:
    """A field without content is not there."""
    return [Message(m.role, m.content, m.reasoning or None, m.tool_calls, m.tool_call_id, m.name) for m in messages]


@pytest.mark.parametrize("target", FORMAT)
def test_a_run_comes_back_or_is_refused(target: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("rows") / "row.jsonl"
    # In ShareGPT thoughts are in the text and only the order says what answers what; in ATIF a call's id does.
    keeps_all = FORMAT[target] != "sharegpt"
    can = Can(tags=False, ids=keeps_all, thoughts=keeps_all, names=target != "atif")
    outcomes = st.sampled_from((Outcome.COMPLETED, Outcome.TRUNCATED))

    @quick
    @given(runs(can), st.floats(0, 1), outcomes)
    def check(given_: Trajectory, score: float, outcome: Outcome) -> None:
        run = replace(given_, score=score, outcome=outcome)
        try:
            row = json.loads(json.dumps(row_of(run, target)))
        except DataError:
            return
        path.write_text(json.dumps(row) + "\n")
        assert beginning_of(path).format == FORMAT[target]
        found = FORMATS[FORMAT[target]].read(row, score=None, task=None)
        back = trajectory_of(found, "log", (0.0, 1.0))
        assert plain(back.messages, can) == plain(without_empty_thoughts(run.messages), can)
        assert [json.loads(tool) for tool in back.tools] == [json.loads(tool) for tool in run.tools]
        assert (back.task, back.score, back.policy) == (run.task, run.score, run.policy)
        if target != "atif":
            assert back.outcome is run.outcome
        replies = [flag for flag in (m.role == "assistant" for m in run.messages) if flag]
        assert len(back.steps) + back.context_turns == len(replies)

    check()


def test_a_store_is_read_as_it_is_and_a_log_only_whole(tmp_path: Path) -> None:
    row = {
        "task": "t",
        "score": 1,
        "messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}],
    }
    (tmp_path / "log.jsonl").write_text(json.dumps(row) + "\n")
    with runs_in(tmp_path / "log.jsonl", lambda store: import_files(tmp_path / "log.jsonl", store)) as found:
        (run,) = found
    write_store([run], tmp_path / "store.jsonl")

    def never(store: Path) -> ImportReport:
        raise AssertionError("a store is not imported")

    with runs_in(tmp_path / "store.jsonl", never) as found:
        assert list(found) == [run]
    left = LeftOut(Path("log.jsonl"), 7, 3, "no score")
    report = ImportReport(added=1, skipped=0, left_out=(left, left), left_out_count=2)
    with (
        pytest.raises(DataError, match=r"log.jsonl, line 7: cannot be converted without loss: no score \(2 in all\)"),
        runs_in(tmp_path / "log.jsonl", lambda store: report),
    ):
        pass


def test_a_refusal_names_the_line() -> None:
    @given(runs(Can()))
    @quick
    def check(run: Trajectory) -> None:
        imported = replace(run, messages=run.messages[:1], metadata={"source": "a#b.jsonl#1@2", "line": 9})
        with pytest.raises(DataError, match=r"^a#b.jsonl, line 9: task shop/7, sample 2 cannot be written"):
            list(rows_of([imported], "ms-swift"))

    check()
