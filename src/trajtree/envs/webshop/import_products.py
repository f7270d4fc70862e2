"""Importing a user's product files: checked, compacted and indexed, in memory independent of their size."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from trajtree.envs.webshop.goals import PRICE_SEED, Draft, Kind
from trajtree.envs.webshop.index_file import IndexWriter
from trajtree.envs.webshop.product_file import write_lines
from trajtree.envs.webshop.ranking import terms
from trajtree.envs.webshop.shop import FORMAT, KINDS, data_folder
from trajtree.envs.webshop.sources import Files, find_files, stock
from trajtree.errors import DataError, counted
from trajtree.store.files import open_input, write_atomically
from trajtree.store.lines import JsonObject
from trajtree.store.lock import locked
from trajtree.store.progress import SILENT, Progress
from trajtree.store.unfinished import unfinished_folder

MOST_FOR_SYNTHETIC = 50_000
"""Number of products; larger sets get human goals only (the full set would have tens of millions of synthetic ones)."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was read: its name, size in bytes and SHA-256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class DataReport:
    """What was imported: the folder, the source files, and counts.

    `synthetic` counts products with an instruction (0 for sets of more than 50,000 products), `human` human
    instructions.
    """

    folder: Path
    sources: tuple[SourceFile, ...]
    products: int
    synthetic: int
    human: int

    @property
    def lines(self) -> list[str]:
        """A readable line per file, and one for all of them."""
        files = [f"{file.name}: {counted(file.bytes, 'byte')}, sha256 {file.sha256}" for file in self.sources]
        instructions = f"instructions: {self.synthetic} synthetic, {self.human} human"
        return [*files, f"{self.folder}: {counted(self.products, 'product')}, {instructions}"]


def import_data(
    source: Path, progress: Progress = SILENT, *, folder: Path | None = None, sha256: str | None = None
) -> DataReport:
    """Import the product files at `source` into `folder` (`data_folder()` when None), which is replaced as a whole.

    `source` is a packed `products_*.json.xz`, an `items_shuffle*.json` of the original layout with
    `items_ins_v2*.json` (and `items_human_ins.json`) beside it, or a folder with either. `sha256` is the expected
    SHA-256 of the product file, if known.

    Raises:
        DataError: a file is missing or invalid (file, row and field are named), or the folder cannot be written.
        RunError: another process is importing into the folder.
        EnvError: a package from the extra `webshop` is missing.
    """
    files, target = find_files(source), folder or data_folder()
    taken = f"{target}: another process ({{holder}}) is bringing in products; wait for it"
    try:
        with locked(target.with_name(f".{target.name}.lock"), taken), unfinished_folder(target) as scratch:
            return _import(files, target, scratch, progress, sha256)
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror or error}") from error


def _import(files: Files, target: Path, scratch: Path, progress: Progress, sha256: str | None) -> DataReport:
    (scratch / "new").mkdir()
    sources = tuple(_hashed(file) for file in files.all)
    if sha256 is not None and sources[0].sha256 != sha256.lower():
        raise DataError(f"{files.products}: has sha256 {sources[0].sha256}, not {sha256}: it is a different file")
    counts = _write(files, scratch, progress)
    manifest = counts | {"format": FORMAT, "sources": [asdict(one) for one in sources]}
    write_atomically(scratch / "new" / "manifest.json", json.dumps(manifest))
    _replace(scratch / "new", target, scratch / "old")
    return DataReport(target, sources, counts["products"], counts["synthetic"], counts["human"])


def _hashed(path: Path) -> SourceFile:
    with open_input(path) as file:
        return SourceFile(path.name, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _write(files: Files, scratch: Path, progress: Progress) -> dict[str, Any]:
    """Write products, goals and index into `scratch`/new; returns the manifest's counts and the state of the prices."""
    new = scratch / "new"
    prices = Random(PRICE_SEED)
    written: dict[str, int] = dict.fromkeys(KINDS, 0)
    with ExitStack() as stack:
        index = stack.enter_context(IndexWriter(new / "index"))
        goals = {kind: stack.enter_context((new / f"{kind}.jsonl").open("w", encoding="utf-8")) for kind in KINDS}

        def rows() -> Iterator[JsonObject]:
            for one in stock(files, prices, scratch):
                drafts: dict[Kind, tuple[Draft, ...]] = {
                    "synthetic": (one.synthetic,) if one.synthetic else (),
                    "human": one.human,
                }
                for kind, some in drafts.items():
                    goals[kind].writelines(json.dumps(draft.to_row()) + "\n" for draft in some)
                    written[kind] += len(some)
                index.add(terms(one.product.document()))
                progress.advance(1)
                yield one.product.to_row()

        products = write_lines(new / "products.jsonl", rows())
        index.finish()
    if products > MOST_FOR_SYNTHETIC:
        (new / "synthetic.jsonl").write_bytes(b"")
        written["synthetic"] = 0
    return {"products": products, **written, "price_state": prices.getstate()}


def _replace(new: Path, target: Path, old: Path) -> None:
    if target.exists():
        if not (target / "manifest.json").is_file() and any(target.iterdir()):
            raise DataError(f"{target}: contains something else; empty it, or set TRAJTREE_DATA to another folder")
        target.replace(old)
    try:
        new.replace(target)
    except BaseException:
        if old.exists():
            old.replace(target)
        raise


__all__ = ["DataReport", "SourceFile", "import_data"]
