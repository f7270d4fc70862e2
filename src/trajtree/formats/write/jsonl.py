"""Writing rows as JSON Lines: the whole file or nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trajtree.errors import DataError, RunError
from trajtree.store.files import atomically


def write_jsonl(rows: Iterable[Mapping[str, Any]], path: str | os.PathLike[str]) -> int:
    """Write one row a line and return how many there are; rows are taken one at a time.

    Raises:
        DataError: a row that an exporter refused, or that JSON in UTF-8 cannot hold (NaN, half a surrogate pair).
        RunError: the file cannot be written. After any error what was there before is untouched.
    """
    path, count = Path(path), 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomically(path) as file:
            for count, row in enumerate(rows, start=1):
                file.write(_line(row, path, count))
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    return count


def _line(row: Mapping[str, Any], path: Path, number: int) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except ValueError as error:
        raise DataError(f"{path}, line {number}: cannot be written as JSON in UTF-8 ({error}); mend the data") from None


__all__ = ["write_jsonl"]
