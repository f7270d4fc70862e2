"""Drawing tasks for variety: many situations first, then evenly from each."""

from __future__ import annotations

import random
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, zip_longest


def in_turns(
    tasks: Iterable[str],
    situations: Mapping[str, str],
    draw: str,
    *,
    avoid: Collection[str] = (),
    spare: Collection[str] = (),
    taken: Mapping[str, int] | None = None,
) -> list[str]:
    """All tasks in drawing order: every round has one of each situation, so that any prefix covers many situations.

    Args:
        tasks: the tasks.
        situations: each task's situation.
        draw: name of the draw; another name gives another order.
        avoid: situations whose tasks come last.
        spare: situations that come last in every round, since other splits have them too.
        taken: how often each situation was drawn before; in a round, those drawn least come first.
    """
    chance = random.Random(zlib.crc32(draw.encode()))
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for task in tasks:
        groups[situations[task]].append(task)
    names = sorted(groups)
    chance.shuffle(names)
    for name in names:
        chance.shuffle(groups[name])
    before = taken or {}
    names.sort(key=lambda name: (name in spare, before.get(name, 0)))
    fresh = [groups[name] for name in names if name not in avoid]
    rest = [groups[name] for name in names if name in avoid]
    return [*_rounds(fresh), *_rounds(rest)]


def _rounds(groups: Sequence[Sequence[str]]) -> list[str]:
    return [task for task in chain.from_iterable(zip_longest(*groups)) if task is not None]


def evenly(groups: Sequence[Sequence[str]], number: int) -> list[str]:
    """That many tasks, as evenly from the groups as can be: the first ones of each, in the order of the groups.

    A larger number gives the same tasks and more. No task may be in two groups.
    """
    taken = set(_rounds(groups)[:number])
    return [task for group in groups for task in group if task in taken]


def shared(
    first: Mapping[str, Sequence[str]], second: Iterable[str], situations: Mapping[str, str]
) -> dict[str, tuple[int, int]]:
    """Per type: how many of the first tasks share a situation with the second, and how many first tasks there are.

    Types that share nothing are left out.
    """
    there = {situations[task] for task in second}
    counts = {kind: (sum(situations[task] in there for task in tasks), len(tasks)) for kind, tasks in first.items()}
    return {kind: count for kind, count in counts.items() if count[0]}


def spread(tasks: Iterable[str], situations: Mapping[str, str]) -> Counter[str]:
    """The number of tasks per situation."""
    return Counter(situations[task] for task in tasks)


__all__ = ["evenly", "in_turns", "shared", "spread"]
