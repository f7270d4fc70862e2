"""Stand-ins for the packages of experiment trackers, which write down what they are told."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from trajtree.explore import trackers

WRITES = """
import json, os
def write(*what):
    with open(os.environ["TOLD"], "a") as file:
        file.write(json.dumps(what) + "\\n")
"""
FAKES = {
    "tensorboardX": """
class SummaryWriter:
    def __init__(self, log_dir): write("open", log_dir)
    def add_scalar(self, name, value, step): write("log", {name: value}, step)
    def add_text(self, *text): pass
    def flush(self): pass
    def close(self): write("close")
""",
    "wandb": """
class Run:
    def log(self, figures, step): write("log", figures, step)
    def finish(self): write("close")
def init(project, name):
    write("open", project, name)
    return Run()
""",
    "trackio": """
def init(project, name): write("open", project, name)
def log(figures, step): write("log", figures, step)
def finish(): write("close")
""",
    "mlflow": """
def set_experiment(name): write("experiment", name)
def start_run(run_name): write("open", run_name)
def log_metrics(figures, step): write("log", figures, step)
def end_run(): write("close")
""",
}
"""What each package has of what is used."""

Log = Callable[[], list[list[object]]]


def fake_trackers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    """Put them in place of the packages; TensorBoard's own one is not there. Returns what they were told."""
    for name, source in FAKES.items():
        (folder / f"{name}.py").write_text(WRITES + textwrap.dedent(source))
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    file = folder / "told.jsonl"
    monkeypatch.setenv("TOLD", str(file))
    for variable in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.setenv(variable, "kept")  # so that it is put back
        monkeypatch.delenv(variable)
    monkeypatch.setattr(trackers, "_SECONDS", 0.0)
    return lambda: list(map(json.loads, file.read_text().splitlines())) if file.exists() else []
