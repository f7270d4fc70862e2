"""Rows of tables, Parquet and Arrow (what `datasets` saves), as JSON objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from trajtree.errors import DataError
from trajtree.formats.containers.streams import missing
from trajtree.store.files import open_input

_PARQUET = b"PAR1"
_ARROW_FILE = b"ARROW1"
_MOST_ROWS = 256
_AT_ONCE = 1 << 28
"""Bytes that a batch of rows may unpack to. A value may stand for many rows, so a row may be as large as its column."""


def is_table(path: Path, magic: bytes) -> bool:
    """Whether a file that begins with `magic` is a table."""
    return magic.startswith((_PARQUET, _ARROW_FILE)) or path.suffix.lower() == ".arrow"


def rows_in(path: Path) -> Iterator[bytes]:
    """The rows of a table as JSON, with null where a row has no value.

    Raises:
        DataError: the file is damaged, holds values that are not JSON, or pyarrow is not installed.
    """
    try:
        import pyarrow
    except ImportError:
        raise missing(path, "pyarrow") from None
    try:
        with _batches(path) as batches:
            for batch in batches:
                decoders = _decoders(batch.schema)
                for row in batch.to_pylist():
                    for name, decode in decoders.items():
                        row[name] = decode(row[name])
                    yield msgspec.json.encode(row, enc_hook=str)
    except (pyarrow.ArrowException, OSError) as error:
        said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(f"{path}: the table is damaged ({said})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: a text of the table is not UTF-8") from None


def _decoders(fields: Iterable[Any]) -> dict[str, Callable[[Any], Any]]:
    """The decoders of those fields that need one, by name."""
    return {field.name: decode for field in fields if (decode := _decoder(field.type)) is not None}


def _decoder(kind: Any) -> Callable[[Any], Any] | None:
    """What makes a value of a column of this type from what pyarrow gives; None if that is the value already.

    pyarrow gives JSON (its type `arrow.json`, which `datasets` and trajtree write) as text. A text that is not JSON
    stays one: whoever reads the field says what is wrong with it.
    """
    import pyarrow

    if isinstance(kind, pyarrow.JsonType):
        return _decoded
    if pyarrow.types.is_struct(kind):
        inner = _decoders(kind)
        return (lambda value: value and value | {k: d(value[k]) for k, d in inner.items()}) if inner else None
    element = getattr(kind, "value_type", None)
    of_each = None if element is None or pyarrow.types.is_dictionary(kind) else _decoder(element)
    return None if of_each is None else lambda value: value and [of_each(one) for one in value]


def _decoded(value: str | None) -> Any:
    try:
        return None if value is None else msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value


@contextmanager
def _batches(path: Path) -> Iterator[Iterator[Any]]:
    with open_input(path) as file:
        magic = file.peek(len(_ARROW_FILE))
        if magic.startswith(_PARQUET):
            from pyarrow import parquet

            table = parquet.ParquetFile(file)
            yield table.iter_batches(batch_size=_rows_at_once(table.metadata))
            return
        from pyarrow import ipc

        if magic.startswith(_ARROW_FILE):
            reader = ipc.open_file(file)
            batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
        else:
            batches = iter(ipc.open_stream(file))
        yield (part for batch in batches for part in _parts(batch))


def _rows_at_once(metadata: Any) -> int:
    largest = 1
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        largest = max(largest, sum(group.column(i).total_uncompressed_size for i in range(group.num_columns)))
    return max(1, min(_MOST_ROWS, _AT_ONCE // largest))


def _parts(batch: Any) -> Iterator[Any]:
    for start in range(0, batch.num_rows, _MOST_ROWS):
        yield batch.slice(start, _MOST_ROWS)


__all__ = ["is_table", "rows_in"]
