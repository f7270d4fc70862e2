"""How logs are read: the options of every command that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from trajtree.cli.options.choices import described, option_of
from trajtree.formats.importing import ImportReport, import_files
from trajtree.formats.read.detect import FORMATS
from trajtree.store.progress import SILENT, Progress


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How logs are read; every field is an option of each command that reads them."""

    from_: Annotated[
        str | None,
        option_of(FORMATS, "--from", help=f"Their format, detected by default: {described(FORMATS)}."),
    ] = None
    score: Annotated[
        str | None,
        typer.Option(
            "--score",
            help="Field with the score, or several with weights: --score info.reward, --score tests=0.7,style=0.3",
        ),
    ] = None
    scores: Annotated[
        Path | None,
        typer.Option(
            "--scores",
            help="CSV, JSON or JSON Lines with the scores of runs: columns run or file, score, and optionally task and "
            "outcome; or a benchmark's report.",
        ),
    ] = None
    redact: Annotated[
        bool | None,
        typer.Option(
            "--redact/--no-redact",
            help="Replace keys, tokens, mail addresses and names of home folders; by default in people's own sessions.",
        ),
    ] = None
    score_range: Annotated[
        tuple[float, float],
        typer.Option(
            "--score-range",
            help="The score values that stand for 0 and 1: --score-range 0 100",
            metavar="LOW HIGH",
        ),
    ] = (0.0, 1.0)
    task: Annotated[str | None, typer.Option("--task", help="Field that names the task; by default its prompt.")] = None
    context_turns: Annotated[
        int | None,
        typer.Option(
            "--context-turns", min=0, help="How many leading replies of each run are an example, not the agent's own."
        ),
    ] = None
    run: Annotated[
        str | None,
        typer.Option(
            "--run", help="Field that names the run, where a row is one call of the model or one part of a run."
        ),
    ] = None

    def into(
        self,
        store: Path,
        files: Path | list[Path],
        *,
        keep_unscored: bool,
        jobs: int = 1,
        progress: Progress = SILENT,
    ) -> ImportReport:
        """Read files into a store, see `import_files`."""
        return import_files(
            files,
            store,
            format=self.from_,
            score=self.score,
            score_range=self.score_range,
            task=self.task,
            context_turns=self.context_turns,
            run=self.run,
            scores=self.scores,
            keep_unscored=keep_unscored,
            redact=self.redact,
            jobs=jobs,
            progress=progress,
        )


def counts_of(numbers: Mapping[str, int]) -> str:
    """Names with their numbers, in a sentence."""
    return ", ".join(f"{name} ({number:,})" for name, number in numbers.items())


__all__ = ["Reading", "counts_of"]
