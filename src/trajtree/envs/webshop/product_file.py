"""Products that stay on disk: one JSON line each, read when they are accessed."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import numpy as np

from trajtree.envs.webshop.products import Product
from trajtree.errors import DataError


class ProductFile(Sequence[Product]):
    """Products in a file, one JSON line each, with the lines' offsets in `<name>.offsets.npy`."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            DataError: it is missing or cut off.
        """
        try:
            self._offsets = np.load(path.with_suffix(".offsets.npy"), mmap_mode="r")
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error}): import the products again") from error
        if len(self._bytes) != self._offsets[-1]:
            raise DataError(f"{path}: has {len(self._bytes)} bytes, not {self._offsets[-1]}: import the products again")
        self._parsed = lru_cache(maxsize=4096)(self._parse)

    def _parse(self, index: int) -> Product:
        start, end = int(self._offsets[index]), int(self._offsets[index + 1])
        return Product.from_row(json.loads(self._bytes[start:end]))

    def __len__(self) -> int:
        """Number of products."""
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Product: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Product]: ...
    def __getitem__(self, index: int | slice) -> Product | Sequence[Product]:
        """The product with this index."""
        if isinstance(index, slice):
            return [self._parsed(place) for place in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._parsed(index)


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write JSON lines and their offsets as `ProductFile` reads them; returns the number of lines.

    Raises:
        OSError: the disk is full or not writable.
    """
    offsets = [0]
    with path.open("wb") as file:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
            file.write(line)
            offsets.append(offsets[-1] + len(line))
    np.save(path.with_suffix(".offsets.npy"), np.array(offsets, np.int64))
    return len(offsets) - 1


__all__ = ["ProductFile", "write_lines"]
