"""Games in a file: one JSON object per line in `SPLIT.jsonl.xz`, with an index beside it if we wrote the file.

A file written by `import_data` is a sequence of small xz streams of a few games each, and `SPLIT.index.json` says which
game is in which, so that one game is read in milliseconds. Any other `.jsonl.xz` has one long stream: it is read
once and kept compressed in memory.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from trajtree.errors import DataError
from trajtree.store import unpacking
from trajtree.store.files import open_input
from trajtree.store.lines import parsed

INDEX_FORMAT, INDEX_VERSION = "trajtree-alfworld-index", 1
TASK_TYPES = (
    "look_at_obj_in_light",
    "pick_and_place_simple",
    "pick_clean_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_two_obj_and_place",
)
"""ALFWorld's six kinds of household task."""

_BLOCK = 16 << 20
_AGAIN = "import it again: trajtree data alfworld --from PATH"


@dataclass(frozen=True, slots=True)
class PackedGame:
    """A game as it is stored.

    Attributes:
        task_type: one of `TASK_TYPES`.
        trial: its trial's name, unique among all games.
        goal: the task description.
        pddl_problem: the problem in PDDL.
        gt_actions: the expert's commands, in the `put` dialect; empty if the game has none.
        folder: ALFWorld's folder of the trials of one kind, such as `look_at_obj_in_light-Mug-None-DeskLamp-308`
            (object, movable receptacle, receptacle, room); empty if unknown.
    """

    task_type: str
    trial: str
    goal: str
    pddl_problem: str = field(repr=False)
    gt_actions: tuple[str, ...] = ()
    folder: str = ""

    @property
    def task(self) -> str:
        """The game's task id."""
        return f"{self.task_type}/{self.trial}"


def parse_game(line: bytes, where: str) -> PackedGame:
    """The game on a line; unknown fields are ignored.

    Raises:
        DataError: the line is not JSON, or a field is missing or wrong.
    """
    try:
        fields = parsed(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error}); is the file cut off?") from error
    if not isinstance(fields, dict):
        raise DataError(f"{where}: must be an object with id, task_type, goal and pddl_problem")
    texts = []
    for name in ("task_type", "id", "goal", "pddl_problem"):
        if not isinstance(fields.get(name), str) or not fields[name].strip():
            raise DataError(f"{where}, field {name}: must be text, got {fields.get(name)!r}")
        texts.append(fields[name])
    if texts[0] not in TASK_TYPES:
        raise DataError(f"{where}, field task_type: {texts[0]!r} is not one of {', '.join(TASK_TYPES)}")
    actions = fields.get("gt_actions") or []
    if not isinstance(actions, list) or not all(isinstance(action, str) for action in actions):
        raise DataError(f"{where}, field gt_actions: must be a list of commands")
    *folders, trial = texts[1].split("/")
    folder = folders[-1] if folders else ""
    return PackedGame(texts[0], trial, texts[2], texts[3], tuple(actions), folder)


class Place(NamedTuple):
    """Where a game is: byte range of its xz stream in the file, and its line in that stream, from 0."""

    start: int
    size: int
    line: int


class PackedFile:
    """The games of one split.

    Raises:
        DataError: the file cannot be read, is damaged, or does not match its index.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, Place] = {}
        self._kept: dict[str, bytes] = {}
        index = index_path(path)
        if index.exists():
            self._places = _read_index(index, path)
        else:
            for number, line in enumerate(lines(path), 1):
                game = parse_game(line, f"{path}, line {number}")
                self._kept[game.task] = zlib.compress(line, 1)

    @property
    def tasks(self) -> list[str]:
        """Task ids, in file order."""
        return list(self._places or self._kept)

    def __contains__(self, task: str) -> bool:
        """Whether the game is in this file."""
        return task in self._places or task in self._kept

    def read(self, task: str) -> PackedGame:
        """One game.

        Raises:
            KeyError: it is not in this file.
            DataError: the file was damaged or removed after it was opened.
        """
        where = f"{self.path}, game {task}"
        if task in self._kept:
            return parse_game(zlib.decompress(self._kept[task]), where)
        start, size, line = self._places[task]
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                packed = io.BytesIO(file.read(size))
            with lzma.open(packed) as stream:
                block = unpacking.document(stream, where)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror}") from error
        except (EOFError, lzma.LZMAError) as error:
            raise DataError(f"{where}: damaged ({error}); {_AGAIN}") from error
        return parse_game(block.split(b"\n")[line], where)


def index_path(path: Path) -> Path:
    """The index of `train.jsonl.xz` is `train.index.json`."""
    return path.with_name(path.name.removesuffix(".jsonl.xz") + ".index.json")


def lines(path: Path) -> Iterator[bytes]:
    """The non-blank lines of a .jsonl.xz file.

    Raises:
        DataError: the file cannot be read, is not an xz file, or is cut off.
    """
    number = 0
    try:
        with open_input(path) as packed, lzma.open(packed) as file:
            for line in unpacking.lines(file, str(path)):
                number += 1
                if line.strip():
                    yield line.rstrip(b"\n")
    except (EOFError, lzma.LZMAError) as error:
        raise DataError(
            f"{path}, after line {number}: cut off or damaged ({error or 'it ends too early'}); fetch it again"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def sha256(file: BinaryIO) -> str:
    """SHA-256 of the rest of a file, in hex."""
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def _read_index(index: Path, path: Path) -> dict[str, Place]:
    try:
        found: Any = json.loads(index.read_text(encoding="utf-8"))
        with path.open("rb") as file:
            digest = sha256(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{index} and {path.name}: cannot be read ({error}); {_AGAIN}") from error
    if not isinstance(found, dict) or found.get("format") != INDEX_FORMAT:
        raise DataError(f"{index}, field format: not an index of games; remove it, or {_AGAIN}")
    if found.get("version") != INDEX_VERSION:
        raise DataError(
            f"{index}, field version: {found.get('version')!r}, but this trajtree reads {INDEX_VERSION}; {_AGAIN}"
        )
    if found.get("sha256") != digest:
        raise DataError(f"{path}: is not the file that {index.name} was made for (field sha256); {_AGAIN}")
    return {task: Place(*place) for task, place in found["games"].items()}


__all__ = [
    "INDEX_FORMAT",
    "INDEX_VERSION",
    "TASK_TYPES",
    "PackedFile",
    "PackedGame",
    "Place",
    "index_path",
    "lines",
    "parse_game",
    "sha256",
]
