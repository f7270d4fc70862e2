"""What the paper's guarantee says of a run's preference rows: what it asks for is measured, and put in plain words."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from itertools import chain

import numpy as np

from trajtree.experiment.learn import model_of
from trajtree.experiment.lessons import TREES, read_pairs
from trajtree.experiment.recipe import Recipe
from trajtree.experiment.rows import Row
from trajtree.experiment.stage import Done, Work
from trajtree.experiment.tasks import read_tasks
from trajtree.models.transcript import ChatFormat
from trajtree.models.weights import context_length, load_model, load_tokenizer, pick_device
from trajtree.statistics.guarantee import divergence_interval, guarantee
from trajtree.statistics.layout import Layout
from trajtree.store.files import write_atomically
from trajtree.store.tree_store import read_trees
from trajtree.train.examples import sft_examples
from trajtree.train.settings import METHODS
from trajtree.trees.search import best_path, exact

MEASURED = "guarantee.json"
"""In the stage's folder: pairs, and for each task how far its best path is from the reference, and its score."""
CONSTANT, DELTA = 1.0, 0.05
"""The paper leaves C open, one for all environments and numbers of pairs; 1 is what its reader would try."""
_CAVEAT = (
    "If no path scores more than the best one that was played, the nats are an upper bound on the KL of the nearest "
    "best policy, for which a smaller C may be right; where a better path was never played, they may be too low, and "
    "so may the best score. "
    "The paper does not give C, and its assumptions do not hold here: pairs are picked from trees, so they are not "
    "independent episodes of the reference, and their labels never contradict (docs/theory.md)."
)


def is_about(row: Row) -> bool:
    """Whether the guarantee speaks of such a row: one that learns from pairs by DPO, with or without a KL.

    With an anchor the loss has another minimiser: docs/theory.md (20).
    """
    method = METHODS[row.method]
    plain = (method.takes, method.loss) == ("pairs", "dpo") and "anchor" not in method.knobs
    return plain and row.learns_from == ("pairs",)


def reference_of(row: Row) -> str:
    """The row whose model its loss is held to.

    Raises:
        ValueError: the row starts from nothing.
    """
    name = row.starts_from if row.reference == "start" else row.reference
    if name is None:
        raise ValueError(f"{row.name} starts from no row, so it has no reference")
    return name


def measure(recipe: Recipe, row: Row, work: Work) -> None:
    """Write MEASURED: KL(pi* || reference) of the policy that takes the best path, which is -log of the path's chance.

    It is an upper bound on the KL of the nearest best policy if no path scores more than the tree's best one, because
    others may score as much. Where a better path was never played, it may be too low. The chance is the product of
    those of the agent's own tokens, at temperature 1.

    Raises:
        DataError: a path holds no token of the agent.
    """
    from trajtree.train.reference import logprobs_of  # needs torch, which a report does not

    paths = [best_path(tree, exact) for tree in read_trees(work.inputs["trees"] / TREES)]
    paths = [path for path in paths if path.steps]
    reference = model_of(recipe, reference_of(row), work.inputs)
    model = load_model(reference, dtype=recipe.play.dtype, device=pick_device())
    chat = ChatFormat(load_tokenizer(reference.base), reference.base)
    context = context_length(model)
    # A path that does not fit leaves out its own task alone, and is reported.
    of_paths = {path.task: sft_examples([path], chat, context=sys.maxsize) for path in paths}
    examples = {task: of for task, of in of_paths.items() if all(len(one.tokens.ids) <= context for one in of)}

    def counted(done: int, total: int) -> None:
        work.progress.total(total)
        work.progress.advance(1)

    in_order = [*chain.from_iterable(examples.values())]
    found = iter(logprobs_of(in_order, model, dtype=recipe.play.dtype, progress=counted))
    nats = {task: -float(sum(next(found).sum(dtype=np.float64) for _ in of)) for task, of in examples.items()}
    write_atomically(
        work.folder / MEASURED,
        json.dumps(
            {
                "pairs": len(read_pairs(work.inputs["pairs"])),
                "paths": len(paths),
                "nats": nats,
                "scores": {path.task: path.score for path in paths},
            },
            indent=1,
        ),
    )


def sentences(recipe: Recipe, row: Row, done: Mapping[str, Done]) -> str:
    """What the guarantee says of a row, the conclusion first, then what was measured."""
    found = json.loads((done[stage_of(row)].folder / MEASURED).read_text())
    about = f"The paper's guarantee for {recipe.all_rows[row.name].label}."
    if not found["nats"]:
        return f"{about} It says nothing: no best path fits into the reference's context."
    situation = read_tasks(done["tasks"].folder)["situations"]
    tasks = sorted(found["nats"])
    layout = Layout.of([situation[task] for task in tasks], ["" for _ in tasks])
    kl = divergence_interval(np.array([found["nats"][task] for task in tasks]), layout)
    # The start's return is known on other tasks only, and so is not compared.
    says = guarantee(
        pairs=found["pairs"],
        kl=kl.value,
        constant=CONSTANT,
        delta=DELTA,
        best=float(np.mean([found["scores"][task] for task in tasks])),
    )
    high = f"{kl.high:.1f}]" if np.isfinite(kl.high) else "no end]"
    return (
        f"{about} {' '.join(says.sentences())} Measured: {found['pairs']} pairs; on {len(tasks)} of {found['paths']} "
        f"explored tasks the best path is {kl.value:.1f} nats [{kl.low:.1f}, {high} from the reference, "
        f"{recipe.all_rows[reference_of(row)].label}. {_CAVEAT}"
    )


def stage_of(row: Row) -> str:
    """The name of the stage that measures a row."""
    return f"guarantee-{row.name}"


__all__ = ["MEASURED", "is_about", "measure", "reference_of", "sentences", "stage_of"]
