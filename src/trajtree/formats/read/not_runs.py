"""Records that belong to logs but are not runs, and why: a better message than "in no known format"."""

from __future__ import annotations

from collections.abc import Callable

from trajtree.formats.read.benchmarks.reports import is_report
from trajtree.formats.read.fields import Record, at


def _is_rollout_dump(record: Record) -> bool:
    texts = all(isinstance(record.get(name), str) for name in ("input", "output"))
    return texts and "score" in record and ("step" in record or "gts" in record)


def _is_prediction(record: Record) -> bool:
    if "model_patch" in record:
        return True
    return bool(record) and all(isinstance(one, dict) and "model_patch" in one for one in record.values())


_HARBORS = ({"trial_name", "verifier_result"}, {"trial_name", "trials_dir"}, {"job_name", "jobs_dir"})
"""Fields of a trial's result and configuration, and of a job's configuration."""


def _is_harbors(record: Record) -> bool:
    within = ("task.path", "stats.evals", "results.tests")  # a trial's task, a job's result, a report of tests
    return any(names <= record.keys() for names in _HARBORS) or any(at(record, path) is not None for path in within)


NOT_RUNS: tuple[tuple[Callable[[Record], bool], str], ...] = (
    (
        _is_rollout_dump,
        "a rollout dump of verl: input and output are rendered text, from which turns, calls and results cannot be "
        "recovered safely; log the conversation and write rows with messages and score",
    ),
    (is_report, "a benchmark's report, not a run; it gives the runs beside it their scores"),
    (_is_prediction, "the predictions of a benchmark, which hold the results of runs, not the runs themselves"),
)
"""How to recognise such a record, and what to say about it."""


def beside_runs(record: Record) -> str | None:
    """What kind of file this is if it only accompanies runs; None if it may be a log."""
    return "results and settings of Harbor" if _is_harbors(record) else None


def why_no_run(record: Record) -> str | None:
    """Why a record in no known format is not a run; None if there is nothing to say about it."""
    return next((reason for recognises, reason in NOT_RUNS if recognises(record)), None)


__all__ = ["NOT_RUNS", "beside_runs", "why_no_run"]
