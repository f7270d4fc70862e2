"""The paper's pipeline as stages: which there are, what each reads, and what it does.

demonstrations -> weak -> explore -> trees -> pairs | paths -> train -> evaluate -> report
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trajtree.chat import REACT, parse_act, parse_react
from trajtree.envs.domain import Domain, NoDemonstration, load_domain
from trajtree.errors import DataError, PolicyError, RecipeError
from trajtree.experiment.recipe import Recipe
from trajtree.experiment.stage import Stage, Work
from trajtree.explore.rollout import rollout
from trajtree.explore.strategies import independent
from trajtree.models.weights import ModelRef, context_length, fingerprint, pick_dtype
from trajtree.store.files import write_atomically
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.store.tree_store import read_trees, write_trees
from trajtree.trajectory import Cause, Sampling, Trajectory
from trajtree.trees import forks, merge, search

if TYPE_CHECKING:
    from trajtree.train.trainer import Optimisation

STORE = "trajectories.jsonl"
TREES = "trees.jsonl"
OVERFLOW_SHARE = 0.01
"""Largest share of episodes that may end because the model's context is full."""

AGGREGATES: dict[str, forks.Aggregate] = {"mean": forks.mean, "best": forks.best}
"""Values of a child by the recipe's name."""

TRAINED_ON = {
    "strong_sft": "demonstrations",
    "w2sg_exact": "paths-exact",
    "w2sg_mcts": "paths-mcts",
}
"""Row of the report to the stage whose trajectories the strong model is tuned on."""


def stages_of(recipe: Recipe) -> list[Stage]:
    """Every stage of a run, each after what it reads."""
    dtype = pick_dtype(recipe.play.dtype)
    recipe = recipe.model_copy(update={"play": recipe.play.model_copy(update={"dtype": dtype})})
    seed = recipe.seed
    domain = load_domain(recipe.env.name)
    env = {**recipe.env.model_dump(), "version": domain.environment.version, "data": domain.data()}
    play = {**recipe.play.model_dump(), "env": env}
    strong = {**recipe.strong.model_dump(), "dtype": dtype, "weights": fingerprint(recipe.strong.model)}
    weak = {
        **recipe.weak.model_dump(),
        "dtype": dtype,
        "weights": fingerprint(recipe.weak.model or recipe.weak.tokenizer),
    }
    if recipe.weak.model:
        weak |= {"lora_rank": recipe.strong.lora_rank, "lora_alpha": recipe.strong.lora_alpha}
    tasks = recipe.tasks
    explored = "demonstrations" if recipe.explore.tasks == "demonstrated" else "unseen"
    sft = {"strong": strong, "sft": recipe.sft.model_dump(), "seed": seed}

    stages = [
        Stage(
            "tasks",
            "tasks",
            (),
            {"env": env, "types": tasks.types, "dev": tasks.dev, "test": tasks.test},
            partial(choose_tasks, recipe),
        ),
        Stage(
            "demonstrations",
            "demonstrations",
            ("tasks",),
            {"env": env, "demonstrations": tasks.demonstrations},
            partial(demonstrate, recipe),
        ),
        Stage(
            "unseen",
            "demonstrations",
            ("tasks", "demonstrations"),
            {"unseen": tasks.unseen},
            partial(choose_unseen, recipe),
        ),
        Stage("weak", "weak", ("demonstrations",), {"weak": weak, "seed": seed}, partial(train_weak, recipe)),
        Stage(
            "explore",
            "explore",
            (explored, "weak"),
            {"explore": recipe.explore.model_dump(mode="json"), "play": play, "seed": seed},
            partial(explore, recipe),
        ),
        Stage("trees", "trees", ("explore",), {"env": env}, partial(build_trees, recipe)),
        Stage("pairs", "pairs", ("trees",), recipe.pairs.model_dump(), partial(find_pairs, recipe)),
    ]
    keep = {"min_score": recipe.paths.min_score}
    how = {**keep, "iterations": recipe.paths.mcts_iterations, "gamma": recipe.paths.mcts_gamma}
    stages += [
        Stage("paths-exact", "paths", ("trees",), keep, partial(find_paths, recipe, search.exact)),
        Stage("paths-mcts", "paths", ("trees",), how, partial(find_paths, recipe, _mcts(recipe))),
    ]
    stages += [
        Stage(f"train-{row}", "train", (source,), sft, partial(tune_on_paths, recipe, source))
        for row, source in TRAINED_ON.items()
        if row in recipe.evaluate.rows or (row == "w2sg_exact" and _dpo_after_exact(recipe))
    ]
    if "w2sg_treedpo" in recipe.evaluate.rows:
        base = ("train-w2sg_exact",) if recipe.treedpo.start == "exact" else ()
        settings = {"strong": strong, "treedpo": recipe.treedpo.model_dump(), "seed": seed}
        work = partial(tune_on_pairs, recipe)
        stages.append(Stage("train-w2sg_treedpo", "train", ("explore", "pairs", *base), settings, work))
    for row in recipe.evaluate.rows:
        inputs = ("tasks", *_model_inputs(recipe, row))
        settings = {"split": recipe.evaluate.split, "play": play}  # greedy, so the seed changes nothing
        settings |= {"strong": strong} if row != "weak" else {}
        stages.append(Stage(f"evaluate-{row}", "evaluate", inputs, settings, partial(evaluate, recipe, row)))
    return stages


def _dpo_after_exact(recipe: Recipe) -> bool:
    return "w2sg_treedpo" in recipe.evaluate.rows and recipe.treedpo.start == "exact"


def _model_inputs(recipe: Recipe, row: str) -> tuple[str, ...]:
    """Stages that hold the row's model, in the order in which their adapters are merged."""
    if row == "weak":
        return ("weak",)
    if row == "strong":
        return ()
    first = ("train-w2sg_exact",) if row == "w2sg_treedpo" and recipe.treedpo.start == "exact" else ()
    return (*first, f"train-{row}")


def _model(recipe: Recipe, row: str, work: Work) -> ModelRef:
    folders = [str(work.inputs[name] / "model") for name in _model_inputs(recipe, row)]
    if row != "weak":
        return ModelRef(recipe.strong.model, tuple(folders))
    return ModelRef(recipe.weak.model, tuple(folders)) if recipe.weak.model else ModelRef(folders[0])


# --- tasks and demonstrations ---


def choose_tasks(recipe: Recipe, work: Work) -> None:
    """Draw the four task sets; tasks.json holds their candidates by type, in drawing order."""
    domain = load_domain(recipe.env.name)
    sizes = {"train": None, "dev": recipe.tasks.dev, "test": recipe.tasks.test}
    drawn: dict[str, dict[str, list[str]]] = {}
    for split, size in sizes.items():
        drawn[split] = {}
        for kind in recipe.tasks.types:
            tasks = _tasks_of(domain, kind, split)
            random.Random(zlib.crc32(f"{kind} {split}".encode())).shuffle(tasks)
            if size is not None and size > len(tasks):
                raise RecipeError(f"tasks.{split}: {size} asked, {kind} has {len(tasks)} in its {split} split")
            drawn[split][kind] = tasks[:size]
        _check_apart(split, drawn[split])
    write_atomically(work.folder / "tasks.json", json.dumps(drawn, indent=1))


def _check_apart(split: str, by_type: dict[str, list[str]]) -> None:
    seen: dict[str, str] = {}
    for kind, tasks in by_type.items():
        for task in tasks:
            if task in seen:
                raise RecipeError(f"tasks.types: {task} ({split}) is of both {seen[task]} and {kind}; name one of them")
            seen[task] = kind


def _tasks_of(domain: Domain, kind: str, split: str) -> list[str]:
    try:
        return list(domain.tasks(kind, split))
    except KeyError as error:
        raise RecipeError(f"tasks.types: {error.args[0] if error.args else kind}") from None


def demonstrate(recipe: Recipe, work: Work) -> None:
    """Expert demonstrations, and in rejected.json the tasks before them that have none."""
    domain = load_domain(recipe.env.name)
    train = _read_json(work.inputs["tasks"] / "tasks.json")["train"]
    store = TrajectoryStore(work.folder / STORE)
    kept = {t.task: t for t in store}
    rejected: list[NoDemonstration] = []
    work.progress.total(recipe.tasks.demonstrations * len(train))
    env = domain.make(recipe.env.max_steps)
    try:
        for kind, tasks in train.items():
            candidates = iter(tasks)
            for _ in range(recipe.tasks.demonstrations):
                _next_demonstration(domain, env, candidates, kept, rejected, store, kind)
                work.progress.advance(1)
    finally:
        env.close()
    write_atomically(work.folder / "rejected.json", json.dumps([asdict(r) for r in rejected], indent=1))


def _next_demonstration(
    domain: Domain,
    env: Any,
    candidates: Iterator[str],
    kept: dict[str, Trajectory],
    rejected: list[NoDemonstration],
    store: TrajectoryStore,
    kind: str,
) -> None:
    for task in candidates:
        if task in kept:
            return
        shown = domain.demonstrate(env, task)
        if isinstance(shown, NoDemonstration):
            rejected.append(shown)
            continue
        kept[task] = shown
        store.append([shown])
        return
    reasons = "; ".join(f"{r.task}: {r.reason}" for r in rejected[-3:])
    raise DataError(f"{kind}: not enough successful demonstrations among its train tasks ({reasons})")


def choose_unseen(recipe: Recipe, work: Work) -> None:
    """In tasks.json, the next train tasks of each type that no demonstration was tried of."""
    shown = work.inputs["demonstrations"]
    tried = {t.task for t in TrajectoryStore(shown / STORE)} | {r["task"] for r in _read_json(shown / "rejected.json")}
    unseen: list[str] = []
    for kind, tasks in _read_json(work.inputs["tasks"] / "tasks.json")["train"].items():
        further = [task for task in tasks if task not in tried][: recipe.tasks.unseen]
        if len(further) < recipe.tasks.unseen:
            raise RecipeError(
                f"tasks.unseen: only {len(further)} train tasks of {kind} are left after the demonstrations"
            )
        unseen += further
    write_atomically(work.folder / "tasks.json", json.dumps(unseen, indent=1))


# --- the weak policy and its trajectories ---


def train_weak(recipe: Recipe, work: Work) -> None:
    """The weak policy, from scratch or with an adapter, in `model/`."""
    from trajtree.models.weights import load_tokenizer
    from trajtree.train.losses import sft
    from trajtree.train.trainable import Lora, from_scratch, with_adapter
    from trajtree.train.trainer import Optimisation, train

    settings = recipe.weak
    demonstrations = list(TrajectoryStore(work.inputs["demonstrations"] / STORE))
    if not demonstrations:
        raise DataError("no successful demonstration to train the weak model on")
    if settings.model:
        lora = Lora(recipe.strong.lora_rank, recipe.strong.lora_alpha)
        model = with_adapter(ModelRef(settings.model), lora, dtype=recipe.play.dtype, seed=recipe.seed)
    else:
        model = from_scratch(
            settings.tokenizer,
            hidden=settings.hidden,
            layers=settings.layers,
            context=settings.context,
            seed=recipe.seed,
        )
    source = settings.model or settings.tokenizer
    examples = _sft_examples(demonstrations, source, model)
    how = Optimisation(settings.epochs, settings.lr, settings.batch, checkpoint_steps=200, dtype=recipe.play.dtype)

    def save(metrics: dict[str, float]) -> None:
        model.save_pretrained(work.folder / "model")
        load_tokenizer(source).save_pretrained(work.folder / "model")

    train(model, examples, sft(), how, work.folder, seed=recipe.seed, progress=_training_progress(work), save=save)


def explore(recipe: Recipe, work: Work) -> None:
    """The weak policy's rollouts."""
    if recipe.explore.tasks == "demonstrated":
        tasks = [t.task for t in TrajectoryStore(work.inputs["demonstrations"] / STORE)]
    else:
        tasks = _read_json(work.inputs["unseen"] / "tasks.json")
    jobs = independent(tasks, recipe.explore.rollouts, recipe.explore.grid)
    _play(recipe, work, _model(recipe, "weak", work), "weak", jobs)


def _play(recipe: Recipe, work: Work, model: ModelRef, name: str, jobs: Sequence[Any]) -> None:
    from trajtree.policies.local import LocalPolicy

    thoughts = recipe.env.thoughts
    store = TrajectoryStore(work.folder / STORE)
    work.progress.total(len(jobs))
    policy = LocalPolicy(
        model, max_new_tokens=recipe.play.max_new_tokens, one_line=not thoughts, dtype=recipe.play.dtype, name=name
    )
    domain = load_domain(recipe.env.name)
    rollout(
        jobs,
        policy,
        lambda: domain.make(recipe.env.max_steps),
        store,
        seed=recipe.seed,
        batch=recipe.play.batch,
        parse=parse_react if thoughts else parse_act,
        suffix=REACT if thoughts else "",
        progress=work.progress,
    )
    overflowed = [t for t in store if t.cause is Cause.CONTEXT_OVERFLOW]
    if len(overflowed) > OVERFLOW_SHARE * len(jobs):
        raise PolicyError(
            f"{len(overflowed)} of {len(jobs)} episodes did not fit the model's context, for one "
            f"{overflowed[0].task}: {overflowed[0].error}; lower env.max_steps or use a longer context"
        )


# --- trees, pairs, paths ---


def build_trees(recipe: Recipe, work: Work) -> None:
    """One tree a task."""
    environment = load_domain(recipe.env.name).environment
    trees = merge.build(
        TrajectoryStore(work.inputs["explore"] / STORE),
        canonical_action=environment.canonical_action,
        canonical_observation=environment.canonical_observation,
    )
    write_trees(trees, work.folder / TREES)


def find_pairs(recipe: Recipe, work: Work) -> None:
    """Preference pairs in pairs.jsonl."""
    how = recipe.pairs
    found = [
        pair
        for t in read_trees(work.inputs["trees"] / TREES)
        for pair in forks.pairs(
            t, aggregate=AGGREGATES[how.aggregate], min_gap=how.min_gap, per_fork=how.per_fork, per_tree=how.per_tree
        )
    ]
    _write_jsonl(work.folder / "pairs.jsonl", [asdict(p) for p in found])


def _mcts(recipe: Recipe) -> search.Search:
    return partial(search.mcts, iterations=recipe.paths.mcts_iterations, gamma=recipe.paths.mcts_gamma)


def find_paths(recipe: Recipe, find: search.Search, work: Work) -> None:
    """The trajectory that is each tree's best path, where it scored enough, up to its last gain."""
    found = []
    for t in read_trees(work.inputs["trees"] / TREES):
        best = search.best_path(t, find)
        if best.reaches(recipe.paths.min_score):
            found.append(best)
    (work.folder / STORE).unlink(missing_ok=True)
    TrajectoryStore(work.folder / STORE).append(found)


# --- the strong model ---


def tune_on_paths(recipe: Recipe, source: str, work: Work) -> None:
    """LoRA of the strong model on trajectories, in `model/`."""
    from trajtree.train.losses import sft
    from trajtree.train.trainable import Lora, with_adapter
    from trajtree.train.trainer import train

    trajectories = list(TrajectoryStore(work.inputs[source] / STORE))
    if not trajectories:
        raise DataError(
            f"{source}: no trajectory scored at least {recipe.paths.min_score}, so there is nothing to learn from; "
            "lower paths.min_score, raise explore.rollouts, or train the weak model longer (weak.epochs)"
        )
    lora = Lora(recipe.strong.lora_rank, recipe.strong.lora_alpha)
    model = with_adapter(ModelRef(recipe.strong.model), lora, dtype=recipe.play.dtype, seed=recipe.seed)
    examples = _sft_examples(trajectories, recipe.strong.model, model)
    train(
        model,
        examples,
        sft(),
        _how(recipe.sft, recipe.play.dtype),
        work.folder,
        seed=recipe.seed,
        progress=_training_progress(work),
        save=lambda metrics: model.save_pretrained(work.folder / "model"),
    )


def tune_on_pairs(recipe: Recipe, work: Work) -> None:
    """TreeDPO of the strong model, in `model/`."""
    from trajtree.models.transcript import ChatFormat
    from trajtree.models.weights import load_tokenizer
    from trajtree.train.examples import pair_examples
    from trajtree.train.losses import dpo
    from trajtree.train.trainable import Lora, with_adapter
    from trajtree.train.trainer import train

    found = [forks.Pair(**row) for row in _read_jsonl(work.inputs["pairs"] / "pairs.jsonl")]
    if not found:
        raise DataError(
            f"no tree has a fork whose sides differ by pairs.min_gap ({recipe.pairs.min_gap}), so TreeDPO has no "
            "pair; raise explore.rollouts or the temperatures in explore.grid, or drop the row w2sg_treedpo"
        )
    before = tuple(str(path / "model") for name, path in work.inputs.items() if name.startswith("train-"))
    lora = Lora(recipe.strong.lora_rank, recipe.strong.lora_alpha)
    model = with_adapter(ModelRef(recipe.strong.model, before), lora, dtype=recipe.play.dtype, seed=recipe.seed)
    trajectories = {t.key: t for t in TrajectoryStore(work.inputs["explore"] / STORE)}
    chat = ChatFormat(load_tokenizer(recipe.strong.model), recipe.strong.model)
    train(
        model,
        pair_examples(found, trajectories, chat, context=context_length(model)),
        dpo(recipe.treedpo.beta, kl=recipe.treedpo.kl),
        _how(recipe.treedpo, recipe.play.dtype),
        work.folder,
        seed=recipe.seed,
        progress=_training_progress(work),
        save=lambda metrics: model.save_pretrained(work.folder / "model"),
    )


def _how(settings: Any, dtype: str) -> Optimisation:
    from trajtree.train.trainer import Optimisation

    return Optimisation(
        epochs=settings.epochs,
        lr=settings.lr,
        batch=settings.batch,
        accumulate=settings.accumulate,
        checkpoint_steps=10,
        dtype=dtype,
    )


def _sft_examples(trajectories: Sequence[Trajectory], tokenizer_of: str, model: Any) -> Any:
    from trajtree.models.transcript import ChatFormat
    from trajtree.models.weights import load_tokenizer
    from trajtree.train.examples import sft_examples

    chat = ChatFormat(load_tokenizer(tokenizer_of), tokenizer_of)
    return sft_examples(trajectories, chat, context=context_length(model))


def _training_progress(work: Work) -> Callable[[int, int, dict[str, float]], None]:
    seen = 0

    def tell(done: int, total: int, metrics: dict[str, float]) -> None:
        nonlocal seen
        work.progress.total(total)
        work.progress.advance(done - seen, " ".join(f"{name} {value:.3g}" for name, value in metrics.items()))
        seen = done

    return tell


# --- evaluation ---


def evaluate(recipe: Recipe, row: str, work: Work) -> None:
    """One greedy episode a held-out task."""
    by_type = _read_json(work.inputs["tasks"] / "tasks.json")[recipe.evaluate.split]
    tasks = [task for tasks in by_type.values() for task in tasks]
    _play(recipe, work, _model(recipe, row, work), row, independent(tasks, 1, [Sampling()]))


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def _write_jsonl(path: Path, rows: Sequence[Any]) -> None:
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))


def _read_jsonl(path: Path) -> list[Any]:
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise DataError(f"{path}, line {number}: not JSON ({error})") from None
    return rows


__all__ = ["AGGREGATES", "STORE", "TRAINED_ON", "TREES", "stages_of"]
