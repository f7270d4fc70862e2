"""A plan as a table for the terminal."""

from __future__ import annotations

from rich.console import Console

from trajtree.explore.estimate import STEPS
from trajtree.planning.hardware import Hardware
from trajtree.planning.plan import Plan, StagePlan
from trajtree.report.tables import plain, print_fitting, table_of


def print_plan(plan: Plan, hardware: Hardware, console: Console) -> None:
    """Print a plan's stages with their sums, what they are computed from, and what is missing."""
    table = table_of("stage", "episodes", "tokens", "memory", "time", "")
    for stage in plan.stages:
        table.add_row(*map(plain, _cells(stage, hardware)), style="dim" if stage.done else "")
    peak = max((stage.memory for stage in plan.stages if not stage.done), default=0.0)
    table.add_row("still to do", "", "", _memory(peak), duration(plan.seconds), "", style="bold")
    print_fitting(table, console, (3, 4, 2, 0, 1), "make the terminal wider, or send the output to a file")
    sizes = plan.sizes
    console.print(
        f"On {hardware.name} ({hardware.source}). An episode: {sizes.given:.0f} tokens before the first reply, then "
        f"{sizes.expert:.1f} steps of the expert or {sizes.agent:.1f} of a model (halfway from there to the step "
        f"limit, {STEPS} where none is known), of {sizes.reply:.0f} tokens by the agent and {sizes.answer:.0f} by the "
        f"environment; from {sizes.source}. Episodes of a training are its examples; how many pairs the trees will "
        "have is a guess until they are there.",
        soft_wrap=True,
        highlight=False,
    )
    if hardware.memory:  # a GPU
        console.print(
            "Playing without a model server took six to eleven times as long as planned on the one GPU where it was "
            "measured (docs/recipes.md).",
            soft_wrap=True,
        )
    for sentence in plan.missing:
        console.print(plain(f"missing: {sentence}"), soft_wrap=True)


def _cells(stage: StagePlan, hardware: Hardware) -> list[str]:
    tight = hardware.memory and stage.memory > hardware.memory
    return [
        stage.name,
        f"{stage.episodes:,}" if stage.episodes else "",
        f"{stage.tokens:,.0f}" if stage.tokens else "",
        _memory(stage.memory),
        duration(stage.seconds) if stage.seconds else "",
        "done" if stage.done else "too large" if tight else "",
    ]


def _memory(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size else ""


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 3600:.1f} h"


__all__ = ["duration", "print_plan"]
