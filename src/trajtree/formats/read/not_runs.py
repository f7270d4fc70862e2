"""Records and files that belong to logs but are not runs, and why: a better message than "in no known format"."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from trajtree.formats.read.benchmarks.reports import is_report
from trajtree.formats.read.fields import Record, at
from trajtree.formats.read.preferences import A_PREFERENCE, is_preference


def _is_rollout_dump(record: Record) -> bool:
    texts = all(isinstance(record.get(name), str) for name in ("input", "output"))
    return texts and "score" in record and ("step" in record or "gts" in record)


def _is_prediction(record: Record) -> bool:
    if "model_patch" in record:
        return True
    return bool(record) and all(isinstance(one, dict) and "model_patch" in one for one in record.values())


_HARBORS = ({"trial_name", "verifier_result"}, {"trial_name", "trials_dir"}, {"job_name", "jobs_dir"})
"""Fields of a trial's result and configuration, and of a job's configuration."""


REPORTS = "reports of benchmarks"
_OF_HARBOR = "results and settings of Harbor"
_NO_RUN = "results of Harbor's trials without agent/trajectory.json"
_OTHER_FORM = "other forms of runs that Harbor wrote as agent/trajectory.json"
_RESULT = "result.json"
_SETTINGS = ("config.json", "lock.json", _RESULT, "results.json")
"""What Harbor writes into the folders of jobs and trials."""

_ASIDE = ("verifier", "artifacts", "user-agent")
"""Folders of a trial that hold no run of its agent: the run in the last one is the simulated user's."""

_AGENT = "agent"
_CALL = re.compile(r"episode-\d+/debug\.json")
"""What terminus-2 keeps of each call of the model, in the agent's folder."""

_RUN = re.compile(r"trajectory[\w.-]*\.json")
"""The agent's documents; other files there hold the same run in the agent's own form."""

_BEGINNING = 1 << 16
"""Bytes of a file of settings in which a trial's name is looked for."""


def _is_harbors(record: Record) -> bool:
    within = ("task.path", "stats.evals", "results.tests")  # a trial's task, a job's result, a report of tests
    return any(names <= record.keys() for names in _HARBORS) or any(at(record, path) is not None for path in within)


NOT_RUNS: tuple[tuple[Callable[[Record], bool], str], ...] = (
    (
        _is_rollout_dump,
        "a rollout dump of verl: input and output are rendered text, from which turns, calls and results cannot be "
        "recovered safely; log the conversation and write rows with messages and score",
    ),
    (is_preference, A_PREFERENCE),
    (_is_prediction, "the predictions of a benchmark, which hold the results of runs, not the runs themselves"),
)
"""How to recognise such a record, and what to say about it."""


def beside_runs(record: Record) -> str | None:
    """What kind of file this is, if it only accompanies runs; None if it may be a log."""
    return _OF_HARBOR if _is_harbors(record) else REPORTS if is_report(record) else None


def lies_beside_runs(path: Path) -> str | None:
    """The same as `beside_runs`, judged by the path of a file in a folder alone.

    Source: the trial paths of the package `harbor`, 0.26.
    """
    path = path.absolute()
    if path.name in _SETTINGS and (_is_trial(path.parent) or _is_job(path.parent)):
        of_trial = path.name == _RESULT and not _is_job(path.parent)
        return _NO_RUN if of_trial and not _has_run(path.parent) else _OF_HARBOR
    for folder in path.parents:
        if folder.name in _ASIDE and _is_trial(_trial_of(folder)):
            return _OF_HARBOR
        if folder.name == _AGENT and _is_trial(_trial_of(folder)):
            inside = path.relative_to(folder).as_posix()
            if _CALL.fullmatch(inside):
                return _OF_HARBOR
            elsewhere = (folder / "trajectory.json").is_file() and not _RUN.fullmatch(inside)
            return _OTHER_FORM if elsewhere else None
    return None


def _trial_of(folder: Path) -> Path:
    """The folder of the trial to which a folder within it belongs; a trial in several steps has one for each."""
    return folder.parents[2] if folder.parent.parent.name == "steps" else folder.parent


def _has_run(trial: Path) -> bool:
    """Whether a trial, or one of its steps, has its agent's run."""
    return any(next(trial.glob(f"{inside}{_AGENT}/trajectory.json"), None) is not None for inside in ("", "steps/*/"))


@lru_cache(maxsize=1024)
def _is_trial(folder: Path) -> bool:
    return any(b'"trial_name"' in _beginning(folder / name) for name in _SETTINGS)


@lru_cache(maxsize=1024)
def _is_job(folder: Path) -> bool:
    return any(b'"jobs_dir"' in _beginning(folder / name) for name in _SETTINGS)


def _beginning(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(_BEGINNING)


def why_no_run(record: Record) -> str | None:
    """Why a record in no known format is not a run; None if there is nothing to say about it."""
    return next((reason for recognises, reason in NOT_RUNS if recognises(record)), None)


__all__ = ["NOT_RUNS", "REPORTS", "beside_runs", "lies_beside_runs", "why_no_run"]
