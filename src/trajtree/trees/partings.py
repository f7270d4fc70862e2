"""Where the runs of a task first diverge, and why trees yield no pairs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import numpy as np

from trajtree.errors import counted
from trajtree.trajectory import SCORE_TOLERANCE, Context
from trajtree.trees.alike_calls import alike_calls
from trajtree.trees.forks import AGGREGATES, MODES, PairSettings
from trajtree.trees.pair import LOOSEST, least_gap
from trajtree.trees.sameness import ACTIONS, FIRST_MESSAGE, IGNORABLE, Ignoring
from trajtree.trees.tree import TrajectoryTree
from trajtree.trees.whole_runs import prompts_apart, whole

_SHOWN = 60
"""Length of quoted texts, in characters."""
_COMPARED = 12
"""Number of a fork's options that are compared with each other."""
_CLOSING = re.compile(r"</([A-Za-z][\w-]{0,30})>")
_EXAMPLES = 3
"""Number of partings kept per kind."""
SAME = "would treat these texts as the same"
_LONGEST = 1 << 16
"""Length from which texts are not searched for what could be ignored."""


@dataclass(frozen=True, slots=True)
class Parting:
    """The first place at which the runs of a task differ.

    Attributes:
        task: the task.
        step: how many steps they have in common.
        what: what differs there: "system prompt", "tools", "prompt", "observation" or "action". Only a difference in
            actions is the agent's decision, and so a fork.
        texts: two of the different texts, from shortly before where they begin to differ.
        remedy: options of `trajtree build` under which these two texts are the same; "" if none of those that could be
            tried makes them the same.
        calls: if they are calls that seem to do the same, what they differ in; "" otherwise.
    """

    task: str
    step: int
    what: str
    texts: tuple[str, str]
    remedy: str = field(default="", compare=False)
    calls: str = field(default="", compare=False)

    def __str__(self) -> str:
        """As text, for example: task kitchen/1, observation of step 2: 'It is 10:31' against 'It is 10:32'."""
        where = f" of step {self.step + 1}" if self.what in ("observation", "action") else ""
        return f"task {self.task}, {self.what}{where}: {self.texts[0]!r} against {self.texts[1]!r}"


def first_parting(tree: TrajectoryTree) -> Parting | None:
    """Where the runs of a tree first diverge; None if all of them do the same, as far as each goes."""
    node = TrajectoryTree.ROOT
    while children := tree.children_of(node):
        step = int(tree.depth[node])
        situations = list(dict.fromkeys(tree.decision[children].tolist()))
        if len(situations) > 1:
            one, other = (tree.observation[child] for child in situations[:2])
            what, remedy = "observation", ""
            if step == 0:
                runs = [tree.trajectories[int(tree.first[child])] for child in situations[:2]]
                contexts = [Ignoring(tree.merging.ignore).context(run.context) for run in runs]
                if contexts[0] != contexts[1]:
                    what, one, other = _apart(*contexts)
                elif all(any(m.role == "user" for m in run.context.opening) for run in runs):
                    remedy = f"--ignore {FIRST_MESSAGE}"
            remedy = _further(tree, _ignoring(one, other) or remedy)
            return Parting(tree.task, step, what, shown_apart(one, other), remedy)
        if len(children) > 1:
            return _of_actions(tree, step, children)
        (node,) = children
    return None


def _of_actions(tree: TrajectoryTree, step: int, children: Sequence[int]) -> Parting:
    """Where runs of a task act differently, with the option under which they do not, if there is one."""
    one, other = children[:2]
    remedy = calls = ""
    if tree.merging.action is None:
        # Nothing to ignore: what an action names, such as a commit, may be the very decision.
        for pair in combinations(children[:_COMPARED], 2):
            if remedy := _acting(tree.action[pair[0]], tree.action[pair[1]]):
                one, other = pair
                break
        if not remedy and (found := alike_calls(tree, children)) is not None:
            one, other = found.options
            remedy = f"--action {found.field}"
            calls = f"calls of {found.tools} that differ only in {', '.join(found.others)}"
    texts = shown_apart(tree.action[one], tree.action[other])
    return Parting(tree.task, step, "action", texts, _further(tree, remedy), calls)


def why_no_pair(trees: Iterable[TrajectoryTree], settings: PairSettings) -> str:
    """One sentence on why these trees yield no pairs, with the first place where runs diverge and what may help."""
    found = Divergence(settings)
    for tree in trees:
        found.add(tree)
    reason, examples, remedy = found.verdict()
    example = f", for example in {examples[0]}" if examples else ""
    return f"{reason}{example}" + (f"; {remedy}" if remedy else "")


class Reworded(NamedTuple):
    """Tasks whose runs seem to differ only in wording where they first diverge: how many, and one with the option."""

    tasks: int
    example: Parting


class Lacking(NamedTuple):
    """Tasks that have no fork with a gap, all for the same reason: how many, why, and one with what may help."""

    tasks: int
    reason: str
    example: str


class Verdict(NamedTuple):
    """Why there are no pairs, up to three places that show it, and what may help."""

    reason: str
    examples: list[Parting]
    remedy: str


class Divergence:
    """How the runs of trees diverge, tree by tree, and why there are no pairs where there are none."""

    def __init__(self, settings: PairSettings) -> None:
        self.settings = settings
        self.tasks = self.alone = self.forks = 0
        self._aggregate = AGGREGATES[settings.aggregate].aggregate(settings)
        self._widest = self._different = 0.0
        self._apart = self._comparable = self._alike = 0
        self._kinds: Counter[str] = Counter()
        self._examples: dict[str, list[Parting]] = {}
        self._reworded: dict[str, Reworded] = {}
        self._lacking: dict[str, Lacking] = {}

    def add(self, tree: TrajectoryTree) -> list[float]:
        """Take a tree into account; returns by how much the options at each of its forks differ."""
        self.tasks += 1
        self.alone += len(tree.trajectories) == 1
        self._different = max(self._different, float(np.ptp(tree.scores)))
        value = self._aggregate(tree)
        gaps = [float(np.ptp(value[children])) for _, children in tree.decisions()]
        self.forks += len(gaps)
        self._widest = max([self._widest, *gaps])
        if not MODES[self.settings.mode].at_forks:
            self._add_whole(tree)
        parting = first_parting(tree)
        if parting is not None:
            self._kinds[parting.what] += 1
            kept = self._examples.setdefault(parting.what, [])
            if len(kept) < _EXAMPLES:
                kept.append(parting)
            if parting.what == "action" and parting.remedy:
                before = self._reworded.get(parting.remedy, Reworded(0, parting))
                self._reworded[parting.remedy] = before._replace(tasks=before.tasks + 1)
        if not any(gap >= least_gap(self.settings.min_gap) for gap in gaps):
            lack = _lack(tree, gaps, parting)
            first = self._lacking.get(lack.reason, lack._replace(tasks=0))
            self._lacking[lack.reason] = first._replace(tasks=first.tasks + 1)
        return gaps

    def _add_whole(self, tree: TrajectoryTree) -> None:
        """Take into account whether two whole runs of a tree can be compared, and whether their pasts allow it."""
        gap = self.settings.min_gap
        self._apart += prompts_apart(tree, min_gap=gap)
        self._comparable += len(whole(tree, min_gap=gap, per_tree=1))
        self._alike += len(whole(tree, min_gap=gap, per_tree=1, past=self.settings.past))

    def reworded(self) -> Reworded | None:
        """The option that would help most tasks, of those whose runs seem to do the same in other words."""
        return max(self._reworded.values(), key=lambda found: found.tasks, default=None)

    def lacking(self) -> list[Lacking]:
        """Why tasks have no fork with a gap, the reasons of most tasks first."""
        return sorted(self._lacking.values(), key=lambda found: -found.tasks)

    @property
    def without(self) -> int:
        """Number of tasks that have no fork with a gap."""
        return sum(found.tasks for found in self._lacking.values())

    def verdict(self) -> Verdict:
        """Why there are no pairs; call it only if there are none."""
        settings = self.settings
        if self.alone == self.tasks:
            tasks = counted(self.tasks, "task")
            remedy = (
                "if these are runs of the same task, import them into a new store with --task FIELD, which names it"
            )
            return Verdict(
                f"there is one run per task ({tasks}), and a pair needs two runs of the same task",
                [],
                remedy if self.tasks > 1 else "",
            )
        if self._different <= SCORE_TOLERANCE:
            return Verdict("all runs of each task score the same, so none is better than another", [], "")
        if MODES[settings.mode].at_forks:
            return self._of_forks()
        if (found := self._of_whole_runs()) is not None:
            return found
        found, what = self._of_forks(), f"--mode {settings.mode} takes as many pairs as there are at forks"
        return found._replace(reason=f"{what}: {found.reason}")

    def _of_whole_runs(self) -> Verdict | None:
        """Why no two whole runs are a pair; None if some are."""
        settings, gap = self.settings, f"{self.settings.min_gap:g}"
        if self._different < least_gap(settings.min_gap):
            reason = f"no two scores of a task differ by {gap}, at most by {self._different:.3g}"
            return Verdict(reason, [], "lower --min-gap")
        if self._apart and not self._comparable:
            begun = [p for kept in self._examples.values() for p in kept if p.step == 0 and p.what != "action"]
            reason = f"runs whose scores differ by {gap} began with different prompts"
            return Verdict(reason, begun[:_EXAMPLES], _remedy(begun[:_EXAMPLES]) if begun else "")
        if not self._comparable:
            reason = f"of two runs whose scores differ by {gap}, both did the same throughout, or one took no step"
            return Verdict(reason, [], "")
        if not self._alike:
            reason = f"no two runs whose scores differ by {gap} have {settings.past} pasts"
            return Verdict(reason, [], f"omit --past {settings.past}")
        return None

    def _of_forks(self) -> Verdict:
        """Why there is no pair at a fork."""
        settings, many = self.settings, counted(self.forks, "fork")
        if not self.forks:
            none = "there is no fork, where the agent saw the same thing and acted differently"
            if not self._kinds:
                same = "the runs of each task do the same as far as each goes"
                return Verdict(f"{none}: {same}", [], "sample more of them, or at a higher temperature")
            what, count = self._kinds.most_common(1)[0]
            reason = f"{none}: in {count} of {counted(self.tasks, 'task')} the runs diverge in the {what}"
            return Verdict(reason, self._examples[what], _remedy(self._examples[what]))
        if self._widest <= SCORE_TOLERANCE:
            reason = f"on both sides of each fork ({many}) the runs score the same on average, so no side is better"
            return Verdict(reason, [], "")
        if self._widest < least_gap(settings.min_gap):
            reason = f"the widest gap of {many} is {self._widest:.3g}, less than {settings.min_gap:g}"
            return Verdict(reason, [], "lower --min-gap")
        if settings.past != LOOSEST:
            reason = f"at no fork ({many}) do a better and a worse run have {settings.past} pasts"
            return Verdict(reason, [], f"omit --past {settings.past}")
        return Verdict(f"no fork ({many}) has two options that --mode {settings.mode} compares", [], "")


def _lack(tree: TrajectoryTree, gaps: Sequence[float], parting: Parting | None) -> Lacking:
    """Why a tree has no fork with a gap."""
    runs, example = len(tree.trajectories), f"task {tree.task}"
    if runs == 1:
        return Lacking(1, "there is only one run", example)
    if float(np.ptp(tree.scores)) <= SCORE_TOLERANCE:
        return Lacking(1, "all runs score the same", f"{example}: {runs} runs score {tree.scores[0]:.3g}")
    if gaps:
        reason = "the runs on the sides of a fork score nearly the same on average"
        return Lacking(1, reason, f"{example}: the widest gap of {counted(len(gaps), 'fork')} is {max(gaps):.3g}")
    if parting is None:
        return Lacking(1, "the runs do the same as far as each goes", example)
    return Lacking(1, f"the runs diverge in the {parting.what}", f"{parting}; {_remedy([parting])}")


def _remedy(examples: Sequence[Parting]) -> str:
    """What may help where runs diverge although the agent did not act differently."""
    options = list(dict.fromkeys(p.remedy for p in examples if p.remedy))
    if options:
        return f"trajtree build {' or '.join(options)} {SAME}"
    if examples[0].what != "observation":
        help = "only runs that began with the same prompt can be compared"
        return f"{help}; if the prompts mean the same, merge by meaning (trajtree build --merge semantic)"
    help = "if these mean the same, merge by meaning (trajtree build --merge semantic)"
    return help + (", or compare whole runs (--mode whole)" if examples[0].step else "")


def _further(tree: TrajectoryTree, remedy: str) -> str:
    """The options that the tree was built with, and further ones; "" if there are no further ones."""
    return f"{tree.merging.options} {remedy}".strip() if remedy else ""


def _ignoring(one: str, other: str) -> str:
    """The shortest list of --ignore under which two texts are the same; "" if there is none."""
    if max(len(one), len(other)) > _LONGEST:
        return ""
    names = [name for name in IGNORABLE if name != FIRST_MESSAGE]

    def same(rules: Sequence[str]) -> bool:
        ignoring = Ignoring(rules)
        return ignoring(one).strip() == ignoring(other).strip()

    if not same(names):
        return ""
    # The narrow ones come first in the table, so the broad ones are dropped first: a container's id is not a commit.
    for name in reversed(names):
        fewer = [other for other in names if other != name]
        if same(fewer):
            names = fewer
    return " ".join(f"--ignore {name}" for name in names)


def _acting(one: str, other: str) -> str:
    """The --action under which two replies are the same; "" if there is none."""
    for name, part in ACTIONS.items():
        found = part.of(one)
        if found is not None and found == part.of(other):
            return f"--action {name}"
    tagged = _last_tagged(one)
    if tagged is not None and tagged == _last_tagged(other):
        lines = "(?s)" if "\n" in tagged[1] else ""
        return f"--action '{lines}<{tagged[0]}>(.*?)</{tagged[0]}>'"
    return ""


def _last_tagged(reply: str) -> tuple[str, str] | None:
    """The last tag in which a reply says something, and what it says: `<act>look</act>`. None if there is none."""
    closings = list(_CLOSING.finditer(reply))
    if not closings:
        return None
    closing = closings[-1]
    opening = f"<{closing[1]}>"
    begin = reply.rfind(opening, 0, closing.start())
    return None if begin < 0 else (closing[1], reply[begin + len(opening) : closing.start()])


def _apart(one: Context, other: Context) -> tuple[str, str, str]:
    """What differs between two contexts, and the two texts."""
    for role, what in (("system", "system prompt"), (None, "prompt")):
        texts = [
            "\n".join(m.content for m in (*context.given, *context.opening) if role in (None, m.role))
            for context in (one, other)
        ]
        if texts[0] != texts[1]:
            return what, texts[0], texts[1]
    if one.tools != other.tools:
        return "tools", "\n".join(one.tools), "\n".join(other.tools)
    return "prompt", repr(one[:2]), repr(other[:2])


def shown_apart(one: str, other: str) -> tuple[str, str]:
    """Both texts from a little before where they begin to differ."""
    same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    begin = max(0, same - _SHOWN // 3)
    cut = ("..." if begin else "") + "{}"
    return cut.format(one[begin : begin + _SHOWN]), cut.format(other[begin : begin + _SHOWN])


__all__ = [
    "SAME",
    "Divergence",
    "Lacking",
    "Parting",
    "Reworded",
    "Verdict",
    "first_parting",
    "shown_apart",
    "why_no_pair",
]
