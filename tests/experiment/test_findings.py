"""What the report shows of the trees, however many there are."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

from tests.builders import trajectory

from trajtree.experiment.findings import _SHOWN_FORKS, of_trees
from trajtree.trees.forks import PairSettings, pairs_of
from trajtree.trees.merge import build_tree
from trajtree.trees.quality import quality
from trajtree.trees.tree import TrajectoryTree

NUMBER = 40


def test_the_report_holds_few_trees_at_once() -> None:
    made: list[weakref.ref[TrajectoryTree]] = []
    alive = []

    def read() -> Iterator[TrajectoryTree]:
        for number in range(NUMBER):
            runs = [trajectory("lx", score=number % 7 / 7, sample=0, task=f"task/{number}")]
            runs.append(trajectory("ry", score=1.0, sample=1, task=f"task/{number}"))
            made.append(weakref.ref(tree := build_tree(runs)))
            yield tree
            alive.append(sum(each() is not None for each in made))

    qualities, forks = of_trees(read(), PairSettings())
    assert max(alive) <= 2
    trees = list(read())
    assert qualities == tuple(map(quality, trees))
    widest = sorted((-pairs_of(tree, PairSettings())[0].gap, tree.task) for tree in trees)
    assert [fork.task for fork in forks] == [task for _, task in widest[:_SHOWN_FORKS]]
