"""Paths that nobody sampled: joined where runs came to the same state, shortened where steps won nothing.

A tree holds only what was sampled. Nodes of different branches that are one state of the environment make a graph,
whose best simple path may begin with one run and end with another; and a run may have steps that it would do as
well without. Both are guesses, since what the agent saw is not all that there is. So they are proposals until
they have been played, and count with the score that they really got.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

from trajtree.errors import DataError
from trajtree.trajectory import SCORE_TOLERANCE, Trajectory
from trajtree.trees.tree import TrajectoryTree

State = Callable[[Trajectory, int], Hashable]
"""What a trajectory's state is after its first n steps; equal values join."""

Replay = Callable[[str, Sequence[str]], Trajectory]
"""Plays actions in a task from its beginning and returns what really happened."""

_EXPANSIONS = 20_000
"""Paths looked at in one tree's graph before the search is content with what it has."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Actions that might score `expected`; nothing is known before they are played."""

    task: str
    actions: tuple[str, ...]
    expected: float

    def could_beat(self, best: Trajectory) -> bool:
        """Whether it would be better than `best` if it scored as expected: by score, or as much in fewer steps."""
        return (-self.expected, len(self.actions)) < (-best.score, len(best.steps))


@dataclass(frozen=True, slots=True)
class Stitched:
    """What stitching came to in one task.

    Attributes:
        task: the task.
        best: the best trajectory known: sampled, or played here.
        sampled_score, sampled_steps: of the best that was sampled.
        played: how many proposals were played.
    """

    task: str
    best: Trajectory
    sampled_score: float
    sampled_steps: int
    played: int

    @property
    def gained(self) -> bool:
        """Whether a played proposal beats every sample: by score, or by fewer steps for the same score."""
        return self.improves_score or len(self.best.steps) < self.sampled_steps

    @property
    def improves_score(self) -> bool:
        """Whether a played proposal scored more than every sample."""
        return self.best.score > self.sampled_score + SCORE_TOLERANCE


def seen(trajectory: Trajectory, step: int) -> Hashable:
    """What the agent sees, as the state; states at the end of a trajectory are joined with none."""
    if step == len(trajectory.steps):
        return None
    return " ".join(trajectory.steps[step].observation.split())


def propose(
    tree: TrajectoryTree, *, state: State = seen, limit: int = 8, max_steps: int | None = None
) -> list[Proposal]:
    """The best paths without idle loops in the graph of states that no trajectory of the tree is, best first.

    A path's expected score is the sum of the rewards along it, at most 1; a trajectory's score that its rewards do
    not account for counts at its last step. Shorter paths win ties.

    Args:
        tree: the tree.
        state: what makes two places one state.
        limit: most proposals.
        max_steps: longest path; by default the longest trajectory.
    """
    longest = max((len(t.steps) for t in tree.trajectories), default=0) if max_steps is None else max_steps
    edges = _edges(tree, state)
    sampled = {tuple(s.action for s in t.steps) for t in tree.trajectories}
    found: dict[tuple[str, ...], float] = {}
    for start in dict.fromkeys(_node(t, 0, state) for t in tree.trajectories):
        for expected, actions in _best_first(edges, start, longest, limit + len(sampled)):
            if actions not in sampled:
                found[actions] = max(expected, found.get(actions, 0.0))
    ranked = sorted(found.items(), key=lambda item: (-item[1], len(item[0]), item[0]))[:limit]
    return [Proposal(tree.task, actions, expected) for actions, expected in ranked]


def stitch(
    tree: TrajectoryTree, play: Replay, *, state: State = seen, attempts: int = 8, max_steps: int | None = None
) -> Stitched:
    """Play the proposals that could beat the best sample, then leave out of the best what wins nothing.

    Args:
        tree: the tree.
        play: plays actions; the trajectory that it returns is believed.
        state: what makes two places one state.
        attempts: most proposals played before shortening.
        max_steps: longest path; by default the longest trajectory.
    """
    sampled = best_sample(tree)
    best, played = sampled, 0
    for proposal in propose(tree, state=state, limit=attempts, max_steps=max_steps):
        if proposal.could_beat(best):
            played += 1
            best = _better(best, play(tree.task, proposal.actions).without_idle_end())
    best, replays = shorten(best, play)
    if best is not sampled:
        best = replace(best, sample=1 + max(t.sample for t in tree.trajectories))
    return Stitched(tree.task, best, sampled.score, len(sampled.steps), played + replays)


def best_sample(tree: TrajectoryTree) -> Trajectory:
    """The sample with the best score, up to its last gain; the shorter wins ties, then the earlier."""
    cut = (t.without_idle_end() for t in tree.trajectories)
    return min(cut, key=lambda t: (-t.score, len(t.steps), t.sample))


def shorten(trajectory: Trajectory, play: Replay) -> tuple[Trajectory, int]:
    """Leave out steps that won nothing, longest stretches first, as long as the score does not fall.

    A look that shows what a later action names wins nothing by itself, but without it nobody who does not know the
    answer could act so. It stays: no action that is kept may name what has not been seen by then, if it had before.

    Returns the shortest trajectory found, `trajectory` itself if none is, and how many were played.
    """
    best, played, position = trajectory, 0, 0
    tried: set[tuple[str, ...]] = set()
    while position < len(best.steps):
        actions = tuple(step.action for step in best.steps)
        for end in range(_idle_until(best, position), position, -1):
            without = actions[:position] + actions[end:]
            if not without or without in tried:
                continue
            tried.add(without)
            played += 1
            shorter = _better(best, play(best.task, without).without_idle_end())
            if shorter is not best and _still_seen(best, shorter, position, end):
                best = shorter
                break
        else:
            position += 1
    return best, played


def _better(best: Trajectory, other: Trajectory) -> Trajectory:
    if other.outcome.is_fault:
        raise DataError(f"{other.task}: a proposal met an environment error when it was played: {other.error}")
    gain = other.score - best.score
    shorter = len(other.steps) < len(best.steps)
    return other if gain > SCORE_TOLERANCE or (gain > -SCORE_TOLERANCE and shorter) else best


def _still_seen(before: Trajectory, after: Trajectory, position: int, end: int) -> bool:
    """Whether each action after the stretch [position, end) that `after` leaves out names nothing newly unseen."""
    moved = zip(range(position, len(after.steps)), range(end, len(before.steps)), strict=False)
    return all(_unseen(after, new) <= _unseen(before, old) for new, old in moved)


def _unseen(trajectory: Trajectory, step: int) -> set[str]:
    """Words of a step's action that were in nothing seen until then."""
    shown = {word for s in trajectory.steps[: step + 1] for word in _words(s.observation)}
    return set(_words(trajectory.steps[step].action)) - shown


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _idle_until(trajectory: Trajectory, position: int) -> int:
    """End of the stretch of steps from `position` that changed the score by nothing."""
    end = position
    while end < len(trajectory.steps) and abs(trajectory.steps[end].reward) <= SCORE_TOLERANCE:
        end += 1
    return end


def _node(trajectory: Trajectory, step: int, state: State) -> Hashable:
    """The state, or a place of the trajectory's own where the state is nobody else's."""
    known = state(trajectory, step)
    return (trajectory.sample, step) if known is None else (known,)


Edge = tuple[str, float, Hashable, bool]
"""Action, reward, where it leads, and whether a trajectory ends there."""


def _edges(tree: TrajectoryTree, state: State) -> dict[Hashable, list[Edge]]:
    edges: dict[Hashable, dict[Edge, None]] = {}
    for trajectory in tree.trajectories:
        rest = trajectory.score - sum(step.reward for step in trajectory.steps)
        for number, step in enumerate(trajectory.steps):
            last = number == len(trajectory.steps) - 1
            reward = round(step.reward + (rest if last else 0.0), 9)
            edge = (step.action, reward, _node(trajectory, number + 1, state), last)
            edges.setdefault(_node(trajectory, number, state), {})[edge] = None
    return {node: list(out) for node, out in edges.items()}


def _best_first(
    edges: dict[Hashable, list[Edge]], start: Hashable, longest: int, wanted: int
) -> Iterator[tuple[float, tuple[str, ...]]]:
    """Paths that end where a trajectory ended or won something, best first while expansions last.

    A path comes back to a state only with more won than before, and wins nothing twice by one and the same step.
    """
    bound = _bounds(edges, longest)
    count = 0
    # (minus the most that can come of it, length, order of arrival, whether it ends here, won so far, path)
    heap = [(-min(1.0, bound[longest].get(start, 0.0)), 0, 0, False, 0.0, _Path((), start, frozenset({(start, 0.0)})))]
    while heap and count < _EXPANSIONS and wanted:
        _, length, _, ended, won, path = heapq.heappop(heap)
        if ended:
            wanted -= 1
            yield min(1.0, max(0.0, won)), path.actions
            continue
        for edge in edges.get(path.state, ()) if length < longest else ():
            action, gain, state, ends = edge
            total = round(won + gain, 9)
            mark = (state, total) if abs(gain) <= SCORE_TOLERANCE else (path.state, edge)
            if mark in path.marks:
                continue
            count += 1
            further = _Path((*path.actions, action), state, path.marks | {mark, (state, total)})
            if ends or gain > 0:
                heapq.heappush(heap, (-min(1.0, total), length + 1, count, True, total, further))
            most = bound[longest - length - 1].get(state)
            if most is not None:
                heapq.heappush(heap, (-min(1.0, total + most), length + 1, -count, False, total, further))


@dataclass(frozen=True, slots=True)
class _Path:
    """A way through the graph; `marks` are what it must not do again."""

    actions: tuple[str, ...]
    state: Hashable
    marks: frozenset[Hashable]


def _bounds(edges: dict[Hashable, list[Edge]], longest: int) -> list[dict[Hashable, float]]:
    """[longest + 1] most that can still be won from each state in so many steps, if states could be seen again."""
    bounds: list[dict[Hashable, float]] = [{}]
    for _ in range(longest):
        before = bounds[-1]
        bounds.append(
            {node: max(gain + max(0.0, before.get(to, 0.0)) for _, gain, to, _ in out) for node, out in edges.items()}
        )
    return bounds


__all__ = ["Proposal", "Replay", "State", "Stitched", "best_sample", "propose", "seen", "shorten", "stitch"]
