"""The scripts in examples/ run, from a folder of their own."""

import runpy
from pathlib import Path

import pytest
from tests.tiny import characters, save_model

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_an_example_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = []
    if path.stem == "own_training_loop":
        pytest.importorskip("torch")
        arguments = [str(save_model(tmp_path / "model", characters()))]
    if path.stem == "read_results":
        arguments = [str(ROOT / "benchmarks" / "results" / "demo-demonstrated-seed0.json")]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [path.name, *arguments])
    runpy.run_path(str(path), run_name="__main__")
    assert "pair" in capsys.readouterr().out or path.stem == "read_results"
