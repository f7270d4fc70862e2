"""What a score in a log is worth: from a number, a text or several rewards to a number in [0, 1]."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from trajtree.errors import DataError
from trajtree.trajectory import SCORE_TOLERANCE

_WORDS = {
    **{"c": 1.0, "correct": 1.0, "yes": 1.0, "true": 1.0},
    **{"i": 0.0, "incorrect": 0.0, "n": 0.0, "no": 0.0, "false": 0.0},
    "p": 0.5,
}
"""Texts that stand for a score in any range; the letters are inspect_ai's: N is no answer, P partly correct."""

_NUMBER = re.compile(r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*")
_WEIGHT = re.compile(r"([^=,]+)=([-+.\deE]+)")


class Missing:
    """The value of a score that a run does not have."""

    __slots__ = ()

    @property
    def reason(self) -> str:
        """Where it was looked for, and what to do."""
        return "no score; give one in a file of scores: --scores FILE"


@dataclass(frozen=True, slots=True)
class Weighed:
    """A score made of several: (field, value, weight) of each."""

    parts: tuple[tuple[str, object, float], ...]


@lru_cache(maxsize=64)
def weights_in(field: str) -> tuple[tuple[str, float], ...]:
    """The (field, weight) pairs of `accuracy=0.7,style=0.3`; nothing if it is the name of one field.

    Raises:
        DataError: the weights are not positive numbers that add up to 1, so that the sum would leave the range.
    """
    found = [_WEIGHT.fullmatch(part.strip()) for part in field.split(",")]
    pairs = [(match[1].strip(), match[2]) for match in found if match is not None]
    if len(pairs) < len(found):
        return ()
    try:
        weights = [float(weight) for _, weight in pairs]
    except ValueError:
        return ()
    if any(weight <= 0 for weight in weights) or not math.isclose(sum(weights), 1.0, abs_tol=SCORE_TOLERANCE):
        raise DataError(f"--score {field}: weights must be greater than 0 and add up to 1")
    return tuple((name, weight) for (name, _), weight in zip(pairs, weights, strict=True))


def is_missing(value: object) -> bool:
    """Whether a run has no score at all; None where its format has none."""
    return value is None or isinstance(value, Missing)


def scaled(field: str, value: object, low: float, high: float) -> float:
    """A score in [0, 1], where `low` is 0 and `high` is 1.

    Text that is a number is a number. True and false, and words for them, are 1 and 0 in any range. Values outside the
    range by less than SCORE_TOLERANCE count as the edge, because scores are sums of floats.

    Raises:
        DataError: there is none, it is not a score, or it is outside the range.
    """
    if is_missing(value):
        raise DataError(value.reason if isinstance(value, Missing) else Missing().reason)
    if isinstance(value, Weighed):
        parts = [weight * scaled(name, part, low, high) for name, part, weight in value.parts]
        return min(1.0, math.fsum(parts))
    number = _number(value)
    if number is None:
        if isinstance(value, Mapping) and len(value) > 1:
            first, second = islice(value, 2)
            raise DataError(
                f"{field}: has several scores ({', '.join(map(str, value))[:200]}); name one with --score "
                f"{field}.{first}, or weigh them, for example --score {field}.{first}=0.7,{field}.{second}=0.3"
            )
        raise DataError(f"{field}: {short(value)} is not a score; name a field with a number: --score FIELD")
    share_ = number if isinstance(value, str) and not _NUMBER.fullmatch(value) else _share(number, low, high)
    if share_ is None:
        raise DataError(
            f"{field}: {short(value)} is outside [{low:g}, {high:g}]; name another field with --score FIELD, or give "
            "the range of all scores with --score-range LOW HIGH, and import into a new store: scores within "
            f"[{low:g}, {high:g}] are stored as they are"
        )
    return float(share_)


def differs(value: object, score: float, low: float, high: float) -> bool:
    """Whether a field other than the one used has a different score, or no score within the range."""
    try:
        return abs(scaled("", value, low, high) - score) > SCORE_TOLERANCE
    except DataError:
        return True


def _number(value: object) -> float | bool | None:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return float(value) if len(value) < 40 and _NUMBER.fullmatch(value) else _WORDS.get(value.strip().lower())
    return None


def _share(value: float, low: float, high: float) -> float | None:
    """The position of a number in the range; None if it is outside."""
    if isinstance(value, bool):
        return float(value)
    if low <= value <= high:
        return float((value - low) / (high - low))
    # Infinity and whole numbers of any length are compared, never converted.
    if not abs(value) <= 2 * (abs(low) + abs(high)):
        return None
    share = float((value - low) / (high - low))
    return min(1.0, max(0.0, share)) if -SCORE_TOLERANCE <= share <= 1 + SCORE_TOLERANCE else None


def short(value: object) -> str:
    """A value as it may stand in a message."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (ValueError, TypeError):
        # A number with thousands of digits.
        text = type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."


__all__ = ["Missing", "Weighed", "differs", "is_missing", "scaled", "short", "weights_in"]
