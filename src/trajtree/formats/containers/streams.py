"""Files that may be compressed, read from the beginning to the end."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from trajtree.errors import DataError
from trajtree.store.files import open_input

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
LONGEST_MAGIC = 8
_BUFFER = 1 << 17
"""Bytes read at a time: records are often longer than the few thousand of Python's own buffer."""

DAMAGED: tuple[type[Exception], ...] = (EOFError, OSError, zlib.error)
"""What reading a damaged file of the standard library's formats raises."""


class Unpacked(io.RawIOBase):
    """What a compressed file holds. If it is damaged it ends there, and `problem` says so."""

    def __init__(self, file: IO[bytes], damaged: tuple[type[Exception], ...]) -> None:
        self.problem: str | None = None
        self._file = file
        self._damaged = damaged

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        with memoryview(buffer).cast("B") as view:
            try:
                data = self._file.read(len(view))
            except self._damaged as error:
                self.problem = f"the compressed file is damaged or cut off here ({error})"
                return 0
            view[: len(data)] = data
            return len(data)


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, Unpacked | None]]:
    """What a file holds, unpacked while it is read; and, of a compressed file, the place where damage is reported.

    Raises:
        DataError: it cannot be read, or needs a package that is not installed.
    """
    with ExitStack() as stack:
        file = stack.enter_context(open_input(path, buffer=_BUFFER))
        magic = file.peek(LONGEST_MAGIC)[:LONGEST_MAGIC]
        if magic.startswith(_GZIP):
            unpacked = Unpacked(cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=file))), DAMAGED)
        elif magic.startswith(_ZSTD):
            unpacked = zstd_stream(file, path)
        else:
            yield file, None
            return
        yield cast(BinaryIO, io.BufferedReader(unpacked, 1 << 16)), unpacked


def zstd_stream(file: IO[bytes], path: Path) -> Unpacked:
    """What a zstd stream holds. Raises DataError, naming the path, if the package for it is not installed."""
    try:
        import zstandard
    except ImportError:
        raise missing(path, "zstandard") from None
    reader = _Zstd(file, lambda: zstandard.ZstdDecompressor().decompressobj())
    return Unpacked(cast(IO[bytes], reader), (zstandard.ZstdError, *DAMAGED))


class _Zstd:
    """Reads frames of zstd. The package's own reader takes a frame that is cut off for one that has ended."""

    _CHUNK = 1024
    """A few bytes of zstd may stand for 128 kB, so that a chunk may unpack to 32 MB."""

    def __init__(self, file: IO[bytes], begin: Callable[[], Any]) -> None:
        self._file, self._begin = file, begin
        self._frame: Any = None
        self._data, self._place = b"", 0

    def read(self, size: int) -> bytes:
        while self._place == len(self._data):
            packed = self._frame.unused_data if self._frame is not None and self._frame.eof else b""
            packed = packed or self._file.read(self._CHUNK)
            if not packed:
                if self._frame is not None and not self._frame.eof:
                    raise EOFError("a frame has no end")
                return b""
            if self._frame is None or self._frame.eof:
                self._frame = self._begin()
            self._data, self._place = self._frame.decompress(packed), 0
        data = self._data[self._place : self._place + size]
        self._place += len(data)
        return data


def missing(path: Path, package: str) -> DataError:
    """The error for a file that can only be read with a package that is not installed."""
    return DataError(f"{path}: reading it needs {package}: pip install 'trajtree[logs]'")


__all__ = ["DAMAGED", "LONGEST_MAGIC", "Unpacked", "missing", "opened", "zstd_stream"]
