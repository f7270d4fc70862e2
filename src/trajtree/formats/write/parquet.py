"""Rows as JSON Lines or, where the file's name ends in .parquet, as Parquet that `datasets` and TRL read.

A list of objects (messages, tools) becomes a list of JSON texts, marked so that `datasets` gives back the very objects:
the fields of messages and the arguments of calls differ from row to row, and as columns of their own they would come
back filled up with nulls.

Source: `datasets`' feature types `Json` and `List` (4.7 and later), which it keeps in the schema's metadata.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any

from trajtree.store.files import atomically, cannot_write
from trajtree.store.lines import JsonObject, encoded, write_jsonl
from trajtree.store.lock import claimed

SUFFIX = ".parquet"
_ROWS = 1000
"""Rows per group, which are in memory at the same time."""
_JSON, _LIST = "json", "list of "


def write_rows(rows: Iterable[Mapping[str, Any]], path: str | os.PathLike[str]) -> int:
    """Write rows as the file's name says and return how many there are; rows are taken one at a time.

    Raises:
        DataError: a row cannot be represented (NaN, half a surrogate pair).
        RunError: the file cannot be written, or another process is writing it.
        ModuleNotFoundError: it would be Parquet, and pyarrow is not installed.

    After any error, including one raised by `rows`, an existing file is left unchanged.
    """
    if Path(path).suffix != SUFFIX:
        return write_jsonl(rows, path)
    import pyarrow  # noqa: F401 - fails before any work is done

    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with claimed(path), atomically(path) as out, tempfile.TemporaryFile(dir=path.parent) as spool:
            kinds: dict[str, str | None] = {}
            count = 0
            for count, row in enumerate(rows, start=1):
                spool.write(encoded(row, path, count, "row"))
                for name, value in row.items():
                    kinds[name] = _either(kinds.get(name), _kind(value))
            spool.seek(0)
            _write(map(json.loads, spool), kinds, out)
    except OSError as error:
        raise cannot_write(path, error) from error
    return count


def _kind(value: object) -> str | None:
    """What a column must be to hold a value; None if anything can."""
    if value is None:
        return None
    if isinstance(value, list):
        inner: str | None = None
        for element in value:
            inner = _either(inner, _kind(element))
        return None if inner is None and not value else _LIST + (inner or _JSON)
    return {bool: "bool", int: "int64", float: "double", str: "string"}.get(type(value), _JSON)


def _either(one: str | None, other: str | None) -> str | None:
    """What a column must be to hold values of both kinds."""
    if one is None or other is None or one == other:
        return one if other is None else other
    if {one, other} == {"int64", "double"}:
        return "double"
    if one.startswith(_LIST) and other.startswith(_LIST):
        return _LIST + (_either(one.removeprefix(_LIST), other.removeprefix(_LIST)) or _JSON)
    return _JSON


def _write(rows: Iterator[JsonObject], kinds: Mapping[str, str | None], out: IO[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    known = {name: kind or _JSON for name, kind in kinds.items()}
    features = {"info": {"features": {name: _feature(kind) for name, kind in known.items()}}}
    schema = pa.schema(
        [(name, _type(kind)) for name, kind in known.items()], metadata={"huggingface": json.dumps(features)}
    )
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        while batch := list(islice(rows, _ROWS)):
            columns = {name: pa.array([_held(row.get(name), kind) for row in batch]) for name, kind in known.items()}
            writer.write_table(pa.table(columns).cast(schema))


def _held(value: Any, kind: str) -> Any:
    """A value as its column holds it: JSON as text."""
    if value is None:
        return None
    if kind.startswith(_LIST):
        return [_held(element, kind.removeprefix(_LIST)) for element in value]
    return json.dumps(value, ensure_ascii=False) if kind == _JSON else value


def _type(kind: str) -> Any:
    import pyarrow as pa

    if kind.startswith(_LIST):
        return pa.list_(_type(kind.removeprefix(_LIST)))
    return {"bool": pa.bool_(), "int64": pa.int64(), "double": pa.float64(), "string": pa.string()}.get(
        kind, pa.json_()
    )


def _feature(kind: str) -> JsonObject:
    """A column as `datasets` describes it."""
    if kind.startswith(_LIST):
        return {"feature": _feature(kind.removeprefix(_LIST)), "_type": "List"}
    return {"_type": "Json"} if kind == _JSON else {"dtype": _DTYPES.get(kind, kind), "_type": "Value"}


_DTYPES = {"double": "float64"}


__all__ = ["SUFFIX", "write_rows"]
