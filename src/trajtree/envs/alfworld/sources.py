"""Reading games from users' files: packed files, or the folders that `alfworld-download` leaves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trajtree.envs.alfworld.game_files import FILES
from trajtree.envs.alfworld.packed import lines
from trajtree.errors import DataError
from trajtree.store.files import open_input
from trajtree.store.lines import parsed

GAME_FILE, STORY_FILE = "game.tw-pddl", "traj_data.json"

_GOAL = re.compile(r"Your task is to: (.+?)\.?\s*\"")
_ACTION = re.compile(r"\(:action\s+(\w+)")
_COMMENT = re.compile(r";[^\n]*")
_MOVE = re.compile(r"^move (.+) to (.+)$")
_ACTIONS = {"look", "inventory", "examinereceptacle", "examineobject", "gotolocation"} | {
    f"{verb}object" for verb in ("open", "close", "pickup", "put", "clean", "heat", "cool", "toggle", "slice")
}


def find_source(source: Path) -> dict[str, Path]:
    """The file or folder of games at `source`, by split: a .jsonl.xz file, a folder of them, or json_2.1.1.

    Raises:
        DataError: there are no games.
    """
    if source.is_file() and source.name.removesuffix(".jsonl.xz") in FILES:
        return {source.name.removesuffix(".jsonl.xz"): source}
    packed = {name: source / f"{name}.jsonl.xz" for name in FILES if (source / f"{name}.jsonl.xz").is_file()}
    if packed:
        return packed
    for folder in (source, *sorted(source.glob("json_*"))):
        splits = {name: folder / name for name in FILES if (folder / name).is_dir()}
        if splits:
            return splits
    if not source.exists():
        raise DataError(f"{source}: does not exist; give the folder that alfworld-download made")
    raise DataError(
        f"{source}: no ALFWorld games: neither {', '.join(f'{name}.jsonl.xz' for name in FILES)} nor a json_2.1.1 "
        f"folder with {', '.join(FILES)} in it"
    )


def read_source(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """Location and line of each game of a split; None for games that ALFWorld leaves out (unsolvable, sliced, moved).

    Raises:
        DataError: a file is missing, damaged or of another version.
    """
    if path.is_file():
        for number, line in enumerate(lines(path), 1):
            yield f"{path}, line {number}", line
        return
    stories = sorted(path.rglob(STORY_FILE))
    if not stories:
        raise DataError(f"{path}: contains no {STORY_FILE}; is the download complete?")
    for story in stories:
        yield str(story.parent), _packed(story, path)


def _packed(story: Path, split: Path) -> bytes | None:
    folder = story.parent
    name = folder.relative_to(split).as_posix()
    if "movable" in name or "Sliced" in name or not (folder / GAME_FILE).exists():
        return None
    game, annotation = _object(folder / GAME_FILE), _object(story)
    if not game.get("solvable"):
        return None
    where = folder / GAME_FILE
    problem, domain, grammar = (_text(game, key, where) for key in ("pddl_problem", "pddl_domain", "grammar"))
    _check_domain(domain, where)
    goal = _GOAL.search(grammar)
    if goal is None:
        raise DataError(f"{where}, field grammar: contains no 'Your task is to:'; is this an alfworld game?")
    walkthrough = game.get("walkthrough") or []
    return json.dumps(
        {
            "id": f"{split.name}/{name}",
            "split": split.name,
            "task_type": _text(annotation, "task_type", story),
            "goal": f"{goal[1]}.",
            "pddl_problem": problem,
            "gt_actions": [_MOVE.sub(r"put \1 in/on \2", str(action)) for action in walkthrough],
        }
    ).encode()


def _check_domain(domain: str, where: Path) -> None:
    found = {name.lower() for name in _ACTION.findall(_COMMENT.sub("", domain))} - {"help"}
    if found != _ACTIONS:
        raise DataError(
            f"{where}, field pddl_domain: not the rules of json_2.1.1 (actions that differ: "
            f"{', '.join(sorted(found ^ _ACTIONS))}); fetch that version with alfworld-download"
        )


def _object(path: Path) -> dict[str, Any]:
    with open_input(path) as file:
        text = file.read()
    try:
        found = parsed(text)
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); is the download complete?") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: must contain an object, not {type(found).__name__}")
    return found


def _text(fields: dict[str, Any], key: str, where: Path) -> str:
    if not isinstance(fields.get(key), str):
        raise DataError(f"{where}, field {key}: must be text, got {type(fields.get(key)).__name__}")
    return str(fields[key])


__all__ = ["find_source", "read_source"]
