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


def test_the_notebook_runs(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(ROOT / "examples" / "tour.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear the outputs before you commit"
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("text/html" in output.get("data", {}) for output in shown)
