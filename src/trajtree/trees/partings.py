"""Where the runs of a task first diverge, and why trees yield no pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from trajtree.errors import counted
from trajtree.trajectory import SCORE_TOLERANCE, Context
from trajtree.trees.forks import AGGREGATES, EQUAL, MODES, PairSettings
from trajtree.trees.tree import TrajectoryTree

_SHOWN = 60
"""Length of quoted texts, in characters."""


@dataclass(frozen=True, slots=True)
class Parting:
    """The first place at which the runs of a task differ.

    Attributes:
        task: the task.
        step: how many steps they have in common.
        what: what differs there: "system prompt", "tools", "prompt", "observation" or "action". Only a difference in
            actions is the agent's decision, and so a fork.
        texts: two of the different texts, from shortly before where they begin to differ.
    """

    task: str
    step: int
    what: str
    texts: tuple[str, str]

    def __str__(self) -> str:
        """As text, for example: task kitchen/1, observation of step 2: 'It is 10:31' against 'It is 10:32'."""
        where = f" of step {self.step + 1}" if self.what in ("observation", "action") else ""
        return f"task {self.task}, {self.what}{where}: {self.texts[0]!r} against {self.texts[1]!r}"


def first_parting(tree: TrajectoryTree) -> Parting | None:
    """Where the runs of a tree first diverge; None if all of them do the same, as far as each goes."""
    contexts = list(dict.fromkeys(t.context for t in tree.trajectories))
    if len(contexts) > 1:
        what, one, other = _apart(*contexts[:2])
        return Parting(tree.task, 0, what, _cut(one, other))
    node = TrajectoryTree.ROOT
    while children := tree.children_of(node):
        step = int(tree.depth[node])
        situations = list(dict.fromkeys(tree.decision[children].tolist()))
        if len(situations) > 1:
            one, other = (tree.observation[child] for child in situations[:2])
            return Parting(tree.task, step, "observation", _cut(one, other))
        if len(children) > 1:
            return Parting(tree.task, step, "action", _cut(*(tree.action[child] for child in children[:2])))
        (node,) = children
    return None


def why_no_pair(trees: Iterable[TrajectoryTree], settings: PairSettings) -> str:
    """One sentence on why these trees yield no pairs, with the first place where runs diverge and what may help."""
    aggregate = AGGREGATES[settings.aggregate].aggregate(settings)
    tasks = alone = forks = 0
    widest = 0.0
    different = 0.0
    partings: list[Parting] = []
    for tree in trees:
        tasks += 1
        alone += len(tree.trajectories) == 1
        different = max(different, float(np.ptp(tree.scores)))
        value = aggregate(tree)
        gaps = [float(np.ptp(value[children])) for _, children in tree.decisions()]
        forks += len(gaps)
        widest = max([widest, *gaps])
        parting = first_parting(tree)
        if parting is not None and parting.what != "action":
            partings.append(parting)
    if alone == tasks:
        return f"there is one run per task ({counted(tasks, 'task')}), and a pair needs two runs of the same task"
    if different <= SCORE_TOLERANCE:
        return "all runs of each task score the same, so none is better than another"
    if not MODES[settings.mode].at_forks:
        begun = [p for p in partings if p.step == 0]
        if begun and different >= settings.min_gap:
            return f"runs whose scores differ by {settings.min_gap:g} began with different prompts: {begun[0]}"
        return f"no two scores of a task differ by {settings.min_gap:g}, at most by {different:.3g}; lower --min-gap"
    many = counted(forks, "fork")
    if not forks:
        return f"there is no fork, where the agent saw the same thing and acted differently: {_why(partings, tasks)}"
    if widest <= SCORE_TOLERANCE:
        return f"on both sides of each fork ({many}) the runs score the same on average, so no side is better"
    if widest < settings.min_gap - SCORE_TOLERANCE:
        return f"the widest gap of {many} is {widest:.3g}, less than {settings.min_gap:g}; lower --min-gap"
    if settings.past == EQUAL:
        return f"at no fork ({many}) do a better and a worse run have equal pasts; omit --past {EQUAL}"
    return f"no fork ({many}) has two options that --mode {settings.mode} compares"


def _why(partings: list[Parting], tasks: int) -> str:
    if not partings:
        return "the runs of each task do the same as far as each goes; sample more of them, or at a higher temperature"
    what, count = Counter(p.what for p in partings).most_common(1)[0]
    example = next(p for p in partings if p.what == what)
    if what != "observation":
        help = "only runs that began with the same prompt can be compared"
    else:
        help = "if these mean the same, merge by meaning (trajtree build --merge semantic)"
        help += ", or compare whole runs (--mode whole)" if example.step else ""
    return f"in {count} of {counted(tasks, 'task')} the runs diverge in the {what}, for example in {example}; {help}"


def _apart(one: Context, other: Context) -> tuple[str, str, str]:
    """What differs between two contexts, and the two texts."""
    for role, what in (("system", "system prompt"), (None, "prompt")):
        texts = ["\n".join(m.content for m in context[0] if role in (None, m.role)) for context in (one, other)]
        if texts[0] != texts[1]:
            return what, texts[0], texts[1]
    if one[2] != other[2]:
        return "tools", "\n".join(one[2]), "\n".join(other[2])
    return "prompt", repr((one[0], one[1])), repr((other[0], other[1]))


def _cut(one: str, other: str) -> tuple[str, str]:
    """Both texts from a little before where they begin to differ."""
    same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    begin = max(0, same - _SHOWN // 3)
    cut = ("..." if begin else "") + "{}"
    return cut.format(one[begin : begin + _SHOWN]), cut.format(other[begin : begin + _SHOWN])


__all__ = ["Parting", "first_parting", "why_no_pair"]
