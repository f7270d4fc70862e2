"""How a command's status is shown: while it runs, and from another shell."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console, RenderableType

from trajtree.report.status_table import duration, figures_text, live_view, number, status_view
from trajtree.store.status import StageStatus, Status
from trajtree.visible import WIDTH

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def told(**changes: object) -> Status:
    stages = (
        *(StageStatus(name=f"made {n}", state="done", seconds=3) for n in range(6)),
        StageStatus(
            name="explore-weak",
            state="running",
            done=34,
            total=72,
            seconds=130,
            left=145.2,
            figures={"steps": 1234, "score": 0.4321, "environment_fault": 2},
        ),
        *(StageStatus(name=f"coming {n}", state="to do") for n in range(7)),
    )
    began, updated = NOW - timedelta(minutes=12), NOW - timedelta(seconds=1)
    fields = {"command": "run", "state": "running", "host": "here", "pid": 5, "began": began, "updated": updated}
    return Status(**{**fields, "stages": stages, "picture": ("find-plant: 2 runs", "  look  0.50 of 2"), **changes})  # type: ignore[arg-type]


def drawn(view: RenderableType) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=WIDTH).print(view)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_running_command_shows_the_stages_around_the_present() -> None:
    lines = drawn(live_view(told()))
    text = "\n".join(lines)
    (running,) = [line for line in lines if line.startswith("explore-weak")]
    assert "34/72" in running and "0:02:10" in running and "0:02:25 left" in running
    assert "made 5" in text and "made 1" not in text and "coming 0" in text and "coming 4" not in text
    assert "and 2 more done, 3 more to do" in lines
    assert lines[-3:] == ["steps 1,234 score 0.432 environment_fault 2", "find-plant: 2 runs", "  look  0.50 of 2"]


def test_another_shell_sees_all_stages() -> None:
    lines = drawn(status_view(told(), NOW))
    assert lines[0] == "run: running for 0:11:59 (process 5 on here)"
    assert sum(line.startswith(("made", "explore", "coming")) for line in lines) == 14


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": "finished"}, "run: finished 0:00:01 ago, after 0:11:59"),
        # The clock of the machine that wrote it is ahead.
        ({"state": "finished", "updated": NOW + timedelta(seconds=3)}, "run: finished 0:00:00 ago, after 0:12:03"),
        ({"state": "failed", "reason": "no pair"}, "run: failed 0:00:01 ago, after 0:11:59: no pair"),
        ({"state": "stopped"}, "run: stopped 0:00:01 ago, after 0:11:59; the same command resumes it"),
        (
            {"updated": NOW - timedelta(minutes=3)},
            "run: no sign of life for 0:03:00 (process 5 on here); what follows is its last known state",
        ),
    ],
)
def test_how_it_stands_in_a_sentence(changes: dict[str, object], said: str) -> None:
    assert drawn(status_view(told(**changes), NOW))[0] == said


def test_nothing_in_a_status_commands_the_terminal() -> None:
    hostile = told(picture=("\x1b[2Jgone",), stages=(StageStatus(name="a\x1b[2Jb", state="to do"),))
    assert "\x1b" not in "\n".join([*drawn(status_view(hostile, NOW)), *drawn(live_view(hostile))])


def test_figures_are_short() -> None:
    assert (
        figures_text({"steps": 12345, "loss": 0.123456, "tokens/s": 4321.9}) == "steps 12,345 loss 0.123 tokens/s 4,322"
    )
    assert [number(value) for value in (0, 7, 0.5, 1e-5, 999.4)] == ["0", "7", "0.5", "1e-05", "999"]
    assert [duration(seconds) for seconds in (0.4, 65, 90_000)] == ["0:00:00", "0:01:05", "1 day, 1:00:00"]
