"""Compressed input is streamed: what is large in one piece is refused, what is large altogether is not."""

from __future__ import annotations

import lzma
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from trajtree.envs.alfworld import packed
from trajtree.envs.webshop.sources import find_files, stock
from trajtree.errors import DataError
from trajtree.store import unpacking


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "LONGEST", 1 << 20)


def test_many_lines_are_read_one_long_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl.xz"
    path.write_bytes(lzma.compress(b"{}\n" * (1 << 20)))
    assert sum(1 for _ in packed.lines(path)) == 1 << 20
    path.write_bytes(lzma.compress(b"{}\n" + b" " * (2 << 20)))
    with pytest.raises(DataError, match=r"train\.jsonl\.xz, line 2: unpacks to more than 1 MiB"):
        list(packed.lines(path))


def test_a_document_has_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "products_1k.json.xz"
    path.write_bytes(lzma.compress(b'{"products": [' + b" " * (2 << 20)))
    with pytest.raises(DataError, match=r"products_1k\.json\.xz: unpacks to more than 1 MiB"):
        list(stock(find_files(path), None, None))  # type: ignore[arg-type]


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    """300 MB of spaces in 50 kB, under a limit of memory that would not hold them."""
    path = tmp_path / "products_1k.json.xz"
    with lzma.open(path, "wb", preset=0) as file:
        for _ in range(300):
            file.write(b" " * (1 << 20))
    code = (
        "import sys\nfrom pathlib import Path\nfrom trajtree.cli.main import app, main\n"
        f"sys.argv = ['trajtree', 'data', 'webshop', '--from', {str(path)!r}]\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "TRAJTREE_DATA": str(tmp_path / "data"), "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (1 << 29, 1 << 29)),
    )
    assert done.returncode == 1 and "unpacks to more than 256 MiB" in done.stderr and "Traceback" not in done.stderr
