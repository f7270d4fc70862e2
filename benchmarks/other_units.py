"""The comparisons that a recipe named, under other answers to "what is one piece of evidence?", from stored results.

    python benchmarks/other_units.py benchmarks/results/own-runs-seed*.json

`--also` adds a comparison that was not named, as in experiment_tables.py, and the gap recovered. Printed are the tables

* with situations as they are stored;
* with one situation per answer in ScienceWorld's lifespan types. The 125 variations of such a type combine one of five
  animals that live longest, one of five in between, and one of five that live shortest. What has to be named is always
  one of the five at that end, so a model that knows (or mistakes) one of them wins (or loses) all of its variations;
* without the find types, all of whose test situations had been played by earlier versions of the demo;
* without them, with one situation per answer.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiment_tables import add_also, afterwards, compared_runs, gaps, tables

LONGEST = frozenset({"BrownBear", "Crocodile", "Elephant", "GiantTortoise", "Parrot"})
"""What lives longest in every variation of the lifespan types, by the simulator's own solutions; and shortest."""
SHORTEST = frozenset({"Ant", "Chameleon", "Dragonfly", "Hedgehog", "Mouse"})

_ENDS = {
    "lifespan-longest-lived": LONGEST,
    "lifespan-shortest-lived": SHORTEST,
    "lifespan-longest-lived-then-shortest-lived": LONGEST,
}
"""Where the answer is sought that decides a task; of the type that asks for both, the first one, which comes first."""
_FIND = "find-"

Task = Mapping[str, Any]


def by_answer(task: Task) -> dict[str, Any] | None:
    """The task in the situation of its answer, if it is of a lifespan type."""
    kind = task["task_type"]
    if kind not in _ENDS:
        return dict(task)
    animals = task["situation"].rpartition("[")[2].removesuffix("]").split(", ")
    (answer,) = _ENDS[kind].intersection(animals)
    return {**task, "situation": f"{kind}: {answer}"}


def as_stored(task: Task) -> dict[str, Any] | None:
    """The task as it is."""
    return dict(task)


def without_find(task: Task) -> dict[str, Any] | None:
    """The task, unless it is of a find type."""
    return None if task["task_type"].startswith(_FIND) else dict(task)


def by_answer_without_find(task: Task) -> dict[str, Any] | None:
    """Both."""
    return by_answer(task) if without_find(task) is not None else None


VIEWS: dict[str, Callable[[Task], dict[str, Any] | None]] = {
    "situations as stored": as_stored,
    "lifespan types: one situation per answer": by_answer,
    "without the find types": without_find,
    "without the find types, one situation per answer": by_answer_without_find,
}


def seen(results: Mapping[str, Any], view: Callable[[Task], dict[str, Any] | None]) -> dict[str, Any]:
    """Stored results with what the view makes of each task; figures beside the tasks stay, and are not compared."""
    rows = [
        {**row, "tasks": [changed for task in row["tasks"] if (changed := view(task)) is not None]}
        for row in results["rows"]
    ]
    return {**results, "rows": rows}


@contextmanager
def files(stored: Sequence[Mapping[str, Any]]) -> Iterator[list[Path]]:
    """Results in files, while the context lasts."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.json" for number in range(len(stored))]
        for path, results in zip(paths, stored, strict=True):
            path.write_text(json.dumps(results))
        yield paths


def compared(stored: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What `trajtree compare` says of results."""
    with files(stored) as paths:
        return compared_runs(paths)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    add_also(parser)
    args = parser.parse_args()
    stored = [json.loads(path.read_text()) for path in args.results]
    for title, view in VIEWS.items():
        with files([seen(one, view) for one in stored]) as paths:
            found = compared_runs(paths)
            units = found["rows"][0]["situations"]
            print(
                f"\n{title} ({found['rows'][0]['n']} tasks, {units['count']} ({units['effective']:.1f}) situations)\n"
            )
            print(tables(found).partition("\n\n")[2])
            if args.also:
                print("", afterwards(paths, args.also, found["labels"]), "", gaps(found), sep="\n")


if __name__ == "__main__":
    main()
