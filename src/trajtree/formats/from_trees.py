"""From pairs of a tree to the messages that exporters write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from trajtree.errors import DataError
from trajtree.formats.pair_messages import PairMessages
from trajtree.trajectory import Trajectory
from trajtree.trees.forks import Pair, grafted
from trajtree.trees.tree import TrajectoryTree


def pair_messages(tree: TrajectoryTree, pairs: Iterable[Pair], *, step_only: bool = False) -> Iterator[PairMessages]:
    """The pairs of one tree as messages; with `step_only` each side is the reply at which they part, and no more.

    Raises:
        DataError: the trajectories hold no messages.
    """
    by_sample = {t.sample: t for t in tree.trajectories}
    for pair in pairs:
        yield _messages(pair, by_sample[pair.chosen], by_sample[pair.rejected], step_only)


def _messages(pair: Pair, better: Trajectory, worse: Trajectory, step_only: bool) -> PairMessages:
    for trajectory in (better, worse):
        if len(trajectory.replies) < len(trajectory.steps) or pair.depth >= len(trajectory.steps):
            raise DataError(
                f"{pair.task}, sample {trajectory.sample}: {len(trajectory.steps)} steps but {len(trajectory.replies)} "
                f"replies among its messages, so the pair at step {pair.depth} cannot be written"
            )
    start = better.replies[pair.depth]
    rejected = grafted(better, worse, pair.depth)[start:]
    return PairMessages(
        prompt=better.messages[:start],
        chosen=better.messages[start : start + 1] if step_only else better.messages[start : better.replies[-1] + 1],
        rejected=rejected[:1] if step_only else rejected[: worse.replies[-1] - worse.replies[pair.depth] + 1],
        tools=better.tools,
        provenance={
            "task": pair.task,
            "node": pair.node,
            "step": pair.depth,
            "chosen": pair.chosen,
            "rejected": pair.rejected,
            "chosen_value": pair.chosen_value,
            "rejected_value": pair.rejected_value,
            "chosen_visits": pair.chosen_visits,
            "rejected_visits": pair.rejected_visits,
        },
    )


__all__ = ["pair_messages"]
