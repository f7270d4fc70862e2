"""Inputs that mean harm, tried within this process: they are many."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from tests.cli.commands import shop_run, ticket_run
from tests.soak.commands import Violation

from trajtree.cli import main as command_line

_SPLICES = (
    b"null",
    b"NaN",
    b"1e999",
    b'"',
    b"{",
    b"]",
    b"\\ud800",
    b"\x00",
    b"\xff",
    b"-1",
    b"[" * 3000,
    b"9" * 30,
    b"\x1b[2J",
)


def mutated(data: bytes, random: Random) -> bytes:
    """The bytes with a few changes: flipped, cut out, doubled, spliced in, or cut off."""
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(data) + 1)
        until = min(len(data), at + random.choice((1, 1, 8, 200)))
        kind = random.randrange(5)
        if kind == 0 and data[at:until]:
            data = data[:at] + bytes(byte ^ random.randrange(256) for byte in data[at:until]) + data[until:]
        elif kind == 1:
            data = data[:at] + data[until:]
        elif kind == 2:
            data = data[:until] + data[at:]
        elif kind == 3:
            data = data[:at] + random.choice(_SPLICES) + data[until:]
        elif random.random() < 0.2:
            data = data[:at]
    return data


READERS: dict[str, Callable[[Path, Path], list[str]]] = {
    "log.jsonl": lambda file, out: ["import", str(file), "--out", str(out / "store")],
    "log.json": lambda file, out: ["import", str(file), "--out", str(out / "store")],
    "runs.jsonl": lambda file, out: ["build", str(file), "--out", str(out / "trees")],
    "trees.jsonl": lambda file, out: ["pairs", str(file), "--out", str(out / "pairs")],
    "trees2.jsonl": lambda file, out: ["paths", str(file), "--out", str(out / "paths")],
    "trees3.jsonl": lambda file, out: ["show", str(file), "--html", str(out / "page.html")],
    "old-runs.jsonl": lambda file, out: ["upgrade", str(file)],
    "old-trees.jsonl": lambda file, out: ["upgrade", str(file)],
    "toy.yaml": lambda file, out: ["stage", "tasks", str(file), "--run", str(out / "run")],
}
"""A file that a command reads, by its name among the inputs."""


def valid_inputs(base: Path, folder: Path) -> dict[str, bytes]:
    """A valid file for every reader: few rows, so that a change falls somewhere that matters."""
    golden = Path(__file__).parents[1] / "golden" / "version1"
    runs, trees = base / "whole-few-runs" / "few-runs.jsonl", base / "whole-few" / "few.jsonl"
    shop = [shop_run(["red lamp"], f"lamp {n % 2}", n / 4) for n in range(4)]
    return {
        "log.jsonl": "".join(json.dumps(row) + "\n" for row in shop).encode(),
        "log.json": json.dumps(ticket_run("t1", "restart", 0.5)).encode(),
        "runs.jsonl": runs.read_bytes(),
        **dict.fromkeys(("trees.jsonl", "trees2.jsonl", "trees3.jsonl"), trees.read_bytes()),
        "old-runs.jsonl": _smallest(golden, "traj").read_bytes(),
        "old-trees.jsonl": _smallest(golden, "tree").read_bytes(),
        "toy.yaml": (base / "toy.yaml").read_bytes(),
    }


def _smallest(folder: Path, part: str) -> Path:
    return min((path for path in folder.iterdir() if part in path.name), key=lambda path: path.stat().st_size)


def called(words: Sequence[str]) -> int:
    """A command's exit status, run within this process.

    Raises:
        Violation: it let an exception out, or failed without a sentence.
    """
    said, before = io.StringIO(), sys.argv
    sys.argv = ["trajtree", *words]
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            command_line.main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - whatever escapes is a violation
        raise Violation(f"{' '.join(words)}:\n{traceback.format_exc()[-3000:]}") from None
    else:
        status = 0
    finally:
        sys.argv = before
    lines = said.getvalue().strip().splitlines()
    if status not in (0, 2) and not (len(lines) == 1 and lines[0].startswith("trajtree: ")):
        raise Violation(f"{' '.join(words)} ended with {status}, saying {said.getvalue()[-1000:]!r}")
    return status


__all__ = ["READERS", "called", "mutated", "valid_inputs"]
