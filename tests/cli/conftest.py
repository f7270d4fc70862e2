"""Files that the commands start from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.commands import done, shop_run, ticket_run


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    shop = tmp_path / "shop.json"
    runs = [(["red lamp"], "lamp A", 1.0), (["red lamp"], "lamp B", 0.25), (["lamp"], "lamp B", 0.5)]
    shop.write_text(json.dumps([shop_run(*run) for run in runs], indent=1))
    tickets = tmp_path / "tickets"
    tickets.mkdir()
    for number, (tool, score) in enumerate([("restart", 1.0), ("replace", 0.0)]):
        (tickets / f"{number}.json").write_text(json.dumps(ticket_run(f"t{number}", tool, score), indent=1))
    return [str(shop), str(tickets)]


@pytest.fixture
def trees(tmp_path: Path, files: list[str]) -> Path:
    done("import", *files, "--out", tmp_path / "runs.jsonl")
    done("build", tmp_path / "runs.jsonl", "--out", tmp_path / "trees.jsonl")
    return tmp_path / "trees.jsonl"
