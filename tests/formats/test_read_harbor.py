"""Harbor's job folders and traces: scores, tasks and continuations that stand beside an agent's document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick
from tests.formats.conversations import Run, as_atif, lines_of, runs
from tests.formats.one_story import CALLS, Telling, check_story
from tests.formats.vendor_logs import as_claude, as_codex

from trajtree.errors import DataError
from trajtree.formats.importing import ImportReport, import_files
from trajtree.formats.read.detect import FORMATS, beginning_of
from trajtree.formats.write.atif import atif_trajectory
from trajtree.formats.write.openai import openai_trajectory
from trajtree.formats.write.trl import trl_trajectory
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Message, Outcome, Trajectory


def document(run: Run | Telling, **changes: Any) -> dict[str, Any]:
    """A document as Harbor writes it, without score and task."""
    made = as_atif(Run(run.messages, (), 0))
    return {name: value for name, value in made.items() if name != "extra"} | changes


def steps(*told: tuple[str, str], copied: int = 0) -> list[dict[str, Any]]:
    """Steps of (source, message), the first `copied` of them copied from an earlier document."""
    return [
        {"step_id": i, "source": source, "message": message, **({"is_copied_context": True} if i <= copied else {})}
        for i, (source, message) in enumerate(told, start=1)
    ]


def trial(job: Path, name: str, made: dict[str, Any], **result: Any) -> Path:
    """A trial's folder with a document and a result."""
    folder = job / name
    (folder / "agent").mkdir(parents=True)
    (folder / "agent" / "trajectory.json").write_text(json.dumps(made, indent=2))
    if result:
        usual = {"trial_name": name, "task_name": "mail/sort", "verifier_result": None, "exception_info": None}
        (folder / "result.json").write_text(json.dumps({**usual, **result}))
    return folder


def rewarded(**rewards: float) -> dict[str, Any]:
    return {"verifier_result": {"rewards": rewards}}


def only(job: Path, store: Path, **options: Any) -> Trajectory:
    report = import_files(job, store, **options)
    assert report.added == 1, report.left_out
    (found,) = TrajectoryStore(store)
    return found


def reason(report: ImportReport, file: str = "trajectory.json") -> str:
    (found,) = [record.reason for record in report.left_out if record.file.name == file]
    return found


SAID = document(CALLS[0])


def test_a_job_folder_tells_the_story(tmp_path: Path) -> None:
    for number, told in enumerate(CALLS):
        trial(tmp_path / "job", f"sort__{number}", document(told), task_name="mailbox/7", **rewarded(reward=told.score))
    found = check_story([*tmp_path.glob("job/*/agent")], tmp_path / "s.jsonl")
    assert {run.policy for run in found} == {"weak-1"}
    report = import_files(tmp_path / "job", tmp_path / "again.jsonl")
    assert (report.added, report.scores) == (2, {"trial.verifier_result.rewards.reward": 2})
    assert (report.left_out_count, report.others) == (0, {BESIDE: 2})


BESIDE = "results and settings of Harbor"
OTHER_FORM = "other forms of runs that Harbor wrote as agent/trajectory.json"
NO_RUN = "results of Harbor's trials without agent/trajectory.json"


@pytest.mark.parametrize(
    "beside",
    [
        {"id": "j", "stats": {"evals": {}}, "n_total_trials": 2},
        {"job_name": "j", "jobs_dir": "jobs", "n_attempts": 1, "agents": []},
        {"task": {"path": "tasks/mail"}, "trial_name": "a__b", "trials_dir": "jobs"},
        {"trial_name": "a__b", "task_name": "mail", "verifier_result": None},
        {"results": {"tool": {"name": "pytest"}, "summary": {}, "tests": []}},
    ],
)
def test_what_stands_beside_the_runs_of_a_job_is_passed_over(tmp_path: Path, beside: dict[str, Any]) -> None:
    trial(tmp_path, "a__b", SAID, **rewarded(reward=1))
    (tmp_path / "beside.json").write_text(json.dumps(beside))
    report = import_files(tmp_path, tmp_path / "s.jsonl")
    assert (report.added, report.left_out_count, report.others) == (1, 0, {BESIDE: 2})
    with pytest.raises(DataError, match="not a log, but results and settings of Harbor, which are read with the runs"):
        import_files(tmp_path / "beside.json", tmp_path / "s.jsonl")


PARTS = {
    "agent/episode-0/debug.json": {"model": "m", "messages": [{"role": "user", "content": "go"}], "input": []},
    "agent/mini-swe-agent.trajectory.json": {"messages": [], "info": {"exit_status": "Submitted"}},
    "agent/sessions/own.jsonl": {"type": "session", "version": 3, "id": "x"},
    "verifier/reward.json": {"reward": 1},
    "artifacts/logs/out.jsonl": {"messages": [{"role": "user", "content": "go"}]},
    "user-agent/trajectory.json": document(CALLS[1]),
    "lock.json": {"schema_version": 2, "task": {}, "agent": {}},
}
"""Files of a trial that are none of its agent's runs, and yet may look like runs."""


@pytest.mark.parametrize("below", ["", "steps/one/"])
def test_what_else_is_in_a_trial_is_no_run(tmp_path: Path, below: str) -> None:
    folder = trial(tmp_path, "a__b", SAID, **rewarded(reward=1))
    (folder / "config.json").write_text(json.dumps({"trial_name": "a__b", "trials_dir": "jobs"}))
    (tmp_path / "lock.json").write_text('{"trials": []}')
    (tmp_path / "config.json").write_text('{"job_name": "j", "jobs_dir": "jobs"}')
    if below:
        (folder / "steps").mkdir()
        (folder / "agent").rename(folder / "steps" / "agent")
        (folder / "steps" / "one").mkdir()
        (folder / "steps" / "agent").rename(folder / "steps" / "one" / "agent")
    for name, part in PARTS.items():
        file = folder / name if name == "lock.json" else folder / f"{below}{name}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(part))
    report = import_files(tmp_path, tmp_path / "s.jsonl", keep_unscored=True)
    assert (report.added, report.left_out_count) == (1, 0)
    assert report.others == {BESIDE: len(PARTS) + 2, OTHER_FORM: 2}


@pytest.mark.parametrize("below", ["", "steps/one/"])
def test_trials_without_a_run_are_counted(tmp_path: Path, below: str) -> None:
    """Their agent wrote no document, or the trial ended before it could."""
    (tmp_path / "result.json").write_text('{"id": "j", "stats": {"evals": {}}, "jobs_dir": "jobs"}')
    for number in range(3):
        folder = trial(tmp_path, f"a__{number}", SAID, **rewarded(reward=1))
        if number == 2:
            (folder / "agent" / "trajectory.json").rename(folder / "agent" / "log.txt")
        elif below:
            (folder / "steps").mkdir()
            (folder / "agent").rename(folder / "steps" / "agent")
            (folder / "steps" / "one").mkdir()
            (folder / "steps" / "agent").rename(folder / below / "agent")
    report = import_files(tmp_path, tmp_path / "s.jsonl", keep_unscored=True)
    assert (report.added, report.left_out_count) == (2, 0)
    assert report.others == {BESIDE: 3, NO_RUN: 1, ".txt": 1}


def test_a_folder_of_the_same_name_elsewhere_is_read(tmp_path: Path) -> None:
    for name in ("agent", "artifacts", "verifier"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "runs.jsonl").write_text(lines_of([document(CALLS[1])]))
    assert import_files(tmp_path, tmp_path / "s.jsonl", keep_unscored=True).added == 3


@quick
@given(runs(tools=True, reasoning=True), st.integers(0, 1))
def test_a_trial_is_the_document_with_a_score(tmp_path_factory: pytest.TempPathFactory, run: Run, score: int) -> None:
    folder = tmp_path_factory.mktemp("job")
    trial(folder, "a__b", document(run), **rewarded(reward=score))
    found = only(folder, folder / "s.jsonl")
    assert found.messages == run.messages
    assert (found.task, found.score) == ("mail/sort", score)


def test_the_reward_is_the_only_one_or_the_one_of_that_name(tmp_path: Path) -> None:
    trial(tmp_path / "one", "a__b", SAID, **rewarded(tests=0.5))
    assert only(tmp_path / "one", tmp_path / "1.jsonl").score == 0.5
    trial(tmp_path / "two", "a__b", SAID, **rewarded(tests=0.5, reward=0.25))
    assert only(tmp_path / "two", tmp_path / "2.jsonl").score == 0.25
    trial(tmp_path / "three", "a__b", SAID, **rewarded(tests=0.5, style=0.25))
    report = import_files(tmp_path / "three", tmp_path / "3.jsonl")
    assert reason(report).startswith("trial.verifier_result.rewards: has several scores (tests, style); name one")
    assert only(tmp_path / "three", tmp_path / "3.jsonl", score="style").score == 0.25


def test_scores_of_trials_from_elsewhere(tmp_path: Path) -> None:
    for name in ("a__1", "a__2"):
        trial(tmp_path / "job", name, SAID, verifier_result=None)
    (tmp_path / "scores.csv").write_text("run,score\na__1,0.25\na__2,0.5\n")
    assert import_files(tmp_path / "job", tmp_path / "s.jsonl", scores=tmp_path / "scores.csv").added == 2
    assert [run.score for run in TrajectoryStore(tmp_path / "s.jsonl")] == [0.25, 0.5]


def test_a_reward_file_serves_where_the_result_has_none(tmp_path: Path) -> None:
    folder = trial(tmp_path, "sort-mail__Ab3", SAID)
    (folder / "verifier").mkdir()
    (folder / "verifier" / "reward.txt").write_text("0.25\n")
    (raw,) = FORMATS["atif"].runs(folder / "agent" / "trajectory.json", iter([raw_of(SAID)]))
    found = FORMATS["atif"].read(json.loads(raw.data), score=None, task=None)
    assert (found.score, found.task) == (("trial_reward", "0.25"), "sort-mail")


def raw_of(made: dict[str, Any]) -> Any:
    from trajtree.formats.read.records import RawRecord

    return RawRecord(1, 1, json.dumps(made).encode())


@pytest.mark.parametrize(
    ("kind", "rewards", "outcome"),
    [
        ("AgentTimeoutError", {"reward": 0.0}, Outcome.TRUNCATED),
        ("NonZeroAgentExitCodeError", {"reward": 1.0}, Outcome.AGENT_ERROR),
        ("ContextWindowExceededError", {"reward": 0.0}, Outcome.AGENT_ERROR),
        ("SomethingOfTheirs", {"reward": 0.0}, Outcome.AGENT_ERROR),
    ],
)
def test_an_exception_of_the_agent_is_an_outcome(
    tmp_path: Path, kind: str, rewards: dict[str, float], outcome: Outcome
) -> None:
    trial(tmp_path, "a__b", SAID, exception_info={"exception_type": kind}, **rewarded(**rewards))
    found = only(tmp_path, tmp_path / "s.jsonl")
    assert (found.outcome, found.metadata["exception"]) == (outcome, kind)


@pytest.mark.parametrize(
    ("kind", "rewards"),
    [
        ("EnvironmentStartTimeoutError", None),
        ("VerifierTimeoutError", None),
        ("ApiRateLimitError", {"reward": 0.0}),
        ("SomethingOfTheirs", None),
    ],
)
def test_an_exception_of_others_leaves_the_run_out(tmp_path: Path, kind: str, rewards: dict[str, float] | None) -> None:
    result = {"verifier_result": {"rewards": rewards}, "exception_info": {"exception_type": kind}}
    trial(tmp_path, "a__b", SAID, **result)
    report = import_files(tmp_path, tmp_path / "s.jsonl")
    assert reason(report) == f"trial.exception_info: {kind} says nothing about the agent, so the run has no score"


FIRST = document(
    CALLS[0],
    steps=steps(("user", "Sort the mail."), ("agent", "ls"), ("system", "Summarized.")),
    continued_trajectory_ref="trajectory.cont-1.json",
    session_id="s",
)
SECOND = document(
    CALLS[0],
    steps=steps(
        ("user", "Sort the mail."),
        ("user", "You take over."),
        ("agent", "What is done?"),
        ("user", "Nothing yet."),
        ("agent", "mv a b"),
        copied=4,
    ),
    continued_trajectory_ref="trajectory.cont-2.json",
    session_id="s-cont-1",
)
THIRD = document(
    CALLS[0],
    steps=steps(("user", "Sort the mail."), ("user", "Take over again."), ("agent", "done"), copied=2),
    session_id="s-cont-2",
    final_metrics={"total_cost_usd": 0.5, "total_prompt_tokens": 7},
)


def continued(job: Path, **documents: dict[str, Any]) -> Path:
    folder = trial(job, "a__b", FIRST, **rewarded(reward=1))
    for name, made in documents.items():
        (folder / "agent" / f"trajectory.{name.replace('_', '-')}.json").write_text(json.dumps(made))
    return folder / "agent"


def test_a_run_goes_on_in_its_continuations(tmp_path: Path) -> None:
    continued(tmp_path, cont_1=SECOND, cont_2=THIRD)
    found = only(tmp_path, tmp_path / "s.jsonl")
    assert import_files(tmp_path, tmp_path / "s.jsonl").joined == 2
    assert [(m.role, m.content) for m in found.messages] == [
        ("user", "Sort the mail."),
        ("assistant", "ls"),
        ("system", "Summarized."),
        ("user", "You take over."),
        ("user", "Nothing yet."),
        ("assistant", "mv a b"),
        ("user", "Take over again."),
        ("assistant", "done"),
    ]
    assert (found.context_turns, found.score, found.metadata["copied_replies"]) == (0, 1, 1)
    assert (found.metadata["cost_usd"], found.metadata["prompt_tokens"]) == (0.5, 7)


def test_a_run_whose_continuation_is_missing_is_not_whole(tmp_path: Path) -> None:
    agent = continued(tmp_path, cont_1=SECOND)
    report = import_files(tmp_path, tmp_path / "s.jsonl")
    assert reason(report) == (
        "continued_trajectory_ref: 'trajectory.cont-2.json' cannot be read, so the run is not whole; put the file "
        "beside this one"
    )
    assert import_files(agent / "trajectory.cont-1.json", tmp_path / "s.jsonl").left_out[0].reason
    with pytest.raises(DataError, match="continues in another document, which is missing"):
        FORMATS["atif"].read({**FIRST, "extra": {"score": 1}}, score=None, task=None)


@pytest.mark.parametrize("ref", ["../result.json", "/etc/passwd", "\0" * 300, "sub/x.json"])
def test_a_continuation_is_another_file_in_the_folder(tmp_path: Path, ref: str) -> None:
    trial(tmp_path, "a__b", {**FIRST, "continued_trajectory_ref": ref}, **rewarded(reward=1))
    report = import_files(tmp_path, tmp_path / "s.jsonl")
    assert "is not another file in the same folder, so the run is not whole" in reason(report)


def test_subagents_are_runs_of_their_own(tmp_path: Path) -> None:
    inner = document(CALLS[1], trajectory_id="inner", extra={"score": 0.5, "task": "inner"})
    helper = document(CALLS[1], trajectory_id="helper", subagent_trajectories=[inner], extra={"task": "helper"})
    parent = document(CALLS[0], subagent_trajectories=[helper], extra={"score": 1, "task": "outer"})
    (tmp_path / "run.json").write_text(json.dumps(parent))
    report = import_files(tmp_path / "run.json", tmp_path / "s.jsonl")
    assert {run.task: run.messages for run in TrajectoryStore(tmp_path / "s.jsonl")} == {
        "outer": CALLS[0].messages,
        "inner": CALLS[1].messages,
    }
    assert [r.reason.partition(":")[0] for r in report.left_out] == ["no score"]


def test_a_helper_call_is_no_step_of_the_agent(tmp_path: Path) -> None:
    reference = {"subagent_trajectory_ref": [{"trajectory_path": "trajectory.summarization-1-summary.json"}]}
    made = document(CALLS[0], steps=steps(("user", "Go."), ("agent", "ls"), ("system", "Summarized."), ("agent", "x")))
    made["steps"][2]["observation"] = {"results": [reference]}
    trial(tmp_path, "a__b", made, **rewarded(reward=1))
    found = only(tmp_path, tmp_path / "s.jsonl")
    assert [m.content for m in found.messages] == ["Go.", "ls", "Summarized.", "x"]
    made["steps"][1]["observation"] = {"results": [{**reference, "content": "all done"}]}
    trial(tmp_path, "a__c", made, **rewarded(reward=1))
    import_files(tmp_path, tmp_path / "s.jsonl")
    *_, told = TrajectoryStore(tmp_path / "s.jsonl")
    assert [m.content for m in told.messages] == ["Go.", "ls", "all done", "Summarized.", "x"]


def test_a_trial_in_several_steps(tmp_path: Path) -> None:
    result = {
        "trial_name": "t__1",
        "task_name": "t",
        "step_results": [{"step_name": "a"}, {"step_name": "b", **rewarded(reward=0.5)}],
    }
    folder = trial(tmp_path / "t__1" / "steps", "b", SAID)
    (tmp_path / "t__1" / "result.json").write_text(json.dumps(result))
    found = only(folder / "agent", tmp_path / "s.jsonl")
    assert (found.task, found.score) == ("t/b", 0.5)


@pytest.mark.parametrize("write", [as_claude, as_codex])
def test_a_session_beside_its_document_is_not_a_second_run(tmp_path: Path, write: Any) -> None:
    folder = trial(tmp_path, "a__b", SAID, **rewarded(reward=1))
    (folder / "agent" / "sessions").mkdir()
    (folder / "agent" / "sessions" / "x.jsonl").write_text(lines_of(write(CALLS[0].messages)))
    report = import_files(tmp_path, tmp_path / "s.jsonl")
    assert (report.added, report.left_out_count, report.others) == (1, 0, {BESIDE: 1, OTHER_FORM: 1})
    named = import_files(folder / "agent" / "sessions" / "x.jsonl", tmp_path / "named.jsonl")
    assert reason(named, "x.jsonl").startswith("the session of a run that is read from agent/trajectory.json")


def test_a_broken_result_is_said(tmp_path: Path) -> None:
    folder = trial(tmp_path, "a__b", SAID)
    (folder / "result.json").write_text('{"trial_name": "a__b", ')
    report = import_files(folder / "agent", tmp_path / "s.jsonl")
    assert reason(report) == "result.json beside the run is not JSON; restore or remove it"


COMMANDS = [
    {"tool_call_id": id_, "function_name": "bash", "arguments": {"keystrokes": keys}}
    for id_, keys in (("a", "ls"), ("b", "pwd"))
]


def test_one_result_of_several_calls_can_be_exported(tmp_path: Path) -> None:
    """As terminus-2 writes what its terminal shows after several commands."""
    made = document(CALLS[0], steps=steps(("user", "Go."), ("agent", "I look."), ("agent", "Done.")))
    made["steps"][1] |= {"tool_calls": COMMANDS, "observation": {"results": [{"content": "$ ok"}]}}
    trial(tmp_path, "a__b", made, **rewarded(reward=1))
    found = only(tmp_path, tmp_path / "s.jsonl")
    assert found.messages[2] == Message("tool", "$ ok")
    assert len(trl_trajectory(found)["messages"]) == 4
    assert FORMATS["atif"].read(atif_trajectory(found), score=None, task=None).messages == found.messages
    with pytest.raises(DataError, match="message 2 must name the call right before it that it answers"):
        openai_trajectory(found)


# Traces

TRACE = {
    "conversations": [{"role": "user", "content": "Write ok."}, {"role": "assistant", "content": "echo ok > a"}],
    "agent": "t2",
    "model": "m",
    "task": "write-ok",
    "episode": "episode-0",
    "run_id": "r1",
    "trial_name": "t1",
}


def test_a_trace_has_its_reward_in_result(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(lines_of([TRACE]))
    assert beginning_of(tmp_path / "x.jsonl").format == "harbor-traces"
    found = FORMATS["harbor-traces"].read({**TRACE, "result": "1.0"}, score=None, task=None)
    assert (found.score, found.task, found.policy) == (("result", "1.0"), "write-ok", "m")
    turns = [{"from": "human", "value": "Write ok."}, {"from": "gpt", "value": "echo ok > a"}]
    assert FORMATS["harbor-traces"].read({**TRACE, "conversations": turns, "result": 1.0}, score=None, task=None) == (
        FORMATS["harbor-traces"].read({**TRACE, "result": 1.0}, score=None, task=None)
    )


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"result": "AgentTimeoutError"}, "result: the trial ended in 'AgentTimeoutError' and has no reward"),
        ({"result": "1", "trace_source": "summarization-1-summary"}, "trace_source: .* is a helper call"),
    ],
)
def test_traces_without_a_run_or_a_reward(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(DataError, match=why):
        FORMATS["harbor-traces"].read({**TRACE, **changes}, score=None, task=None)


def test_a_trace_without_a_reward_has_no_score(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(lines_of([{**TRACE, "result": None}]))
    assert reason(import_files(tmp_path / "x.jsonl", tmp_path / "s.jsonl"), "x.jsonl").startswith("no score: none of")


def test_the_last_episode_of_a_trial_is_the_run(tmp_path: Path) -> None:
    later = [*TRACE["conversations"], {"role": "user", "content": "ok"}, {"role": "assistant", "content": "done"}]  # type: ignore[misc]
    rows = [
        {**TRACE, "result": 1.0},
        {**TRACE, "result": 1.0, "episode": "episode-1", "conversations": later},
        {**TRACE, "result": 0.0, "trial_name": "t2"},
    ]
    (tmp_path / "x.jsonl").write_text(lines_of(rows))
    report = import_files(tmp_path / "x.jsonl", tmp_path / "s.jsonl")
    assert (report.added, report.held) == (2, 1)
    assert sorted(len(run.steps) for run in TrajectoryStore(tmp_path / "s.jsonl")) == [1, 2]


# Harbor's own models


@quick
@given(runs(tools=True, reasoning=True))
def test_what_is_written_is_valid_to_harbor(tmp_path_factory: pytest.TempPathFactory, run: Run) -> None:
    models = pytest.importorskip("harbor.models.trajectories", reason="the package harbor is not installed")
    folder = tmp_path_factory.mktemp("job")
    models.Trajectory.model_validate(document(run))
    trial(folder, "a__b", document(run), **rewarded(reward=1))
    models.Trajectory.model_validate(atif_trajectory(only(folder, folder / "s.jsonl")))
