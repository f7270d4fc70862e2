"""The commands that are killed, starved and lied to; each with its inputs and with what it must end with."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from tests.cli.commands import shop_run, ticket_run
from tests.experiment.test_pipeline import recipe_of
from tests.soak.commands import contents, run
from tests.tiny import save_model, toy_words

Files = dict[str, str]


@dataclass
class Workload:
    """A command.

    Attributes:
        command: its arguments; {here} is the folder of its inputs, {base} that of model and recipe.
        patterns: of the files that count, of which nothing may differ from an unbroken run's.
        needs: the workload whose folder it starts from.
    """

    command: str
    patterns: tuple[str, ...]
    needs: str | None = None
    base: Path | None = None
    start: Path | None = None
    whole: Path | None = None
    seconds: float = 0.0
    expected: Files = field(default_factory=dict)

    def words(self, folder: Path) -> list[str]:
        """The command's arguments for a folder that holds the inputs."""
        return [word.format(here=folder, base=self.base) for word in self.command.split()]

    def results(self, folder: Path) -> list[Path]:
        """The files that count in a folder; what a kill left half-written, and stages' markers with times, do not."""
        found = (path for pattern in self.patterns for path in folder.glob(pattern) if path.is_file())
        return [path for path in found if path.name != "stage.json" and not path.name.startswith(".")]

    def fresh(self, folder: Path) -> list[str]:
        """Fill a folder with the inputs; the command's arguments for it."""
        assert self.start is not None
        shutil.copytree(self.start, folder)
        return self.words(folder)

    def found(self, folder: Path) -> Files:
        """What is there of its results."""
        return contents(self.results(folder), folder)


_TRAIN = "--pack-tokens 3000 --accumulate 1 --epochs 24 --dtype float32 --merge"

WORKLOADS: dict[str, Workload] = {
    "import": Workload(
        "import {base}/inputs/shop.jsonl {base}/inputs/tickets --out {here}/runs.jsonl", ("runs.jsonl",)
    ),
    "build": Workload("build {here}/runs.jsonl --out {here}/trees.jsonl", ("trees.jsonl",), "import"),
    "pairs": Workload("pairs {here}/trees.jsonl --out {here}/pairs.jsonl", ("pairs.jsonl",), "build"),
    "paths": Workload("paths {here}/trees.jsonl --search mcts --out {here}/paths.jsonl", ("paths.jsonl",), "build"),
    "few-runs": Workload("import {base}/inputs/few-shop.jsonl --out {here}/few-runs.jsonl", ("few-runs.jsonl",)),
    "few": Workload("build {here}/few-runs.jsonl --out {here}/few.jsonl", ("few.jsonl",), "few-runs"),
    "train": Workload(
        f"train {{here}}/few.jsonl --model {{base}}/model --out {{here}}/tuned {_TRAIN}",
        ("tuned/model/*.safetensors", "tuned/merged/*.safetensors"),
        "few",
    ),
    "run": Workload("run {base}/toy.yaml --run {here}/run", ("run/[!r]*/*/**/*", "run/reports/*/recipe.yaml")),
}
"""By name."""


def prepare(base: Path) -> None:
    """Write the inputs of everything into a folder."""
    save_model(base / "model", toy_words(), hidden_size=64)
    inputs = base / "inputs"
    (inputs / "tickets").mkdir(parents=True)
    for name, count in (("shop.jsonl", 6000), ("few-shop.jsonl", 16)):
        rows = (shop_run([f"lamp {n % 11}", f"lamp {n}"], f"lamp {n % 7}", n % 5 / 4) for n in range(count))
        (inputs / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    for number in range(8):
        ticket = ticket_run(f"t{number}", ("restart", "replace", "look", "wait")[number % 4], number % 3 / 2)
        (inputs / "tickets" / f"{number}.json").write_text(json.dumps(ticket))
    recipe = recipe_of(base / "model")
    recipe["weak"]["epochs"] = 8
    recipe["sft"]["epochs"] = 4
    recipe["tasks"]["test"] = 4
    recipe |= {
        "paths": {"min_score": 0.0},
        "explore": {"rollouts": 3, "grid": [{"temperature": 1.2}]},
        "evaluate": {"rows": ["weak", "w2sg_exact"], "primary": "w2sg_exact", "ceiling": "w2sg_exact"},
    }
    (base / "toy.yaml").write_text(yaml.safe_dump(recipe))


def unbroken(name: str, base: Path) -> Workload:
    """A workload with what it ends with when nothing happens to it, which is found out once."""
    workload = WORKLOADS[name]
    if workload.whole is None:
        before = unbroken(workload.needs, base) if workload.needs else None
        workload.base = base
        workload.start = before.whole if before else base / "inputs"
        folder = base / f"whole-{name}"
        words, began = workload.fresh(folder), time.monotonic()
        run(words).check(0)
        workload.seconds = time.monotonic() - began
        workload.whole, workload.expected = folder, workload.found(folder)
        assert workload.expected, f"{name} leaves nothing"
    return workload


__all__ = ["WORKLOADS", "Workload", "prepare", "unbroken"]
