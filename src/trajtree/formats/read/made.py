"""How each reply was made, as far as a log says: model, time, cost, token ids, log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

from trajtree.formats.read.fields import Record, at
from trajtree.trajectory import Made

_MODELS = ("model", "model_name")
_TIMES = ("timestamp", "created_at", "created", "time", "date")
_COSTS = ("cost", "cost_usd", "response_cost", "usage.cost", "metrics.cost_usd")
_TOKENS = ("token_ids", "completion_token_ids", "response_token_ids", "metrics.completion_token_ids")
_LOGPROBS = ("logprobs", "metrics.logprobs")
_ANY = frozenset(name.partition(".")[0] for name in (*_MODELS, *_TIMES, *_COSTS, *_TOKENS, *_LOGPROBS))
_NOTHING = Made()


def made_of(replies: Sequence[Record], policy: str | None = None) -> tuple[Made, ...]:
    """What the records of a run's replies say, one each; nothing if none of them says anything.

    Args:
        replies: [replies] records with any of the usual fields. Times are kept as they are written.
        policy: the run's model, which is not repeated.
    """
    if all(reply.keys().isdisjoint(_ANY) for reply in replies):
        return ()
    made = tuple([_made(reply, policy) for reply in replies])
    return () if all(one == _NOTHING for one in made) else made


def _made(reply: Record, policy: str | None) -> Made:
    model = _first(reply, _MODELS, str)
    time = _first(reply, _TIMES, str, int, float)
    cost = _first(reply, _COSTS, int, float)
    ids = _list(_first(reply, _TOKENS, list), int)
    logprobs = _first(reply, _LOGPROBS, list, dict)
    if isinstance(logprobs, dict):  # as OpenAI's API answers
        logprobs = logprobs.get("content")
    if isinstance(logprobs, list):
        logprobs = [one.get("logprob") if isinstance(one, dict) else one for one in logprobs]
    return Made(
        model=model if model != policy else None,
        time=None if time is None else str(time),
        cost=float(cost) if cost is not None and abs(cost) < 1e300 else None,
        token_ids=ids if all(0 <= one < 1 << 63 for one in ids) else (),
        logprobs=tuple(map(float, _list(logprobs, int, float))),
    )


def _first(reply: Record, places: Sequence[str], *types: type) -> Any:
    found = (at(reply, place) for place in places)
    return next((value for value in found if type(value) in types), None)


def _list(values: object, *types: type) -> tuple[Any, ...]:
    """A list whose elements are all of a type; nothing otherwise."""
    if not isinstance(values, list) or not all(type(one) in types and abs(one) < 1e300 for one in values):
        return ()
    return tuple(values) if all(map(isfinite, values)) else ()


__all__ = ["made_of"]
