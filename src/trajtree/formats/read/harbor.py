"""Harbor's job folders: what stands beside an agent's ATIF document, and the rows that its traces export writes.

A trial's folder holds `agent/trajectory.json`, its continuations `trajectory.cont-N.json`, `result.json` with task,
rewards and exception, and `verifier/reward.txt`. Source: the models and trial paths of the package `harbor`, 0.26.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from trajtree.errors import DataError
from trajtree.formats.read import messages, sharegpt
from trajtree.formats.read.atif import goes_on_in
from trajtree.formats.read.fields import Record, at, first_turn, text_at
from trajtree.formats.read.records import LONGEST, RawRecord, decode, raw_records
from trajtree.formats.read.to_trajectory import Imported

MAIN = "main"
"""`trace_source` of the rows that are an agent's run; others are helper calls, such as summaries."""


def runs(path: Path, records: Iterator[RawRecord]) -> Iterator[RawRecord]:
    """One record per run: a document with its continuations, and with its trial where the file has one document.

    A document gains `continuations`, `trial` (result.json) and `trial_reward` (reward.txt). Documents of subagents that
    are embedded in another one follow it as records of their own.
    """
    first = list(islice(records, 2))
    alone, number = len(first) == 1, 0
    for raw in chain(first, records):
        for data, problem in _documents(path, raw, alone):
            number += 1
            yield RawRecord(number, raw.line, data, problem)


_SPREAD = (b'"continued_trajectory_ref"', b'"subagent_trajectories"')
"""Fields of a document whose run is not in this document alone."""


def _documents(path: Path, raw: RawRecord, alone: bool) -> Iterator[tuple[bytes, str | None]]:
    try:
        beside = _trial(path) if alone else {}
        if any(field in raw.data for field in _SPREAD):
            record = decode(raw)
            *subagents, main = _apart(record)
            yield _with({**beside, **_continuations(path, record)}, _encoded(main)), None
            yield from ((_encoded(subagent), None) for subagent in subagents)
        else:
            yield _with(beside, raw.data), raw.problem
    except DataError as error:
        yield raw.data, str(error)


def _apart(record: Record) -> Iterator[Record]:
    """The documents of the subagents that are embedded in a document, at any depth, and then it without them."""
    embedded = record.get("subagent_trajectories")
    if isinstance(embedded, list) and all(isinstance(subagent, dict) for subagent in embedded):
        for subagent in embedded:
            yield from _apart(subagent)
        record = {name: value for name, value in record.items() if name != "subagent_trajectories"}
    yield record


def _with(beside: Record, data: bytes) -> bytes:
    """A record as written, with further fields; it is not parsed for that."""
    if not beside or not data.endswith(b"}") or data == b"{}":
        return data
    return data[:-1] + b"," + _encoded(beside)[1:]


def _encoded(record: Record) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _continuations(path: Path, record: Record) -> dict[str, Any]:
    """The documents that continue a document, in order, each from the file that the one before it names.

    Raises:
        DataError: one is missing, not in the same folder, not a document, or already part of the run; or the run is
            longer than LONGEST.
    """
    found: list[Record] = []
    seen, size, here = {path.name}, 0, record
    while (name := goes_on_in(here)) is not None:
        what = f"continued_trajectory_ref: {name[:80]!r}"
        if Path(name).name != name or "\0" in name or name in seen:
            raise DataError(f"{what} is not another file in the same folder, so the run is not whole")
        try:
            first, *more = islice(raw_records(path.with_name(name)), 2)
            here = decode(first)
        except (DataError, ValueError):
            raise DataError(f"{what} cannot be read, so the run is not whole; put the file beside this one") from None
        size += len(first.data)
        if more or size > LONGEST:
            raise DataError(f"{what} is not one document of at most {LONGEST >> 20} MiB, so the run is not whole")
        seen.add(name)
        found.append(here)
    return {"continuations": found} if found else {}


def _trial(path: Path) -> dict[str, Any]:
    """What the trial says of a document in its folder `agent`; a trial in several steps keeps them in `steps/NAME`."""
    folder = path.absolute().parent.parent
    step = folder.name if folder.parent.name == "steps" else None
    result = (
        _object(folder / "result.json") if step is None else _step(_object(folder.parents[1] / "result.json"), step)
    )
    found: dict[str, Any] = {"trial": result} if result else {}
    reward = folder / "verifier" / "reward.txt"
    if at(result, "verifier_result.rewards") is None and reward.is_file():
        found["trial_reward"] = reward.read_bytes()[:100].decode("utf-8", "replace").strip()
        if not result:
            found["trial"] = {"trial_name": folder.name, "task_name": folder.name.rpartition("__")[0] or folder.name}
    return found


def _step(result: Record, step: str) -> dict[str, Any]:
    """A step's result, with the task and trial that it belongs to."""
    steps = result.get("step_results")
    found: Record = next((s for s in steps if at(s, "step_name") == step), {}) if isinstance(steps, list) else {}
    if not found:
        return {}
    task = text_at(result, "task_name")
    return {**found, "trial_name": result.get("trial_name"), **({"task_name": f"{task}/{step}"} if task else {})}


def _object(path: Path) -> dict[str, Any]:
    """The trial's result: an object with a task and a trial; {} where there is none."""
    if not path.is_file():
        return {}
    try:
        first, *more = islice(raw_records(path), 2)
        found = decode(first)
    except (DataError, ValueError):
        raise DataError(f"{path.name} beside the run is not JSON; restore or remove it") from None
    return found if not more and "trial_name" in found else {}


def recognises_trace(record: Record) -> bool:
    """Whether a record is a row of the traces export."""
    return first_turn(record) is not None and {"episode", "trial_name", "task"} <= record.keys()


def read_trace(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read a row of the traces export; its `result` is the reward as text, or an exception's name.

    Raises:
        DataError: the row is a helper call, its trial ended in an exception and has no reward, or a field is wrong.
    """
    source = record.get("trace_source")
    if isinstance(source, str) and source != MAIN:
        raise DataError(f"trace_source: {source[:80]!r} is a helper call, not a run of the agent's")
    result = record.get("result")
    if score is None and isinstance(result, str) and not _is_number(result):
        raise DataError(f"result: the trial ended in {result[:80]!r} and has no reward")
    reader = sharegpt.read if "from" in (first_turn(record) or {}) else messages.read
    return reader(record, score="result" if score is None and result is not None else score, task=task)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


__all__ = ["read_trace", "recognises_trace", "runs"]
