"""The settings of a training: the methods, their settings and their defaults, shared by recipes and the command line.

Nothing here needs torch, so recipes and command lines can be read and checked without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Annotated, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config

from trajtree.errors import DataError, one_of
from trajtree.explore.trackers import TRACKERS
from trajtree.trees.pair import Pair

S = TypeVar("S", bound="Optimisation")

_STRICT = ConfigDict(extra="forbid")


def _visits(pair: Pair) -> float:
    return 2 / (1 / pair.chosen_visits + 1 / pair.rejected_visits)


WEIGHTS: dict[str, Callable[[Pair], float]] = {
    "equal": lambda pair: 1.0,
    "gap": lambda pair: pair.gap,
    "visits": _visits,
    "gap-visits": lambda pair: pair.gap * _visits(pair),
}
"""The weight of a pair: equal for all, its gap, the number of runs through both sides (harmonic mean), or both."""

CHOSEN, REJECTED = "chosen", "rejected"
"""Figures of how likely either side became: log-ratios to the reference."""

SCHEDULES = ("cosine", "linear", "constant_with_warmup", "constant")
"""Learning-rate schedules, by transformers' names; `constant` has no warm-up."""

OPTIMISERS = (
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_torch_xla",
    "adamw_torch_npu_fused",
    "adamw_torch_4bit",
    "adamw_torch_8bit",
    "adamw_anyprecision",
    "adamw_8bit",
    "adamw_bnb_8bit",
    "adafactor",
    "adagrad",
    "ademamix",
    "ademamix_8bit",
    "lion_32bit",
    "lion_8bit",
    "paged_adamw_32bit",
    "paged_adamw_8bit",
    "paged_ademamix_32bit",
    "paged_ademamix_8bit",
    "paged_lion_32bit",
    "paged_lion_8bit",
    "rmsprop",
    "rmsprop_bnb",
    "rmsprop_bnb_8bit",
    "rmsprop_bnb_32bit",
    "sgd",
    "lomo",
    "adalomo",
    "grokadamw",
    "schedule_free_adamw",
    "schedule_free_radam",
    "schedule_free_sgd",
    "stable_adamw",
)
"""Optimisers, by transformers' names; some need a package of their own. GaLore and APOLLO are left out, since they must
be told which modules they are for."""


@dataclass(frozen=True, slots=True)
class Method:
    """A way to learn: which examples are taken from the data, and which loss is minimised over them.

    Attributes:
        takes: a name in `trajtree.train.material.TAKES`.
        loss: name of the objective's maker in `trajtree.train.losses`.
        knobs: fields of `LossSettings` that the maker takes.
        section: the recipe section with the method's settings.
        epochs, lr: its defaults.
        about: a one-line description.
    """

    takes: str
    loss: str
    knobs: tuple[str, ...]
    section: str
    epochs: float
    lr: float
    about: str

    def unused(self, setting: str) -> bool:
        """Whether a setting, by its name, is one of those that only some methods use, and this is not one of them."""
        if setting in _ONLY_SOME_TAKE:
            return self.takes not in _ONLY_SOME_TAKE[setting]
        if setting == "cache_reference":
            return self.loss == "sft"
        return setting not in self.knobs and any(setting in method.knobs for method in METHODS.values())


_WEIGHED = ("pairs", "steps", "anchored-pairs", "solved-pairs", "chosen")
_FROM_PAIRS = (*_WEIGHED, "chosen-runs", "chosen-solved")
_ONLY_SOME_TAKE: dict[str, tuple[str, ...]] = {
    "weigh": _WEIGHED,
    "min_gap": (*_FROM_PAIRS, "options"),
    "per_fork": _FROM_PAIRS,
    "per_tree": _FROM_PAIRS,
    "min_score": ("runs",),
}
"""Settings of what is learnt from, and the `takes` of the methods that use them."""


def users_of(setting: str) -> list[str]:
    """The methods that use a setting."""
    return [name for name, method in METHODS.items() if not method.unused(setting)]


def _imitation(takes: str, about: str) -> Method:
    return Method(takes, "sft", ("diversity",), "sft", 3.0, 3e-4, about)


def _preference(takes: str, loss: str, knobs: tuple[str, ...], about: str) -> Method:
    return Method(takes, loss, knobs, "preference", 1.0, 5e-5, about)


_DPO = ("beta", "label_smoothing")

METHODS: dict[str, Method] = {
    "tree-dpo": _preference("pairs", "dpo", (*_DPO, "kl"), "DPO on pairs at forks, and a KL to the reference"),
    "dpo": _preference("pairs", "dpo", _DPO, "DPO on pairs"),
    "anchored-dpo": _preference("pairs", "dpo", (*_DPO, "anchor"), "DPO on pairs, keeping the chosen side likely"),
    "run-anchored-dpo": _preference(
        "anchored-pairs", "dpo", (*_DPO, "anchor"), "DPO on pairs, keeping the whole run of the chosen side likely"
    ),
    "solved-anchored-dpo": _preference(
        "solved-pairs",
        "dpo",
        (*_DPO, "anchor"),
        "the same on pairs whose chosen run succeeds, for equally many steps",
    ),
    "bounded": _preference(
        "pairs", "bounded", ("beta", "anchor"), "keep the chosen side likely, push the rejected one down to a bound"
    ),
    "step-dpo": _preference("steps", "dpo", _DPO, "DPO on the one reply at the fork"),
    "multi-turn-dpo": _preference(
        "pairs", "multi_turn_dpo", ("beta", "gamma"), "DPO over turns, early ones weigh more"
    ),
    "ipo": _preference("pairs", "ipo", ("beta",), "IPO on the log-ratio per token"),
    "kto": _preference("labelled", "kto", ("beta",), "runs above their tree's mean score against those below it"),
    "node-kto": _preference("options", "kto", ("beta",), "replies at forks, wanted or not by their nodes' values"),
    "sft": _imitation("runs", "imitate the best path of each tree, or every run of a store"),
    "branch-sft": _imitation("branches", "imitate every run, weighted by its score"),
    "advantage-sft": _imitation("advantages", "imitate every run, weighted by how far it is above its tree's mean"),
    "chosen-sft": _imitation("chosen", "imitate the chosen sides of pairs and ignore the rejected ones"),
    "chosen-runs-sft": _imitation("chosen-runs", "imitate the whole runs that the chosen sides of pairs belong to"),
    "chosen-solved-sft": _imitation("chosen-solved", "imitate the chosen runs that succeed, for equally many steps"),
}
"""Methods by the name that recipes and the command line use."""


@with_config(_STRICT)
@dataclass(frozen=True)
class Lora:
    """A low-rank adapter.

    Attributes:
        rank, alpha: its rank; its output is scaled by alpha / rank.
        targets: names of the linear layers that get an adapter, or `all-linear`.
        layers: how many of the model's uppermost layers get one; None for all. Below them nothing is tuned, so nothing
            is propagated back, which saves up to half of a step's time and more of its memory.
    """

    rank: Annotated[int, Field(ge=1)] = 16
    alpha: Annotated[int, Field(ge=1)] = 32
    targets: str | tuple[str, ...] = "all-linear"
    layers: Annotated[int, Field(ge=1)] | None = None


@with_config(_STRICT)
@dataclass(frozen=True)
class Scratch:
    """A small randomly initialised Llama over the vocabulary and chat template of another model."""

    tokenizer: str
    hidden: int
    layers: int
    context: int


@with_config(_STRICT)
@dataclass(frozen=True)
class LossSettings:
    """Settings of the losses; each loss uses those that its method names.

    Attributes:
        beta: inverse temperature of preference losses.
        kl: weight of tree-dpo's explicit KL to the reference per token: a mean over the trained tokens of both sides.
            Per episode, as in the paper, it would be their sum, so the same weight would be that many times stronger.
        anchor: weight of the negative log-likelihood of the chosen side, or of its run, a mean over its tokens, in
            anchored-dpo, run-anchored-dpo, solved-anchored-dpo and bounded.
        gamma: discount per turn in multi-turn-dpo.
        label_smoothing: assumed share of pairs with swapped labels.
        weigh: how pairs are weighted, a name in WEIGHTS.
        diversity: weight of the KL to the reference per token that imitation is to increase, for a model that explores;
            see `trajtree.train.losses.sft`.
    """

    beta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    kl: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    anchor: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.9
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    weigh: Annotated[str, AfterValidator(one_of(WEIGHTS))] = "equal"
    diversity: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


@with_config(_STRICT)
@dataclass(frozen=True)
class Optimisation:
    """How the loss is minimised.

    Attributes:
        epochs, lr: None for the method's own default.
        batch: examples per batch, drawn at random; None fills batches with packs instead.
        pack_tokens: packed tokens per batch; whole trees stay together until a pack is full.
        accumulate: batches per optimiser step.
        schedule: schedule of the learning rate, a name in SCHEDULES.
        warm_up: share of the steps in which the learning rate rises from 0; no warm-up if that is a single step. The
            default, like the schedule's, comes from the paper's code.
        weight_decay: weight decay of the optimiser.
        clip: largest norm of the gradient; 0 turns clipping off.
        optimiser: the optimiser, a name in OPTIMISERS.
        packed: False for padded batches, which share nothing; they are also used, with a warning, if a model cannot
            attend along trees.
        recompute: gradient checkpointing: less memory, a third more time.
        deterministic: on a GPU, compute the same bits each time, also where a training was killed and resumed; slower
            in full rows of large models (docs/training.md). A processor always does.
        checkpoint_steps: optimiser steps between checkpoints, from which a killed training resumes.
        report_to: experiment trackers, names in TRACKERS, by transformers' own reporting.
    """

    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    batch: Annotated[int, Field(ge=1)] | None = None
    pack_tokens: Annotated[int, Field(ge=64)] = 4096
    accumulate: Annotated[int, Field(ge=1)] = 1
    schedule: Annotated[str, AfterValidator(one_of(SCHEDULES))] = "cosine"
    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.03
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    clip: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    optimiser: Annotated[str, AfterValidator(one_of(OPTIMISERS))] = "adamw_torch"
    packed: bool = True
    recompute: bool = False
    deterministic: bool = False
    checkpoint_steps: Annotated[int, Field(ge=1)] = 20
    report_to: tuple[Annotated[str, AfterValidator(one_of(TRACKERS))], ...] = ()


@with_config(_STRICT)
@dataclass(frozen=True)
class TrainSettings(Optimisation, LossSettings):
    """All settings of a training except the method, the model and the data.

    Attributes:
        cache_reference: compute the reference's log-probabilities once; not with an explicit KL, which needs the whole
            distribution.
    """

    cache_reference: bool = False


SAME_RESULT = frozenset({"checkpoint_steps", "report_to", "cache_reference", "deterministic"})
"""Settings that affect a training's cost or output, but not its result, apart from rounding."""


def resolved(settings: S, method: Method) -> S:
    """The settings with the method's defaults for what they leave open.

    Raises:
        DataError: one is out of its range; recipes check theirs, other callers may say anything.
    """
    try:
        TypeAdapter(type(settings)).validate_python(asdict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{'.'.join(map(str, first['loc']))} {first['input']!r}: {first['msg']}") from None
    epochs = method.epochs if settings.epochs is None else settings.epochs
    return replace(settings, epochs=epochs, lr=method.lr if settings.lr is None else settings.lr)


__all__ = [
    "CHOSEN",
    "METHODS",
    "OPTIMISERS",
    "REJECTED",
    "SAME_RESULT",
    "SCHEDULES",
    "WEIGHTS",
    "Lora",
    "LossSettings",
    "Method",
    "Optimisation",
    "Scratch",
    "TrainSettings",
    "resolved",
    "users_of",
]
