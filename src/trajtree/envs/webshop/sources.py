"""The product files that a user may have, and their contents."""

from __future__ import annotations

import json
import lzma
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from trajtree.envs.webshop.goals import Draft, human_drafts, synthetic_draft
from trajtree.envs.webshop.json_stream import array_items, object_items
from trajtree.envs.webshop.products import Product, is_product, product_of
from trajtree.errors import DataError
from trajtree.store import unpacking
from trajtree.store.files import open_input
from trajtree.store.lines import parsed

SMALL = 64 << 20
"""In bytes; larger files are streamed, and need room on disk for their contents."""

PACKED = "products_*.json.xz"

Entry = Callable[[str], object]
"""Maps an ASIN to its entry in a file, or None."""


@dataclass(frozen=True, slots=True)
class Files:
    """A set of product files: one packed file, or products, attributes and (optional) human instructions."""

    products: Path
    attributes: Path | None = None
    human: Path | None = None

    @property
    def all(self) -> tuple[Path, ...]:
        """Every file of the set."""
        return tuple(file for file in (self.products, self.attributes, self.human) if file)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.all)


@dataclass(frozen=True, slots=True)
class Stocked:
    """A product and the goals written for it."""

    product: Product
    synthetic: Draft | None
    human: tuple[Draft, ...]


def find_files(source: Path) -> Files:
    """The set of product files at `source`: a packed file, an `items_shuffle*.json`, or a folder with one of these.

    Raises:
        DataError: there is none, or more than one.
    """
    if source.is_dir():
        found = sorted([*source.glob(PACKED), *source.glob("items_shuffle*.json")])
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise DataError(f"{source}: contains {names}: name the one to import")
        if not found:
            raise DataError(f"{source}: contains neither {PACKED} nor items_shuffle*.json")
        source = found[0]
    if not source.is_file():
        raise DataError(f"{source}: there is no such file or folder")
    if source.suffix == ".xz" or not source.name.startswith("items_shuffle"):
        return Files(source)
    attributes = source.with_name(source.name.replace("items_shuffle", "items_ins_v2"))
    if not attributes.is_file():
        raise DataError(f"{attributes}: is missing; {source.name} needs it")
    human = source.with_name("items_human_ins.json")
    return Files(source, attributes, human if human.is_file() else None)


def stock(files: Files, prices: Random, scratch: Path | None) -> Iterator[Stocked]:
    """Every product of the files once, in their order, with its goals; price ranges are drawn from `prices`.

    `scratch` is a folder for data that is too large for memory; small files need none.

    Raises:
        DataError: a file is invalid; the message names file, row and field.
    """
    with ExitStack() as stack:
        contents = _opened(files, scratch, stack)
        seen: set[str] = set()
        for number, record in enumerate(contents.products):
            where = f"{files.products}: row {number}"
            asin = record.get("asin") if isinstance(record, dict) else None
            if isinstance(asin, str) and (not is_product(asin) or asin in seen):
                continue
            entry = contents.attributes(asin) if isinstance(asin, str) else None
            product = product_of(record, entry, prices, where)
            index = len(seen)
            seen.add(product.asin)
            synthetic = synthetic_draft(index, product.price, entry, f"{contents.attributes_name}: {product.asin}")
            entries = contents.human(product.asin)
            here = f"{contents.human_name}: {product.asin}"
            human = () if entries is None else tuple(human_drafts(index, product.price, entries, here))
            yield Stocked(product, synthetic, human)
        if not seen:
            raise DataError(f"{files.products}: contains no products")


@dataclass(frozen=True, slots=True)
class _Contents:
    products: Iterable[object]
    attributes: Entry
    attributes_name: str
    human: Entry
    human_name: str


def _opened(files: Files, scratch: Path | None, stack: ExitStack) -> _Contents:
    if files.attributes is None:
        packed, name = _unpacked(files.products), str(files.products)
        return _Contents(
            packed["products"], packed["attrs"].get, f"{name}: attrs", packed["human"].get, f"{name}: human"
        )
    human: Entry = _entries(files.human, scratch, stack) if files.human else lambda asin: None
    attributes = _entries(files.attributes, scratch, stack)
    return _Contents(array_items(files.products), attributes, str(files.attributes), human, str(files.human))


def _unpacked(path: Path) -> dict[str, Any]:
    """The packed layout: {"products": [record, ...], "attrs": {asin: entry}, "human": {asin: [entry, ...]}}."""
    try:
        with open_input(path) as file, lzma.open(file) if path.suffix == ".xz" else file as unpacked:
            content = parsed(unpacking.document(unpacked, str(path)))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (EOFError, lzma.LZMAError) as error:
        raise DataError(f"{path}: is damaged or cut off: {error}") from error
    except ValueError as error:
        raise DataError(f"{path}: is not JSON: {error}") from error
    for field, kind in (("products", list), ("attrs", dict), ("human", dict)):
        if not isinstance(content, dict) or not isinstance(content.get(field), kind):
            raise DataError(f"{path}: must contain an object with {field!r}, a {kind.__name__}")
    return dict(content)


def _entries(path: Path, scratch: Path | None, stack: ExitStack) -> Entry:
    if path.stat().st_size <= SMALL:
        return dict(object_items(path)).get
    if scratch is None:
        raise DataError(f"{path}: too large to be read in place: trajtree data webshop --from {path.parent}")
    table = stack.enter_context(closing(sqlite3.connect(scratch / f"{path.stem}.sqlite", isolation_level=None)))
    table.execute("PRAGMA journal_mode = OFF")
    table.execute("PRAGMA synchronous = OFF")
    table.execute("CREATE TABLE entries (asin TEXT PRIMARY KEY, entry TEXT) WITHOUT ROWID")
    table.execute("BEGIN")
    table.executemany(
        "INSERT OR REPLACE INTO entries VALUES (?, ?)",
        ((asin, json.dumps(entry)) for asin, entry in object_items(path)),
    )
    table.execute("COMMIT")

    def entry_of(asin: str) -> object:
        found = table.execute("SELECT entry FROM entries WHERE asin = ?", (asin,)).fetchone()
        return json.loads(found[0]) if found else None

    return entry_of


__all__ = ["SMALL", "Files", "Stocked", "find_files", "stock"]
