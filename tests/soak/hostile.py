"""Inputs and environments that mean harm, tried within this process: they are many."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.cli.commands import shop_run, ticket_run
from tests.soak.commands import Violation
from tests.toy import TASKS, Toy

from trajtree.cli import main as command_line
from trajtree.errors import EnvError
from trajtree.explore.rollout import rollout
from trajtree.explore.strategies import independent
from trajtree.policies.base import Reply
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Message, Sampling, Tokens

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


# --- environments ---

_RAISED = (
    RuntimeError("x"),
    ValueError(),
    KeyError("k"),
    SystemExit(0),
    GeneratorExit(),
    StopIteration(),
    MemoryError(),
)
_ANSWERS = (None, (), ("a", 0.0, True), ("a", "b", False, False), (1, 0.0, False, False), ("a", 0.0, None, 0))
_REWARDS = (float("nan"), float("inf"), -float("inf"), 1e300, -7.0, 2.0, None, "1")


class Bad(Toy):
    """The toy, which breaks now and then: it raises, answers with nonsense, or gives rewards that are none."""

    def __init__(self, random: Random, share: float) -> None:
        super().__init__()
        self.random, self.share = random, share

    def step(self, action: str) -> Any:
        result = super().step(action)
        if self.random.random() >= self.share:
            return result
        kind = self.random.randrange(3)
        if kind == 0:
            raise self.random.choice(_RAISED)
        if kind == 1:
            return self.random.choice(_ANSWERS)
        return result._replace(reward=self.random.choice(_REWARDS))


@dataclass
class Talk:
    """A conversation of a policy that draws its actions from a hat."""

    messages: list[Message]
    random: Random
    made: list[Tokens] = field(default_factory=list)

    def tokens(self) -> tuple[Tokens, ...]:
        return ()


class Hat:
    """A policy without a model."""

    name = "hat"

    def start(self, system: str, sampling: Sampling, seed: tuple[int, ...]) -> Talk:
        return Talk([Message("system", system)], Random(str(seed)))

    def reply(self, conversations: Sequence[Talk]) -> list[Reply]:
        replies = []
        for talk in conversations:
            said = talk.random.choice(("take red key", "take blue key", "open red door", "open blue door", "look"))
            talk.messages.append(Message("assistant", said))
            replies.append(Reply(said))
        return replies


def bad_environment(folder: Path, random: Random) -> int:
    """Play in an environment that breaks; the number of episodes that were lost to it.

    Raises:
        Violation: an episode that was not lost is not what a sound environment gives, or the store is not readable.
    """

    def episodes() -> Any:
        return independent(TASKS[:6], 3, [Sampling(1.0)])

    share = random.choice((0.02, 0.1, 0.5))
    sound, store = (TrajectoryStore(folder / f"{name}.jsonl") for name in ("sound", "bad"))
    rollout(episodes(), Hat(), Toy, sound, seed=7, batch=4)
    with contextlib.suppress(EnvError):
        rollout(episodes(), Hat(), lambda: Bad(Random(random.random()), share), store, seed=7, batch=4)
    rollout(episodes(), Hat(), Toy, store, seed=7, batch=4)
    expected, lost = {t.key: t for t in sound}, 0
    found = list(store)
    if sorted(t.key for t in found) != sorted(expected):
        raise Violation(f"an environment that breaks left {len(found)} of {len(expected)} episodes")
    for t in found:
        lost += t.outcome.is_fault
        if not t.outcome.is_fault and t != expected[t.key]:
            raise Violation(f"{t.key}: not what a sound environment gives")
    return lost


__all__ = ["READERS", "bad_environment", "called", "mutated", "valid_inputs"]
