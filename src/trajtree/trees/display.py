"""Trees as people see them at a prompt and in a notebook: a line each, or an outline to unfold."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from trajtree.errors import counted

if TYPE_CHECKING:
    from trajtree.trajectory import Trajectory
    from trajtree.trees.tree import TrajectoryTree

_LINES = 20
"""Largest number of trees with a line of their own."""
_NODES = 200
"""Largest number of nodes in an outline; `trajtree show --html` has them all."""
_LONGEST = 100
"""Characters of an action; longer ones are cut."""


def line_of(tree: TrajectoryTree) -> str:
    """A tree in a line: its task, its size, its scores."""
    return f"<TrajectoryTree {_summary(tree)}>"


def _summary(tree: TrajectoryTree) -> str:
    runs, forks = len(tree.trajectories), sum(1 for _ in tree.forks())
    if tree.unscored:
        scores = f"{tree.unscored:,} without a score"
    else:
        scores = f"scores {float(tree.scores.min()):.2f} to {float(tree.scores.max()):.2f}"
    counts = ", ".join(counted(*each) for each in ((runs, "run"), (len(tree) - 1, "node"), (forks, "fork")))
    return f"{_short(tree.task)!r}: {counts}, {scores}"


def _worth(tree: TrajectoryTree, node: int) -> str:
    """The mean score and number of the runs that count at a node."""
    visits = int(tree.visits[node])
    # Not `mean`, which is made for all nodes at once.
    return counted(visits, "run") if tree.unscored else f"{float(tree.score_sum[node]) / visits:.2f} of {visits}"


def sketch(tree: TrajectoryTree, *, most: int = 8) -> list[str]:
    """A tree in a few lines of text: its task, then the `most` uppermost stretches without a fork.

    A line has a stretch's first action, how many steps follow it, and the mean score and number of its runs.
    """
    # Breadth first, so that what is left out lies deep.
    queue = [(node, 1) for node in tree.children_of(tree.ROOT)]
    taken: list[tuple[int, int]] = []
    ends: dict[int, int] = {}
    for node, deep in queue:
        if len(taken) == most:
            break
        taken.append((node, deep))
        end = node
        while len(below := tree.children_of(end)) == 1:
            end = below[0]
        ends[node] = end
        queue += [(child, deep + 1) for child in below]
    lines = [_summary(tree)]
    for node, deep in sorted(taken):
        more = int(tree.depth[ends[node]] - tree.depth[node])
        lines.append(f"{'  ' * deep}{_short(tree.action[node])}{f' +{more}' if more else ''}  {_worth(tree, node)}")
    left = len(queue) - len(taken)
    return [*lines, f"  and {left:,} more"] if left else lines


def episode(run: Trajectory, *, most: int = 8) -> list[str]:
    """An episode in a few lines of text: its task and score, then the first `most` actions.

    Before each action stands the first line of what the agent was shown.
    """
    score = "no score" if run.unscored else f"score {run.score:.2f}"
    lines = [f"{_short(run.task)!r}: {counted(len(run.steps), 'action')}, {score}"]
    for step in run.steps[:most]:
        shown = step.observation.strip().partition("\n")[0]
        lines += [f"  {_short(shown)}", f"  > {_short(step.action)}"]
    left = len(run.steps) - most
    return [*lines, f"  and {left:,} more"] if left > 0 else lines


def lines_of(trees: Sequence[TrajectoryTree]) -> str:
    """Trees in a line each, and how many more there are."""
    lines = [f"{counted(len(trees), 'tree')}:", *(f"  {line_of(tree)}" for tree in trees[:_LINES])]
    return "\n".join([*lines, *([f"  and {len(trees) - _LINES} more"] if len(trees) > _LINES else [])])


def outline(tree: TrajectoryTree, *, opened: bool = True) -> str:
    """A tree as HTML: an outline in which a decision can be unfolded, with the mean score and number of its runs."""
    found: list[str] = []
    # Nodes are numbered depth first, so an outline is written in their order; ends[-1] is where the open list ends.
    ends: list[int] = []
    for node in range(1, min(len(tree), _NODES + 1)):
        while ends and node >= ends[-1]:
            found.append("</ul></li>")
            ends.pop()
        found.append(f"<li>{escape(_short(tree.action[node]))} <small>{_worth(tree, node)}</small>")
        if tree.children[node]:
            found.append("<ul>")
            ends.append(int(tree.subtree_end[node]))
        else:
            found.append("</li>")
    found += ["</ul></li>"] * len(ends)
    left = len(tree) - 1 - _NODES
    more = f"<p>and {counted(left, 'more node')}: trajtree show --html shows all</p>" if left > 0 else ""
    head = escape(_summary(tree))
    return f"<details{' open' if opened else ''}><summary>{head}</summary><ul>{''.join(found)}</ul>{more}</details>"


def outlines(trees: Sequence[TrajectoryTree]) -> str:
    """Several trees as HTML, each folded."""
    shown = "".join(outline(tree, opened=False) for tree in trees[:_LINES])
    more = f"<p>and {len(trees) - _LINES} more</p>" if len(trees) > _LINES else ""
    return f"<p>{counted(len(trees), 'tree')}</p>{shown}{more}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


__all__ = ["episode", "line_of", "lines_of", "outline", "outlines", "sketch"]
