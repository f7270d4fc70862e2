"""Every name that a benchmark takes from trajtree is there, and the stored results of runs are whole."""

from __future__ import annotations

import ast
import importlib
import json
from pathlib import Path

import pytest

from trajtree.report import read_results_json, verdict

pytest.importorskip("torch")
BENCHMARKS = sorted((Path(__file__).parent.parent / "benchmarks").glob("*.py"))
RUNS = sorted((Path(__file__).parent.parent / "benchmarks" / "results").glob("*.json"))
RUNS = [path for path in RUNS if '"format": "trajtree.results"' in path.read_text()[:200]]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_stored_results_know_their_situations_and_say_what_follows(path: Path) -> None:
    data = read_results_json(path)
    assert data.results.by_situation
    assert json.loads(path.read_text())["verdict"] == verdict(data)


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_imports(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trajtree"):
            module = importlib.import_module(str(node.module))
            for name in node.names:
                assert hasattr(module, name.name) or importlib.import_module(f"{node.module}.{name.name}")
