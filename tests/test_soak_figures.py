"""The table of the long soak in docs/files.md is that of the stored figures."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LEGS: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / "soak.json").read_text())["legs"]


def grown(figures: dict[str, Any]) -> str:
    by = figures["growth after the first tenth"]
    return f"{100 * max(by[kind] for kind in by if kind != 'Java'):.1f} %"


def test_the_table_has_the_stored_figures() -> None:
    lines = (ROOT / "docs" / "files.md").read_text().splitlines()
    for name, leg in LEGS.items():
        calm, struck = leg["undisturbed"], leg["among blows"]
        figures = [f"{leg['episodes']:,}", str(sum(struck["blows"].values())), grown(calm), grown(struck)]
        found = [line.split(" | ") for line in lines if line.startswith(f"| {name} |")]
        assert [[cell.strip(" |") for cell in row[2:]] for row in found] == [figures], name


def test_every_command_ended_as_what_happened_to_it_says() -> None:
    ends = {"command killed": "-9", "command killed, its last write torn": "-9", "disk full": "1"}
    ends |= {"command got SIGINT": "130", "command got SIGTERM": "143"}
    for name, leg in LEGS.items():
        struck = leg["among blows"]
        expected: Counter[str] = Counter()
        for blow, times in struck["blows"].items():
            if blow in ends:
                expected[ends[blow]] += times
        found = Counter(struck["exit statuses"]) - expected
        assert set(found) <= {"0", "1"}, name
