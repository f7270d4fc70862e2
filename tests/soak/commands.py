"""Running trajtree as a process, and judging how it ended."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 600
_LIMITED = """
import resource, runpy, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.argv = ["trajtree", *sys.argv[2:]]
runpy.run_module("trajtree", run_name="__main__")
"""


class Violation(Exception):
    """What must never happen."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: exit status and what it said."""

    words: tuple[str, ...]
    status: int
    out: str
    err: str

    @property
    def sentence(self) -> str | None:
        """The one sentence of a refusal; None for anything else."""
        lines = [line for line in self.err.strip().splitlines() if not line.startswith("[transformers]")]
        return lines[-1] if self.status == 1 and lines and lines[-1].startswith("trajtree: ") else None

    def check(self, *statuses: int) -> Ended:
        """Itself, when it ended in order.

        Raises:
            Violation: a traceback, an error without its sentence, or a status that is not one of `statuses`.
        """
        if "Traceback" in self.err or (self.status == 1 and self.sentence is None) or self.status not in statuses:
            raise Violation(f"{' '.join(self.words)} ended with {self.status}:\n{self.out[-500:]}\n{self.err[-3000:]}")
        return self


def environment() -> dict[str, str]:
    """Variables of every process."""
    paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **quiet, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def start(
    words: Sequence[str],
    *,
    largest_file: int | None = None,
    module: str = "trajtree",
    variables: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.Popen[str]:
    """Start a command; where `largest_file` is given, files cannot grow beyond so many bytes."""
    limited = ["-c", _LIMITED, str(largest_file)] if largest_file is not None else ["-m", module]
    return subprocess.Popen(
        [sys.executable, *limited, *words],
        env={**environment(), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_attentive,
    )


def end(process: subprocess.Popen[str], words: Sequence[str], seconds: float = SECONDS) -> Ended:
    """Wait for a command."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Violation(f"{' '.join(words)} hung for {seconds:.0f} s") from None
    return Ended(tuple(words), process.returncode, out, err)


def run(words: Sequence[str], *, largest_file: int | None = None) -> Ended:
    """Run a command to its end."""
    return end(start(words, largest_file=largest_file), words)


def listens(process: subprocess.Popen[str]) -> bool:
    """Wait until the command has set up what it does on SIGTERM; False where it ended before."""
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            return False
        (caught,) = [int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:")]
        if caught >> (signal.SIGTERM - 1) & 1:
            return True
        time.sleep(0.01)
    return False


def contents(files: Iterable[Path], below: Path) -> dict[str, str]:
    """Hash of each file by its path below a folder."""
    return {str(path.relative_to(below)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def _attentive() -> None:
    """Whoever starts the soak in the background has its children ignore Control-C, and it is to be heard."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
