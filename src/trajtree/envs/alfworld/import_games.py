"""Importing a user's games: each is checked, and they are packed so that each is found in milliseconds."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trajtree.envs.alfworld.game_files import data_folder, games_in, scene_of
from trajtree.envs.alfworld.packed import INDEX_FORMAT, INDEX_VERSION, Place, index_path, parse_game, sha256
from trajtree.envs.alfworld.scene import Scene
from trajtree.envs.alfworld.sources import find_source, read_source
from trajtree.errors import DataError, counted
from trajtree.store.files import atomically, write_atomically
from trajtree.store.lock import locked
from trajtree.store.progress import SILENT, Progress

_STREAM = 64
"""Games per xz stream: with more, files are smaller; with fewer, reading is faster."""
_PRESET = 2


@dataclass(frozen=True, slots=True)
class FileReport:
    """One packed split: path, games included and left out (unsolvable, sliced, moved), bytes, SHA-256 in hex."""

    path: Path
    games: int
    left_out: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class DataReport:
    """What `import_data` wrote: the folder, and a report for each split."""

    folder: Path
    files: tuple[FileReport, ...]

    @property
    def lines(self) -> list[str]:
        """A readable line per file."""
        return [f"{f.path}: {counted(f.games, 'game')}, {f.left_out:,} left out, sha256 {f.sha256}" for f in self.files]


def import_data(source: Path, progress: Progress = SILENT) -> DataReport:
    """Check the ALFWorld games at `source` and pack them where trajtree finds them.

    Args:
        source: the `json_2.1.1` folder that `alfworld-download` leaves (or the folder around it), a folder of packed
            `train.jsonl.xz`, `valid_seen.jsonl.xz`, `valid_unseen.jsonl.xz`, or one such file.
        progress: counts the finished games.

    Every game is compiled, so a damaged one is detected now. `SPLIT.jsonl.xz` and `SPLIT.index.json` (count, size,
    SHA-256, where each game is) are written to `data_folder()`, each atomically; splits that `source` does not have are
    left unchanged. The train games take about a minute.

    Raises:
        DataError: there are no games, one is damaged or of another version (the message names file, line and field),
            or the folder cannot be written.
        RunError: another process is importing into the folder.
    """
    folder = data_folder()
    found = find_source(source)
    taken = f"{folder}: another process ({{holder}}) is bringing in games; wait for it"
    try:
        with locked(folder / ".lock", taken):
            reports = [_pack(path, folder / f"{split}.jsonl.xz", progress) for split, path in found.items()]
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror}; set TRAJTREE_DATA to a folder") from error
    games_in.cache_clear()
    scene_of.cache_clear()
    return DataReport(folder, tuple(reports))


def _pack(source: Path, target: Path, progress: Progress) -> FileReport:
    places: dict[str, Place] = {}
    left_out = [0]
    with atomically(target) as file:
        start = 0
        for block in _blocks(_checked(source, left_out, progress), _STREAM):
            stream = lzma.compress(b"".join(line + b"\n" for _, line in block), preset=_PRESET)
            places |= {task: Place(start, len(stream), number) for number, (task, _) in enumerate(block)}
            file.write(stream)
            start += len(stream)
        if not places:
            raise DataError(f"{source}: contains no solvable game; is the download complete?")
        # An index that belongs to another file would be an error; while there is none, the file is read without one.
        index_path(target).unlink(missing_ok=True)
    with target.open("rb") as file:
        report = FileReport(target, len(places), left_out[0], start, sha256(file))
    header = {"format": INDEX_FORMAT, "version": INDEX_VERSION, "sha256": report.sha256}
    write_atomically(index_path(target), json.dumps({**header, "size": start, "count": len(places), "games": places}))
    return report


def _checked(source: Path, left_out: list[int], progress: Progress) -> Iterator[tuple[str, bytes]]:
    """Task id and line of every complete game; counts those that ALFWorld leaves out."""
    seen: dict[str, str] = {}
    for where, line in read_source(source):
        progress.advance(1)
        if line is None:
            left_out[0] += 1
            continue
        game = parse_game(line, where)
        Scene.parse(game.pddl_problem, game.goal, where)
        if game.task in seen:
            raise DataError(f"{where}, field id: {game.task} also occurs at {seen[game.task]}")
        seen[game.task] = where
        yield game.task, line


def _blocks(items: Iterable[tuple[str, bytes]], size: int) -> Iterator[list[tuple[str, bytes]]]:
    block: list[tuple[str, bytes]] = []
    for item in items:
        block.append(item)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


__all__ = ["DataReport", "FileReport", "import_data"]
