"""Logs in folders, archives, tables and compressed files are read as they are; nothing gets out of bounds."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow
import pytest
import zstandard
from pyarrow import parquet
from tests.formats.conversations import lines_of

from trajtree.errors import DataError
from trajtree.formats.containers import archives
from trajtree.formats.containers.finding import Finds, Found, find
from trajtree.formats.importing import ImportReport, import_files
from trajtree.formats.read import records
from trajtree.formats.read.records import decode, raw_records
from trajtree.store.trajectory_store import TrajectoryStore


def run(task: str, action: str = "look", score: Any = 1) -> dict[str, Any]:
    said = [{"role": "user", "content": f"do {task}"}, {"role": "assistant", "content": action}]
    return {"messages": said, "score": score, "task": task}


RUNS = [run(f"t{i}", f"Ærø {i}", i / 4) for i in range(4)]
LINES = lines_of(RUNS).encode()


def told(store: Path) -> list[tuple[str, str, float]]:
    return [(t.task, t.steps[-1].action, t.score) for t in TrajectoryStore(store, create=True)]


def imported(source: Path, store: Path) -> ImportReport:
    report = import_files(source, store)
    before = store.read_bytes() if store.exists() else b""
    again = import_files(source, store)
    assert (again.added, again.skipped) == (0, report.added)
    assert (store.read_bytes() if store.exists() else b"") == before
    return report


def zipped(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def zstd_zipped(path: Path, files: dict[str, bytes], *, crc: int = 0) -> None:
    """A zip with members of method 93, as inspect_ai writes them; zipfile of this Python cannot."""
    out, directory = io.BytesIO(), b""
    for name, data in files.items():
        packed, offset = zstandard.ZstdCompressor().compress(data), out.tell()
        sizes = struct.pack("<III", zlib.crc32(data) ^ crc, len(packed), len(data))
        head = struct.pack("<HHHHH", 63, 0, 93, 0, 0) + sizes + struct.pack("<H", len(name.encode()))
        out.write(b"PK\x03\x04" + head + struct.pack("<H", 0) + name.encode() + packed)
        rest = struct.pack("<HHHHII", 0, 0, 0, 0, 0, offset)
        directory += b"PK\x01\x02" + struct.pack("<H", 63) + head + rest + name.encode()
    end = struct.pack("<HHHHIIH", 0, 0, len(files), len(files), len(directory), out.tell(), 0)
    path.write_bytes(out.getvalue() + directory + b"PK\x05\x06" + end)


def tarred(path: Path, files: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def in_table(path: Path, rows: list[dict[str, Any]] = RUNS) -> None:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def in_arrow(path: Path, kind: Callable[..., Any] = pyarrow.ipc.new_stream) -> None:
    table = pyarrow.Table.from_pylist(RUNS)
    with kind(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


WAYS: dict[str, Callable[[Path], object]] = {
    "runs.jsonl.gz": lambda path: path.write_bytes(gzip.compress(LINES)),
    "runs.gz": lambda path: path.write_bytes(gzip.compress(LINES[:200]) + gzip.compress(LINES[200:])),
    "runs.json.gz": lambda path: path.write_bytes(gzip.compress(json.dumps(RUNS, indent=1).encode())),
    "RUNS.JSONL.ZST": lambda path: path.write_bytes(
        zstandard.compress(LINES[:99]) + zstandard.ZstdCompressor().compress(LINES[99:])
    ),
    "RUNS.JSONL": lambda path: path.write_bytes(LINES),
    "runs.ndjson": lambda path: path.write_bytes(LINES),
    "runs.traj": lambda path: path.write_bytes(LINES),
    "runs.parquet": in_table,
    "runs.arrow": in_arrow,
    "file.arrow": lambda path: in_arrow(path, pyarrow.ipc.new_file),
    "runs.zip": lambda path: zipped(path, {"logs/a.jsonl": LINES}),
    "zstd.zip": lambda path: zstd_zipped(path, {"logs/a.jsonl": LINES}),
    "nested.zip": lambda path: zipped(path, {"a.jsonl.gz": gzip.compress(LINES)}),
    "runs.tar": lambda path: tarred(path, {"logs/a.jsonl": LINES}),
    "runs.tar.gz": lambda path: tarred(path, {"logs/a.jsonl": LINES}, "w:gz"),
    "runs.tgz": lambda path: tarred(path, {"./logs/a.jsonl": LINES}, "w:gz"),
}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("within", [True, False])
def test_every_container_is_read_as_what_it_contains(tmp_path: Path, name: str, within: bool) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    WAYS[name](folder / name)
    report = imported(folder if within else folder / name, tmp_path / "s.jsonl")
    assert (report.added, report.left_out_count, report.others) == (4, 0, {})
    assert told(tmp_path / "s.jsonl") == [(f"t{i}", f"Ærø {i}", i / 4) for i in range(4)]


def test_a_tar_in_zstd_is_an_archive(tmp_path: Path) -> None:
    tarred(tmp_path / "a.tar", {"a.jsonl": LINES})
    (tmp_path / "a.tar.zst").write_bytes(zstandard.compress((tmp_path / "a.tar").read_bytes()))
    assert imported(tmp_path / "a.tar.zst", tmp_path / "s.jsonl").added == 4


def test_a_named_file_is_what_it_holds_whatever_its_name(tmp_path: Path) -> None:
    for name, write in WAYS.items():
        if not name.endswith(".arrow"):
            write(tmp_path / "download")
            assert imported(tmp_path / "download", tmp_path / f"{name}.store").added == 4


def test_a_folder_as_datasets_saves_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    splits = {"train": datasets.Dataset.from_list(RUNS[:3]), "test": datasets.Dataset.from_list(RUNS[3:])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "d")
    report = imported(tmp_path / "d", tmp_path / "s.jsonl")
    assert (report.added, report.left_out_count, report.others) == (4, 0, {})


def test_values_of_tables_are_made_json(tmp_path: Path) -> None:
    import datetime

    rows = [{"when": datetime.datetime(2026, 1, 2), "messages": '[{"a": 1}]', "n": None, "x": float("nan")}]
    in_table(tmp_path / "t.parquet", rows)
    (raw,) = raw_records(tmp_path / "t.parquet")
    assert decode(raw) == {"when": "2026-01-02T00:00:00", "messages": '[{"a": 1}]', "n": None, "x": None}


def test_the_rows_of_a_table_are_not_held_at_once(tmp_path: Path) -> None:
    """One long text that a dictionary repeats: a few kilobytes that stand for gigabytes."""
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 5000, pyarrow.int32()), ["x" * 500_000])
    parquet.write_table(pyarrow.table({"x": column}), tmp_path / "t.parquet", store_schema=False)
    assert (tmp_path / "t.parquet").stat().st_size < 500_000
    before = pyarrow.total_allocated_bytes()
    allocated = [pyarrow.total_allocated_bytes() - before for _ in islice(raw_records(tmp_path / "t.parquet"), 300)]
    assert max(allocated) < 300_000_000


@pytest.mark.parametrize("name", ["runs.jsonl.gz", "RUNS.JSONL.ZST"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_file_gives_the_runs_before_the_damage_and_says_so(tmp_path: Path, name: str, damage: str) -> None:
    chance = random.Random(0)
    rows = [run("t", chance.randbytes(1500).hex()) for _ in range(300)]
    data = lines_of(rows).encode()
    checked = zstandard.ZstdCompressor(write_checksum=True)
    packed = gzip.compress(data) if name.endswith("gz") else checked.compress(data)
    cut = packed[: len(packed) // 2]
    path = tmp_path / name
    path.write_bytes(cut if damage == "cut" else cut + b"\x00\xff" * 40 + packed[len(cut) + 80 :])
    report = imported(path, tmp_path / "s.jsonl")
    assert 0 < report.added < 300
    assert any("damaged or cut off here" in left.reason for left in report.left_out)


@pytest.mark.parametrize("name", ["runs.zip", "zstd.zip", "runs.tar", "runs.tar.gz", "runs.parquet", "runs.arrow"])
def test_a_container_cut_anywhere_is_one_sentence(tmp_path: Path, name: str) -> None:
    WAYS[name](tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    for cut in range(1, len(data) - 1, max(1, len(data) // 40)):
        path = tmp_path / f"{cut}{name}"
        path.write_bytes(data[:cut])
        try:
            report = import_files(path, tmp_path / f"{cut}.store")
        except DataError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert report.added == 4 or report.left_out_count


def test_bytes_changed_anywhere_in_a_zip_change_no_run(tmp_path: Path) -> None:
    """Checksums: what is read is what was written, or it is left out."""
    for name in ("runs.zip", "zstd.zip"):
        WAYS[name](tmp_path / name)
        data = bytearray((tmp_path / name).read_bytes())
        for place in range(0, len(data), 11):
            changed = bytearray(data)
            changed[place] ^= 0x5A
            (tmp_path / "c.zip").write_bytes(changed)
            store = tmp_path / f"{name}{place}.store"
            try:
                import_files(tmp_path / "c.zip", store)
            except DataError:
                continue
            assert not store.exists() or set(told(store)) <= {(f"t{i}", f"Ærø {i}", i / 4) for i in range(4)}


def test_nothing_is_unpacked_outside_the_folder(tmp_path: Path) -> None:
    inside, bad = {"ok/a.jsonl": LINES}, ("../a.jsonl", "/tmp/a.jsonl", "x/../../a.jsonl", "..\\a.jsonl", "C:/a.jsonl")
    zipped(tmp_path / "z.zip", {**dict.fromkeys(bad, LINES), **inside})
    tarred(tmp_path / "t.tar", {**dict.fromkeys(bad, LINES), **inside})
    with tarfile.open(tmp_path / "t.tar", "a") as archive:
        for name, kind in (("l.jsonl", tarfile.SYMTYPE), ("h.jsonl", tarfile.LNKTYPE), ("p.jsonl", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    link = zipfile.ZipInfo("l.jsonl")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "z.zip", "a") as archive:
        archive.writestr(link, "/etc/passwd")
    for number, name in enumerate(("z.zip", "t.tar")):
        into = tmp_path / str(number) / "deep" / "into"
        into.mkdir(parents=True)
        members = list(archives.unpack(tmp_path / name, into))
        assert [m.name for m in members if m.path] == ["ok/a.jsonl"]
        problems = {m.problem for m in members if not m.path}
        assert problems == {"its path leads out of the archive", "is a link or a device"}
        assert [p.relative_to(tmp_path / str(number)) for p in (tmp_path / str(number)).rglob("*") if p.is_file()] == [
            Path("deep/into/ok/a.jsonl")
        ]
        report = imported(tmp_path / name, tmp_path / f"{name}.store")
        assert (report.added, report.left_out_count) == (4, len(members) - 1)


def test_archives_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"{i}.json": json.dumps(run("t", str(i))).encode() for i in range(6)}
    zipped(tmp_path / "a.zip", files)
    tarred(tmp_path / "a.tar.gz", files, "w:gz")
    for name in ("a.zip", "a.tar.gz"):
        with patch.object(archives, "MOST_MEMBERS", 4):
            report = import_files(tmp_path / name, tmp_path / f"{name}1")
            assert (report.added, report.left_out[0].reason[:30]) == (4, "more than 4 files in one archi")
        with patch.object(archives, "LARGEST_MEMBER", 50):
            report = import_files(tmp_path / name, tmp_path / f"{name}2")
            assert (report.added, report.left_out_count) == (0, 6)
        with patch.object(archives, "LARGEST_ARCHIVE", 3 * len(files["0.json"]) + 5):
            report = import_files(tmp_path / name, tmp_path / f"{name}3")
            assert (report.added, report.left_out_count) == (3, 3)
        assert "which is too much; unpack it yourself" in report.left_out[0].reason


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb = tmp_path / "b.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("b.json", "w") as member:
        for _ in range(64):
            member.write(b"0" * (1 << 20))
    with patch.object(archives, "LARGEST_MEMBER", 1 << 20):
        report = import_files(bomb, tmp_path / "s.jsonl")
    assert report.left_out[0].reason == "unpacks to 64 MiB, which is too much; unpack it yourself"
    line = tmp_path / "line.jsonl.gz"
    line.write_bytes(gzip.compress(b'{"messages": "' + b"0" * (1 << 22)))
    with patch.object(records, "LONGEST", 1 << 20):
        assert "longer than" in str([raw.problem for raw in raw_records(line)])


def test_files_of_one_path_in_an_archive(tmp_path: Path) -> None:
    tarred(tmp_path / "a.tar", {"a.jsonl": LINES})
    with tarfile.open(tmp_path / "a.tar", "a") as archive:
        for name in ("a.jsonl", "a.jsonl/b.jsonl"):
            info = tarfile.TarInfo(name)
            archive.addfile(info, io.BytesIO())
    report = imported(tmp_path / "a.tar", tmp_path / "s.jsonl")
    assert report.added == 4
    assert [left.reason for left in report.left_out] == ["another file of the archive is in its place"] * 2


def test_files_in_archives_are_named_by_their_place(tmp_path: Path) -> None:
    zipped(tmp_path / "z.zip", {"d/a.jsonl": LINES + b"bad\n", "d/readme.md": b"", "x.json": b'{"model": 1}'})
    report = imported(tmp_path / "z.zip", tmp_path / "s.jsonl")
    assert [(left.file, left.line) for left in report.left_out] == [
        (tmp_path / "z.zip/x.json", 1),
        (tmp_path / "z.zip/d/a.jsonl", 5),
    ]
    assert report.others == {".md": 1}
    source = str(next(iter(TrajectoryStore(tmp_path / "s.jsonl"))).metadata["source"])
    assert source.startswith("a.jsonl#")
    (tmp_path / "again").mkdir()
    zipped(tmp_path / "z.zip", {"d/a.jsonl": LINES + lines_of([run("new")]).encode()}, zipfile.ZIP_STORED)
    report = import_files(tmp_path / "z.zip", tmp_path / "s.jsonl")
    assert (report.added, report.skipped) == (1, 4)


def test_a_missing_package_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, name in (("pyarrow", "runs.parquet"), ("zstandard", "RUNS.JSONL.ZST"), ("zstandard", "zstd.zip")):
        WAYS[name](tmp_path / name)
        with monkeypatch.context() as without:
            without.setitem(sys.modules, package, None)
            with pytest.raises(DataError, match=rf"{name}: reading it needs {package}: pip install 'trajtree\[logs\]'"):
                import_files(tmp_path / name, tmp_path / "s.jsonl")


def sample(number: int) -> bytes:
    return json.dumps({"id": "s1", "epoch": number, "messages": []}).encode()


@pytest.mark.parametrize("pack", [zipped, zstd_zipped])
def test_an_inspect_log_has_a_record_per_sample(tmp_path: Path, pack: Callable[..., None]) -> None:
    header = {"header.json": b'{"eval": {"model": "m"}}', "_journal/start.json": b"{}", "summaries.json": b"[]"}
    samples = {f"samples/s1_epoch_{i}.json": sample(i) for i in (1, 2)}
    pack(tmp_path / "log.eval", {**samples, **header})
    assert [decode(raw) for raw in raw_records(tmp_path / "log.eval")] == [
        {"header": {"eval": {"model": "m"}}, "sample": json.loads(sample(i))} for i in (1, 2)
    ]
    pack(tmp_path / "log.eval", {**samples, "_journal/start.json": b'{"eval": 1}'})
    assert decode(next(raw_records(tmp_path / "log.eval")))["header"] == {"eval": 1}
    pack(tmp_path / "log.eval", samples)
    with pytest.raises(DataError, match=r"not an inspect log \(it has no header\.json\)"):
        list(raw_records(tmp_path / "log.eval"))


def test_a_sample_whose_checksum_is_wrong_is_not_read(tmp_path: Path) -> None:
    zstd_zipped(tmp_path / "log.eval", {"header.json": b"{}", "samples/1.json": sample(1)}, crc=1)
    with pytest.raises(DataError, match="damaged or cut off"):
        list(raw_records(tmp_path / "log.eval"))


def finds(tmp_path: Path, *paths: Path) -> Finds:
    return find(paths, lambda: tmp_path)


def test_a_folder_stands_for_its_logs(tmp_path: Path) -> None:
    for name in ("b/two.jsonl", "a.json", "b/notes.txt", "b/c/three.NDJSON", "b/c/x.log.gz", "b/Makefile", "b/u.PNG"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    one = tmp_path / "b" / "two.jsonl"
    found = finds(tmp_path, one, tmp_path, one)
    expected = [(one, True), (tmp_path / "a.json", False), (tmp_path / "b/c/three.NDJSON", False)]
    assert found.files == [Found(path, path, named) for path, named in expected]
    assert found.others == {".txt": 1, ".log.gz": 1, "without suffix": 1, ".png": 1}
    with pytest.raises(DataError, match="no such file"):
        finds(tmp_path, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no log in this folder; logs end in \.json"):
        finds(tmp_path, tmp_path / "empty")
    (tmp_path / "empty" / "a.txt").touch()
    with pytest.raises(DataError, match=r"no log in this folder \(but 1 \.txt\)"):
        finds(tmp_path, tmp_path / "empty")


def test_links_are_followed_and_end(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.jsonl").write_bytes(LINES)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "far")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "broken.json").symlink_to(tmp_path / "nowhere")
    report = imported(tmp_path / "in", tmp_path / "s.jsonl")
    assert (report.added, report.others) == (4, {"broken link": 1})
