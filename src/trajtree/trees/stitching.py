"""Paths that were never sampled: joined where trajectories reach the same state, shortened where steps gained nothing.

A tree holds only what was sampled. Joining nodes of different branches that are the same state of the environment
gives a graph. Its best path may begin with one trajectory and end with another, and a trajectory may do as well
without some of its steps. Both are guesses, because the agent does not see the whole state. So they are only proposals
until they have been played, and then count with the score they really received.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Hashable, Iterator, Sequence, Set
from dataclasses import dataclass, replace

from trajtree.errors import DataError
from trajtree.trajectory import SCORE_TOLERANCE, Outcome, Trajectory
from trajtree.trees.tree import TrajectoryTree
from trajtree.trees.values import foremost

State = Callable[[Trajectory, int], Hashable]
"""The state of a trajectory after its first n steps; equal states are joined. None for a state unlike any other."""

Replay = Callable[[str, Sequence[str]], Trajectory]
"""Plays actions in a task from its beginning and returns what really happened."""

_EXPANSIONS = 20_000
"""Number of paths extended per start state before the search of a tree's graph gives up."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Actions that are expected to score `expected`; their real score is unknown until they are played."""

    task: str
    actions: tuple[str, ...]
    expected: float

    def could_beat(self, best: Trajectory) -> bool:
        """Whether it would be better than `best` if it scored as expected: more, or the same in fewer steps."""
        gain = self.expected - best.score
        return gain > SCORE_TOLERANCE or (gain > -SCORE_TOLERANCE and len(self.actions) < len(best.steps))


@dataclass(frozen=True, slots=True)
class Stitched:
    """The result of stitching in one task.

    Attributes:
        task: the task.
        best: the best trajectory known, either sampled or played here.
        sampled_score, sampled_steps: score and number of steps of the best sample.
        played: how many proposals were played.
    """

    task: str
    best: Trajectory
    sampled_score: float
    sampled_steps: int
    played: int

    @property
    def gained(self) -> bool:
        """Whether a played proposal beats every sample, by its score or with fewer steps for the same score."""
        return self.improves_score or len(self.best.steps) < self.sampled_steps

    @property
    def improves_score(self) -> bool:
        """Whether a played proposal scored more than every sample."""
        return self.best.score > self.sampled_score + SCORE_TOLERANCE


def seen(trajectory: Trajectory, step: int) -> Hashable:
    """What the agent sees, as the state; the state after a trajectory's last step is never joined with another."""
    if step == len(trajectory.steps):
        return None
    return " ".join(trajectory.steps[step].observation.split())


def propose(
    tree: TrajectoryTree, *, state: State = seen, limit: int = 8, max_steps: int | None = None
) -> list[Proposal]:
    """The best paths in the graph of states, best first, without idle loops and without sampled paths.

    The expected score of a path is the sum of the rewards along it, at most 1. If a trajectory's rewards do not add up
    to its score, the difference is added to its last step's reward. Ties go to the shorter path.

    Args:
        tree: the tree.
        state: decides which states are the same.
        limit: largest number of proposals.
        max_steps: largest length of a path; by default that of the longest trajectory.
    """
    tree.check_scored()
    longest = max((len(t.steps) for t in tree.trajectories), default=0) if max_steps is None else max_steps
    edges = _edges(tree, state)
    sampled = {tuple(s.action for s in t.steps) for t in tree.trajectories}
    # found: expected score by actions; of several paths with the same actions, the best counts.
    found: dict[tuple[str, ...], float] = {}
    for start in dict.fromkeys(_node(t, 0, state) for t in tree.trajectories):
        for expected, actions in _best_first(edges, start, longest, limit, sampled):
            found[actions] = max(expected, found.get(actions, 0.0))
    ranked = sorted(found.items(), key=lambda item: (-item[1], len(item[0]), item[0]))[:limit]
    return [Proposal(tree.task, actions, expected) for actions, expected in ranked]


def stitch(
    tree: TrajectoryTree, play: Replay, *, state: State = seen, attempts: int = 8, max_steps: int | None = None
) -> Stitched:
    """Play the proposals that could beat the best sample, then shorten the best trajectory known.

    Args:
        tree: the tree.
        play: plays actions; only the scores that it returns count.
        state: decides which states are the same.
        attempts: largest number of proposals before shortening.
        max_steps: largest length of a path; by default that of the longest trajectory.
    """
    sampled = best_sample(tree)
    best, played = sampled, 0
    for proposal in propose(tree, state=state, limit=attempts, max_steps=max_steps):
        if proposal.could_beat(best):
            played += 1
            best = _better(best, play(tree.task, proposal.actions).without_idle_end())
    best, replays = shorten(best, play)
    sample = best.sample if best is sampled else 1 + max(t.sample for t in tree.trajectories)
    # It is used without the other trajectories, so it must not refer to the one that it branched off.
    best = replace(best, origin=None, sample=sample)
    return Stitched(tree.task, best, sampled.score, len(sampled.steps), played + replays)


def best_sample(tree: TrajectoryTree) -> Trajectory:
    """The sample with the best score, up to its last gain.

    Ties go to one that the environment completed, then to the shorter, then to the earlier one.
    """
    tree.check_scored()
    cut = (t.without_idle_end() for t in tree.trajectories)
    return foremost((-t.score, not _completed(t), len(t.steps), t.sample, t) for t in cut)[-1]


def shorten(trajectory: Trajectory, play: Replay) -> tuple[Trajectory, int]:
    """Remove steps that gained nothing, longest stretches first, as long as the score does not fall.

    A step that only reads something gains nothing by itself, but without it a later action that names what was read
    could only be a lucky guess. So such steps stay: if the words of an action had been seen before it in the
    trajectory, they must also have been seen before it in the shortened one.

    Returns:
        The shortest trajectory found, which may be `trajectory` itself, and how many were played.
    """
    best, played, position = trajectory, 0, 0
    tried: set[tuple[str, ...]] = set()
    while position < len(best.steps):
        actions = tuple(step.action for step in best.steps)
        # After a stretch is removed, the same position is tried again in the trajectory that was played.
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
    """`other` if it scores more than `best`, or the same with fewer steps, else `best`.

    One that was not completed is not the same as one that was: its end is missing.
    """
    if other.outcome.is_fault:
        raise DataError(f"{other.task}: the environment failed while a proposal was played: {other.error}")
    gain = other.score - best.score
    shorter = len(other.steps) < len(best.steps) and _completed(other) >= _completed(best)
    return other if gain > SCORE_TOLERANCE or (gain > -SCORE_TOLERANCE and shorter) else best


def _completed(trajectory: Trajectory) -> bool:
    return trajectory.outcome is Outcome.COMPLETED


def _still_seen(before: Trajectory, after: Trajectory, position: int, end: int) -> bool:
    """Whether no action in `after` names something unseen that had been seen before it in `before`.

    `after` is `before` without the steps [position, end), so only later actions are affected.
    """
    moved = zip(range(position, len(after.steps)), range(end, len(before.steps)), strict=False)
    return all(_unseen(after, new) <= _unseen(before, old) for new, old in moved)


def _unseen(trajectory: Trajectory, step: int) -> set[str]:
    """Words of a step's action that occur in no observation up to that step."""
    shown = {word for s in trajectory.steps[: step + 1] for word in _words(s.observation)}
    return set(_words(trajectory.steps[step].action)) - shown


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _idle_until(trajectory: Trajectory, position: int) -> int:
    """Exclusive end of the stretch of steps from `position` on that left the score unchanged."""
    end = position
    while end < len(trajectory.steps) and abs(trajectory.steps[end].reward) <= SCORE_TOLERANCE:
        end += 1
    return end


def _node(trajectory: Trajectory, step: int, state: State) -> Hashable:
    """The node of the graph for a state: a node of the trajectory's own if the state is not joined with others."""
    # Tuples of length 1 and 2, so that the two kinds never collide.
    shared = state(trajectory, step)
    return (trajectory.sample, step) if shared is None else (shared,)


Edge = tuple[str, float, Hashable, bool]
"""Action, reward, the node that it leads to, and whether a trajectory ends there."""


def _edges(tree: TrajectoryTree, state: State) -> dict[Hashable, list[Edge]]:
    """The distinct edges out of each node, in order of first occurrence."""
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
    edges: dict[Hashable, list[Edge]], start: Hashable, longest: int, wanted: int, known: Set[tuple[str, ...]]
) -> Iterator[tuple[float, tuple[str, ...]]]:
    """(expected score, actions) of up to `wanted` paths from `start`, best first, until _EXPANSIONS are used up.

    All have different actions, and none has those of a `known` one. A path ends where a trajectory ended, or with a
    gain. It takes no rewarded step twice, and a step without reward never leads it back to a state with the same total
    as before.
    """
    # A* search. Every entry of the heap is a path and the most it can score: its total if it ends there, else its total
    # plus an upper bound on what can follow. So when a finished path comes to the top, no other path, finished or not,
    # can score more.
    bound = _bounds(edges, longest)
    count = 0
    told = set(known)
    # (minus the most it can score, length, tie breaker, whether it ends here, total so far, path). Among equals, paths
    # to be extended come before those that end, and the newest of them first, so that the search goes deep.
    heap = [(-min(1.0, bound[longest].get(start, 0.0)), 0, 0, False, 0.0, _Path((), start, frozenset({(start, 0.0)})))]
    while heap and count < _EXPANSIONS and wanted:
        _, length, _, ended, total, path = heapq.heappop(heap)
        if ended:
            # Runs that end alike do not share their last node, so there is a path for each of them.
            if path.actions not in told:
                told.add(path.actions)
                wanted -= 1
                yield min(1.0, max(0.0, total)), path.actions
            continue
        for edge in edges.get(path.state, ()) if length < longest else ():
            action, reward, state, ends = edge
            after = round(total + reward, 9)  # rounded, so that equal totals are equal as marks
            mark = (state, after) if abs(reward) <= SCORE_TOLERANCE else (path.state, edge)
            if mark in path.marks:
                continue
            count += 1
            longer = _Path((*path.actions, action), state, path.marks | {mark, (state, after)})
            if ends or reward > 0:
                heapq.heappush(heap, (-min(1.0, after), length + 1, count, True, after, longer))
            most = bound[longest - length - 1].get(state)
            if most is not None:
                heapq.heappush(heap, (-min(1.0, after + most), length + 1, -count, False, after, longer))


@dataclass(frozen=True, slots=True)
class _Path:
    """A path through the graph.

    Attributes:
        actions: its actions.
        state: the node at its end.
        marks: what it must not repeat: (node, total) where it has been, (node, edge) of rewarded steps.
    """

    actions: tuple[str, ...]
    state: Hashable
    marks: frozenset[Hashable]


def _bounds(edges: dict[Hashable, list[Edge]], longest: int) -> list[dict[Hashable, float]]:
    """[longest + 1] by number of steps left: the most that can still be gained from each node, if all steps may repeat.

    Nodes without an edge, and all nodes when no step is left, are missing.
    """
    bounds: list[dict[Hashable, float]] = [{}]
    for _ in range(longest):
        # With one step more: a step and its reward, then the best that the rest can add, or nothing if the path ends.
        rest = bounds[-1]
        bounds.append(
            {node: max(reward + max(0.0, rest.get(to, 0.0)) for _, reward, to, _ in out) for node, out in edges.items()}
        )
    return bounds


__all__ = ["Proposal", "Replay", "State", "Stitched", "best_sample", "propose", "seen", "shorten", "stitch"]
