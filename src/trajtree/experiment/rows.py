"""The rows of an experiment, baselines included: which models are measured, and how each is made.

A row is one model. It starts from another row's model and learns from some data by some method, possibly with a
reference. Stages, labels, the checks of a recipe and the report are all derived from these entries, so a new row is one
entry here, or one under `rows:` in a recipe.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from trajtree.train.settings import METHODS

ALL: Final = "all"
"""Stands for as many tasks as there are."""


@dataclass(frozen=True, slots=True)
class Source:
    """Something that a row can learn from.

    Attributes:
        holds: what it consists of: trajectories, pairs or trees.
        explored: whether it is made from an exploration's trajectories.
        about: a one-line description.
    """

    holds: str
    explored: bool
    about: str


SOURCES: dict[str, Source] = {
    "demonstrations": Source("trajectories", False, "the expert's demonstrations"),
    "paths": Source("trajectories", True, "the path that a search finds in each tree, where it scores enough"),
    "stitched": Source("trajectories", True, "paths joined from several runs of each tree and played again"),
    "trees": Source("trees", True, "all of an exploration's trajectories, as trees"),
    "pairs": Source("pairs", True, "preference pairs of the trees, at forks unless pairs.mode says otherwise"),
    "expert-pairs": Source("pairs", True, "the expert's whole demonstration over each worse run of the same task"),
    "expert-forks": Source("pairs", True, "the expert's step over an explored one, at forks on the expert's path"),
}
"""What rows learn from, by name. Several sources of trajectories are pooled."""

_TAKES_FROM = {
    "runs": ("trajectories", "trees"),
    "branches": ("trees",),
    "labelled": ("trees",),
    "pairs": ("pairs", "trees"),
    "steps": ("pairs", "trees"),
    "anchored-pairs": ("pairs", "trees"),
    "solved-pairs": ("pairs", "trees"),
    "options": ("trees",),
    "advantages": ("trees",),
    "chosen": ("pairs", "trees"),
    "chosen-runs": ("pairs", "trees"),
    "chosen-solved": ("pairs", "trees"),
}
"""The kinds of source that provide what a method `takes`."""

_NO_PAIR = ("runs", "branches", "labelled", "advantages")
"""What methods take from trees without looking at single forks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model of the experiment.

    Attributes:
        name: its name in recipes and files.
        label: its name in tables.
        learns_from: names in SOURCES; empty for a model that is measured untuned.
        explored_by: the exploration whose trajectories it learns from.
        method: a name in METHODS.
        section: the recipe's section with its training settings; by default the method's.
        trees, pairs, paths, train: settings that differ for this row from the recipe's own `trees`, `pairs`, `paths`
            and section.
        starts_from: the row whose model is tuned further; None for the two models of the recipe, `weak` and `strong`.
        reference: the reference of a preference loss: `start`, or a row.
        tasks: how many tasks it is measured on, over all types.
    """

    name: str
    label: str
    learns_from: tuple[str, ...] = ()
    explored_by: str = "weak"
    method: str = "sft"
    section: str | None = None
    trees: Mapping[str, Any] = field(default_factory=dict)
    pairs: Mapping[str, Any] = field(default_factory=dict)
    paths: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    starts_from: str | None = "strong"
    reference: str = "start"
    tasks: int | Literal["all"] = ALL

    @property
    def trained(self) -> bool:
        """Whether it learns anything."""
        return bool(self.learns_from)

    @property
    def explored(self) -> bool:
        """Whether it needs an exploration."""
        return any(SOURCES[source].explored for source in self.learns_from)

    @property
    def settings_in(self) -> str:
        """The section of the recipe with its training settings."""
        return self.section or METHODS[self.method].section

    def uses(self, part: str) -> bool:
        """Whether what it learns from is chosen by the recipe's section `trees`, `pairs` or `paths`."""
        from_trees = {
            "trees": True,
            "pairs": METHODS[self.method].takes not in _NO_PAIR,
            "paths": METHODS[self.method].takes == "runs",
        }
        named = {
            "trees": ("paths", "pairs", "stitched"),
            "pairs": ("pairs", "expert-pairs", "expert-forks"),
            "paths": ("paths", "stitched"),
        }
        return any(source in named[part] or (source == "trees" and from_trees[part]) for source in self.learns_from)

    def problem(self) -> str | None:
        """What is wrong with the row, considered on its own; None if nothing."""
        if not self.learns_from:
            return None
        holds = {SOURCES[source].holds for source in self.learns_from}
        if len(self.learns_from) > 1 and holds != {"trajectories"}:
            return f"learns_from: only sources of trajectories can be pooled, not {', '.join(self.learns_from)}"
        takes = METHODS[self.method].takes
        if not holds <= set(_TAKES_FROM[takes]):
            fitting = ", ".join(name for name, s in SOURCES.items() if s.holds in _TAKES_FROM[takes])
            return f"method: {self.method} cannot learn from {', '.join(self.learns_from)}; it takes {fitting}"
        return None


def _from_exact(name: str, label: str, method: str, train: Mapping[str, Any] | None = None, **pairs: Any) -> Row:
    """A row that starts from the model tuned on the exact search's paths and takes as many steps as TreeDPO."""
    return Row(
        name=name,
        label=label,
        learns_from=("pairs",),
        method=method,
        section="preference",
        pairs=pairs,
        train=train or {},
        starts_from="w2sg_exact",
    )


def _published(name: str, start: str, label: str) -> Row:
    """TreeDPO with the paper's loss: it is held to the tuned weak model, wherever it starts from."""
    return Row(
        name=name,
        label=f"TreeDPO as published, from {label}",
        learns_from=("pairs",),
        method="tree-dpo",
        starts_from=start,
        reference="weak",
    )


def _search(name: str, label: str, **changes: Any) -> Row:
    """A row that imitates the path of each tree."""
    return Row(**{"name": name, "label": label, "learns_from": ("paths",), **changes})


OF_WEAK = ("weak", "weak_untouched")
"""The rows that are the recipe's weak model itself; `strong` is its strong one. All others start from a row."""

_ALL = 1_000_000
"""As many as there are."""


_ENTRIES = (
    Row(
        name="weak",
        label="Weak (teacher)",
        learns_from=("demonstrations",),
        section="weak",
        starts_from=None,
    ),
    Row(name="weak_untouched", label="Weak, untouched", starts_from=None),
    Row(name="strong", label="Strong, untouched", starts_from=None),
    Row(name="strong_sft", label="Strong SFT on the expert", learns_from=("demonstrations",)),
    Row(
        name="w2sg_treedpo",
        label="W2SG + TreeDPO",
        learns_from=("pairs",),
        method="tree-dpo",
        starts_from="w2sg_exact",
    ),
    Row(name="w2sg_exact", label="W2SG + search (exact)", learns_from=("paths",)),
    # What Burns et al. (arXiv 2312.09390) call naive: the strong model on the weak one's outputs, right or wrong.
    Row(
        name="w2sg_naive",
        label="W2SG, no search and no rewards",
        learns_from=("paths",),
        paths={"search": "best-of-n", "n": 1, "min_score": 0.0, "whole": True},
    ),
    Row(name="w2sg_mcts", label="W2SG + search (MCTS)", learns_from=("paths",), paths={"search": "mcts"}),
    _from_exact("w2sg_dpo", "W2SG + DPO at forks", "dpo"),
    _from_exact("w2sg_anchored", "W2SG + TreeDPO, anchored", "anchored-dpo"),
    _from_exact("random_anchored", "Random pairs, anchored DPO", "anchored-dpo", mode="matched"),
    _from_exact("random_dpo", "Random pairs, DPO", "dpo", mode="matched"),
    _from_exact("random_treedpo", "Random pairs, DPO with KL", "tree-dpo", mode="matched"),
    _from_exact("chosen_sft", "NLL on the pairs' chosen sides", "chosen-sft"),
    _from_exact("chosen_runs_sft", "NLL on the chosen sides' whole runs", "chosen-runs-sft"),
    _from_exact("chosen_solved_sft", "NLL on the chosen runs that succeed", "chosen-solved-sft"),
    # Other forms in which the rejected side may teach.
    _from_exact("w2sg_step", "DPO on the step at the fork", "step-dpo"),
    _from_exact("w2sg_run_anchored", "TreeDPO, anchored on the whole chosen run", "run-anchored-dpo"),
    _from_exact(
        "w2sg_solved_anchored",
        "TreeDPO, anchored with weight 1 on chosen runs that succeed",
        "solved-anchored-dpo",
        {"anchor": 1.0},
    ),
    _from_exact("w2sg_anchored_1", "TreeDPO, anchored with weight 1", "anchored-dpo", {"anchor": 1.0}),
    _from_exact("w2sg_ipo", "IPO at forks", "ipo"),
    _from_exact("w2sg_bounded", "Anchor and a bounded push at forks", "bounded"),
    _from_exact(
        "w2sg_weighted",
        "TreeDPO, anchored, all forks by gap and visits",
        "anchored-dpo",
        {"weigh": "gap-visits"},
        min_gap=0.0,
        per_tree=_ALL,
    ),
    Row(
        name="w2sg_node_kto",
        label="KTO on node values",
        learns_from=("trees",),
        method="node-kto",
        starts_from="w2sg_exact",
    ),
    Row(name="w2sg_branches", label="SFT on all branches by value", learns_from=("trees",), method="branch-sft"),
    Row(
        name="w2sg_advantage", label="SFT on all branches by advantage", learns_from=("trees",), method="advantage-sft"
    ),
    _published("treedpo_untouched", "strong", "the untouched model"),
    _published("treedpo_paths", "w2sg_exact", "W2SG + search (exact)"),
    _published("treedpo_sft", "strong_sft", "strong SFT"),
    _search("w2sg_mcts_100", "W2SG + search (MCTS, 100 walks)", paths={"search": "mcts", "iterations": 100}),
    _search("w2sg_published", "W2SG + search (MCTS as published)", paths={"search": "mcts-published"}),
    _search(
        "w2sg_published_100",
        "W2SG + search (MCTS as published, 100 walks)",
        paths={"search": "mcts-published", "iterations": 100},
    ),
    _search("w2sg_stitched", "W2SG + stitched paths", learns_from=("stitched",)),
    _search("sft_exact", "Strong SFT, then search (exact)", starts_from="strong_sft"),
    _search("sft_mcts", "Strong SFT, then search (MCTS)", starts_from="strong_sft", paths={"search": "mcts"}),
    Row(
        name="best_of_n",
        label="Strong SFT + best of N",
        learns_from=("demonstrations", "paths"),
        explored_by="own",
        paths={"search": "best-of-n"},
    ),
    Row(
        name="eto",
        label="Strong SFT + ETO",
        learns_from=("expert-pairs",),
        explored_by="own",
        method="dpo",
        starts_from="strong_sft",
    ),
    Row(
        name="ceiling_whole",
        label="Ceiling: expert's runs over strong SFT's own",
        learns_from=("expert-pairs",),
        explored_by="own",
        method="dpo",
        pairs={"per_tree": _ALL},
        starts_from="strong_sft",
    ),
    Row(
        name="ceiling_forks",
        label="Ceiling: expert's steps at forks",
        learns_from=("expert-forks",),
        explored_by="own",
        method="dpo",
        starts_from="strong_sft",
    ),
)

ROWS: dict[str, Row] = {row.name: row for row in _ENTRIES}
"""Rows by name. `weak` and `strong` are the models of the recipe's sections with these names."""


def later_round(number: int) -> Row:
    """The row of the model tuned on the paths of all rounds of exploration up to `number`, from the second on."""
    label = f"W2SG + search (exact), round {number}"
    return Row(name=f"round{number}", label=label, learns_from=("paths",), explored_by=f"round{number}")


DEFAULT_ROWS = ("weak", "strong", "strong_sft", "w2sg_treedpo", "w2sg_exact", "w2sg_mcts")
"""The rows that a recipe measures by default."""

CEILINGS = ("strong_sft", "ceiling_whole", "ceiling_forks")
"""Rows that learn from the expert alone, at which the gap recovered may be 1."""

_NAMED = (
    ("w2sg_anchored", "chosen_sft"),
    ("w2sg_anchored", "chosen_runs_sft"),
    ("w2sg_anchored", "chosen_solved_sft"),
    ("w2sg_anchored", "w2sg_exact"),
    ("w2sg_anchored", "strong_sft"),
    ("w2sg_anchored", "random_anchored"),
)
"""Whether failures teach: more than the good sides alone, than the start, than the expert; and more at forks."""


def default_comparisons(measured: Collection[str], primary: str, ceiling: str | None) -> tuple[tuple[str, str], ...]:
    """The comparisons that a recipe names if it does not name its own: a row, and the row that it is compared with.

    Those that show whether failures teach, where both rows are measured; if there are none, the primary row against the
    weak row and the ceiling.
    """
    found = tuple(both for both in _NAMED if set(both) <= set(measured))
    others = dict.fromkeys(name for name in ("weak", ceiling) if name not in (None, primary) and name in measured)
    return found or tuple((primary, name) for name in others if name is not None)


def chain(rows: Mapping[str, Row], name: str) -> list[Row]:
    """The rows from the recipe's own model to `name`, each starting from the one before."""
    found = [rows[name]]
    while (start := found[0].starts_from) is not None:
        found.insert(0, rows[start])
    return found


__all__ = [
    "ALL",
    "CEILINGS",
    "DEFAULT_ROWS",
    "ROWS",
    "SOURCES",
    "Row",
    "Source",
    "chain",
    "default_comparisons",
    "later_round",
]
