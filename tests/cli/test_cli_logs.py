"""Importing by command: what is added, what is left out, what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.cli.commands import done, shop_run

from trajtree.cli.main import main


def test_the_same_import_again_adds_nothing(tmp_path: Path, files: list[str]) -> None:
    store = tmp_path / "runs.jsonl"
    done("import", *files, "--out", store)
    before = store.read_bytes()
    assert "0 runs added" in done("import", *files, "--out", store)
    assert store.read_bytes() == before


def test_a_file_that_was_changed_is_refused(
    tmp_path: Path, files: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, shop = tmp_path / "runs.jsonl", Path(files[0])
    done("import", shop, "--out", store)
    before = store.read_bytes()
    shop.write_text(shop.read_text().replace("0.5", "0.75"))
    monkeypatch.setattr(sys, "argv", ["trajtree", "import", str(shop), "--out", str(store)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    assert f"trajtree: {shop}, line " in (told := capsys.readouterr().err)
    assert "row 3 is not the one that was imported" in told
    assert store.read_bytes() == before


def test_rows_left_out_are_named(tmp_path: Path, files: list[str]) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(
        json.dumps(shop_run(["x"], "y", 0.5)) + "\n" + json.dumps(shop_run(["x"], "z", 7.0)) + "\nnonsense\n"
    )
    output = done("import", bad, "--out", tmp_path / "runs.jsonl")
    assert "1 runs added" in output
    assert "bad.jsonl, line 2: " in output
    assert "bad.jsonl, line 3: " in output
    assert "--score-range" in output


def test_rows_left_out_for_one_reason_are_told_together(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps([shop_run(["x"], "y", 0.5), *[shop_run(["x"], "y", 7.0)] * 12]))
    output = done("import", bad, "--out", tmp_path / "runs.jsonl")
    (told,) = [line for line in output.splitlines() if line.startswith("left out")]
    assert "bad.json, line 1 (row 2), line 1 (row 3)" in told
    assert "and 2 more: " in told
