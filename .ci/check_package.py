"""Install the wheel in dist/, without the source: the core alone, on every Python that is here.

In fresh environments, with the newest and with the lowest dependencies that its bounds allow, the package is imported
without torch, help lists all commands and options, and runs become trees, pairs and a page. Run by make package; a
Python that is not here is named.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
UV = Path(sys.executable).with_name("uv")
LOOK = """
import sys, trajtree
assert "torch" not in sys.modules
print(sys.version.split()[0], trajtree.__version__, trajtree.__file__)
"""


def run(*command: object, cwd: Path) -> str:
    """Run a command; what it wrote is shown if it fails."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def check(version: str, resolution: str, wheel: Path) -> None:
    """Install the core for one Python, with the newest or the lowest versions that its bounds allow, and use it."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        run(UV, "venv", "--quiet", "--no-python-downloads", "--python", version, "env", cwd=here)
        python = here / "env" / "bin" / "python"
        run(UV, "pip", "install", "--quiet", "--resolution", resolution, "--python", python, wheel, cwd=here)
        said = run(python, "-c", LOOK, cwd=here)
        assert str(here) in said, said
        assert "demo" in run(python.with_name("trajtree"), "--help", cwd=here)
        assert "--policy" in run(python, "-m", "trajtree.cli.reference", cwd=here)
        run(python.with_name("trajtree"), "demo", "--out", "look", cwd=here)
        assert (here / "look" / "trees.html").stat().st_size > 10_000
        print(f"{resolution} dependencies: {said}", end="", flush=True)


def main() -> None:
    """Check every Python that is here."""
    os.environ.pop("PYTHONPATH", None)  # the source may be on it
    if shutil.which("pyenv"):  # its commands for other versions work only if these are named
        os.environ["PYENV_VERSION"] = run("pyenv", "versions", "--bare", cwd=ROOT).replace("\n", ":").rstrip(":")
    (wheel,) = (ROOT / "dist").glob("*.whl")
    found = 0
    for version in PYTHONS:
        there = subprocess.run([str(UV), "python", "find", "--no-python-downloads", version], capture_output=True)
        if there.returncode:
            print(f"skipped: Python {version} is not on this machine", flush=True)
            continue
        for resolution in ("highest", "lowest-direct"):
            check(version, resolution, wheel)
        found += 1
    if not found:
        raise SystemExit("no Python to check with")


if __name__ == "__main__":
    main()
