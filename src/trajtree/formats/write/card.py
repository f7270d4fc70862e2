"""A card for a data set that is to be shared: counts, where its runs come from, how it was made, its licence.

Source: the Hugging Face hub's "Dataset Cards": a README whose YAML header has `license`, `configs`, `size_categories`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from trajtree.errors import RunError
from trajtree.trajectory import Trajectory

MARK = "<!-- written by trajtree -->"
"""The line that marks a card as one that may be overwritten."""
UNKNOWN = "unknown"
"""The hub's word for a licence that nobody has named."""

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


def file_of(run: Trajectory) -> str | None:
    """The name of the file that a run was imported from; its source also holds hashes, after the last #."""
    source = run.metadata.get("source")
    return source.rpartition("#")[0] or source if isinstance(source, str) else None


class Provenance:
    """Where the runs behind a data set come from, counted run by run."""

    def __init__(self) -> None:
        self.tasks: set[str] = set()
        self.runs = 0
        self._policies: Counter[str] = Counter()
        self._formats: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._score = 0.0
        self._scored = 0

    def add(self, runs: Iterable[Trajectory]) -> None:
        """Count runs, each of which is given once."""
        for run in runs:
            self.runs += 1
            self.tasks.add(run.task)
            self._policies[run.policy] += 1
            self._formats[run.env] += 1
            if not run.unscored:
                self._score += run.score
                self._scored += 1
            if (file := file_of(run)) is not None:
                self._sources[file] += 1

    def lines(self) -> Mapping[str, str]:
        """The figures, by what they are."""
        found = {
            "tasks": f"{len(self.tasks):,}",
            "runs": f"{self.runs:,}",
            "mean score of the runs": f"{self._score / self._scored:.3f}" if self._scored else "",
            "models": _most(self._policies),
            "environments or log formats": _most(self._formats),
            "files": _most(self._sources),
        }
        return {name: value for name, value in found.items() if value}


def card(
    data: Path, card: Path, rows: int, provenance: Provenance, *, made: Mapping[str, object], license: str = UNKNOWN
) -> str:
    """The card of a file, as Markdown with the hub's header.

    Args:
        data: the file of rows.
        card: where the card will be; the header names the file relative to it.
        rows: how many rows there are.
        provenance: the runs behind them.
        made: what they are, and the options that made them.
        license: the hub's name of a licence.
    """
    from importlib.metadata import version  # imported here because few commands write a card

    import yaml

    size = next((name for most, name in _SIZES if rows < most), "n>10M")
    header = {
        "license": license,
        "pretty_name": data.stem,
        "task_categories": ["text-generation"],
        "tags": ["agent", "trajectory", "trajtree"],
        "size_categories": [size],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": Path(os.path.relpath(data, card.parent)).as_posix()}],
            }
        ],
    }
    facts = {"rows": f"{rows:,}", **provenance.lines(), **{name: str(value) for name, value in made.items()}}
    facts |= {"made with": f"trajtree {version('trajtree')}", "licence": license}
    table = "".join(f"| {_cell(name)} | {_cell(value)} |\n" for name, value in facts.items())
    unnamed = (
        "" if license != UNKNOWN else "\nNobody has named a licence for these data; do so before you share them.\n"
    )
    yaml_text = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    return f"---\n{yaml_text}---\n{MARK}\n\n# {data.stem}\n\n| | |\n|---|---|\n{table}{unnamed}"


def check_card(path: Path) -> None:
    """Refuse to write a card in the place of something else. Raises RunError."""
    if path.is_file() and MARK not in path.read_text(encoding="utf-8", errors="replace"):
        raise RunError(f"cannot write {path}: it is not a card written by trajtree; remove it or name another file")


def _most(counts: Counter[str], shown: int = 20) -> str:
    named = ", ".join(f"{name} ({count:,})" for name, count in counts.most_common(shown))
    return named + (f" and {len(counts) - shown:,} more" if len(counts) > shown else "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


__all__ = ["MARK", "UNKNOWN", "Provenance", "card", "check_card", "file_of"]
