"""The run of a session of a coding agent, whose file names no task and no score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from trajtree.formats.read.fields import SCORES, Record, score_at, task_at, text_at
from trajtree.formats.read.to_trajectory import Imported
from trajtree.formats.read.vendors.talk import Metadata, Talk
from trajtree.trajectory import Outcome


def run_of(
    talk: Talk,
    record: Record,
    events: Sequence[Record],
    replies: Counter[str],
    *,
    score: str | None,
    task: str | None,
    model: str | None = None,
    outcome: Outcome = Outcome.COMPLETED,
    **facts: str | int | None,
) -> Imported:
    """The run that was put together in `talk`.

    Args:
        talk: what was said.
        record: the session.
        events: those of its events that are the run.
        replies: how many of them each model gave; the one with most is the run's policy.
        score, task: fields that the user named.
        model: the policy if no reply names its model.
        outcome: how the run ended.
        facts: for the metadata, those that are known.

    Raises:
        DataError: a field that the user named is missing or wrong.
    """
    messages, metadata = talk.finished()
    policy = replies.most_common(1)[0][0] if replies else model
    return Imported(
        messages=messages,
        context_turns=0,
        score=score_at(record, score, SCORES, session=True),
        task=task_at(record, task, ()),
        policy=policy,
        outcome=outcome,
        metadata={**metadata, **_described(events, session=text_at(record, "session_id"), **facts)},
        made=talk.made(policy),
    )


def _described(events: Sequence[Record], **facts: str | int | None) -> Metadata:
    """When the first and last events were written, and those of `facts` that are known."""
    times = [time for event in events if isinstance(time := event.get("timestamp"), str)]
    found: Metadata = {"started": times[0], "ended": times[-1]} if times else {}
    return found | {name: value for name, value in facts.items() if value}


def several(names: Iterable[str]) -> str | None:
    """The names of a session's models if there are several; one alone is the run's policy."""
    listed = list(names)
    return ", ".join(listed) if len(listed) > 1 else None


__all__ = ["run_of", "several"]
