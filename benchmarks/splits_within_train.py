"""Splits for experiments where an environment's own dev and test will not do: parts of its train split.

    python benchmarks/splits_within_train.py alfworld --out runs/alfworld-splits.json pick_and_place_simple:0.25 ...

ALFWorld's own dev and test are too small, and those of four games of TextWorldExpress name things that train does not.
A type's share is that of its tasks which test gets; dev gets three fifths of as many, train the rest. Tasks of a type
stay together if they share the situation or, in ALFWorld, the task in words (object and receptacle), so that no split
has a task or a situation of another. These groups are dealt out in an order that depends on their names alone; those
that are too large for dev and test are train's, as are those larger than `--largest`, for types in which a single
situation would fill a split: a product of WebShop can have hundreds of goals.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from trajtree.envs.alfworld.game_files import data_folder, games_in
from trajtree.envs.domain import Domain, load_domain

OF_TEST = 0.6
"""Tasks of dev, as a share of those of test."""


def features(domain: Domain, task: str) -> Iterator[tuple[str, ...]]:
    """What tasks of different splits must not share."""
    yield ("situation", *domain.situations([task]).values())
    if domain.environment.name == "alfworld":
        match games_in(data_folder()).game(task).folder.split("-"):
            case [_, thing, _, receptacle, _]:
                yield "words", thing, receptacle
            case _:
                raise SystemExit(f"{task}: its folder does not say object, receptacle and room")


def groups(domain: Domain, kind: str) -> list[list[str]]:
    """The type's training tasks, together where they share a feature, in a fixed order."""
    with_feature: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for task in domain.tasks(kind, "train"):
        for feature in features(domain, task):
            with_feature[feature].append(task)
    leader: dict[str, str] = {}  # of a task: another one of its group, or itself

    def first(task: str) -> str:
        while leader.setdefault(task, task) != task:
            task = leader[task]
        return task

    for tasks in with_feature.values():
        for task in tasks:
            leader[first(task)] = first(tasks[0])
    found: dict[str, list[str]] = defaultdict(list)
    for task in leader:
        found[first(task)].append(task)
    named = [sorted(tasks) for tasks in found.values()]
    return sorted(named, key=lambda tasks: hashlib.sha256(tasks[0].encode()).digest())


def splits(domain: Domain, shares: dict[str, float], largest: int | None = None) -> dict[str, list[str]]:
    """Tasks by split; groups of more than `largest` tasks are train's."""
    found: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for kind, share in shares.items():
        parts = groups(domain, kind)
        test = share * sum(map(len, parts))
        room = {"test": test, "dev": OF_TEST * test}
        for tasks in parts:
            fits = largest is None or len(tasks) <= largest
            split = next((name for name, left in room.items() if fits and len(tasks) <= left), "train")
            found[split] += tasks
            if split != "train":
                room[split] -= len(tasks)
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("env", help="the environment")
    parser.add_argument("shares", nargs="+", metavar="TYPE:SHARE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--largest", type=int, metavar="TASKS", help="largest group allowed in dev or test")
    args = parser.parse_args()
    shares = {kind: float(share) for kind, share in (each.split(":") for each in args.shares)}
    if too_large := [kind for kind, share in shares.items() if not 0 < share * (1 + OF_TEST) < 1]:
        raise SystemExit(
            f"{too_large[0]}: a share is above 0 and below {1 / (1 + OF_TEST)}, so that train keeps something"
        )
    domain = load_domain(args.env)
    found = splits(domain, shares, args.largest)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1))
    for kind in shares:
        of_kind = set(domain.tasks(kind, "train"))
        for split, tasks in found.items():
            held = of_kind.intersection(tasks)
            print(f"{kind}, {split}: {len(held)} tasks, {len(set(domain.situations(held).values()))} situations")


if __name__ == "__main__":
    main()
