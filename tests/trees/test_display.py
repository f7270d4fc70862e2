"""What a prompt and a notebook show of trees: short, whole, and nothing that a page would run."""

from html.parser import HTMLParser

from hypothesis import given
from tests.builders import quick, trajectories, trajectory

import trajtree
from trajtree.errors import counted
from trajtree.trajectory import Trajectory
from trajtree.trees.display import episode, sketch
from trajtree.trees.merge import build_tree

VOID = {"br"}


class Balanced(HTMLParser):
    """Checks that every element is closed, and counts them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.counts: dict[str, int] = {}
        self.feed(page)
        assert not self.opened

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.opened.append(tag)
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag


def test_a_tree_is_one_line() -> None:
    tree = trajtree.build_tree([trajectory(["a", "b"], 1.0), trajectory(["a", "c"], 0.0, sample=1)])
    assert repr(tree) == "<TrajectoryTree 'toy/0': 2 runs, 3 nodes, 1 fork, scores 0.00 to 1.00>"


def test_many_trees_are_twenty_lines_and_a_number() -> None:
    trees = trajtree.build([trajectory(["a"], task=f"t{number:02}") for number in range(23)])
    assert isinstance(trees, list)
    lines = repr(trees).splitlines()
    assert lines[0] == "23 trees:"
    assert len(lines) == 22
    assert lines[-1] == "  and 3 more"
    assert Balanced(trees._repr_html_()).counts["details"] == 20


@quick
@given(trajectories())
def test_the_outline_has_every_node_once(runs: list[Trajectory]) -> None:
    tree = trajtree.build_tree(runs)
    assert Balanced(tree._repr_html_()).counts.get("li", 0) == len(tree) - 1


def test_an_outline_is_cut_and_says_so() -> None:
    tree = trajtree.build_tree([trajectory([str(number) for number in range(250)])])
    page = tree._repr_html_()
    assert Balanced(page).counts["li"] == 200
    assert "and 50 more nodes" in page


def test_texts_of_runs_are_no_markup() -> None:
    tree = trajtree.build_tree([trajectory(["<script>alert(1)</script>"], task="<b>")])
    assert not {"script", "b"} & Balanced(tree._repr_html_()).counts.keys()


@quick
@given(trajectories())
def test_a_sketch_is_a_few_lines_and_counts_what_it_leaves_out(runs: list[Trajectory]) -> None:
    tree = build_tree(runs)
    lines = sketch(tree, most=3)
    assert len(lines) <= 5 and lines[0].startswith(f"{tree.task!r}: {counted(len(runs), 'run')}")
    everything = sketch(tree, most=len(tree))
    stretches = everything[1:]
    steps = len(stretches) + sum(int(line.rsplit("  ", 1)[0].rsplit(" +", 1)[1]) for line in stretches if " +" in line)
    assert steps == len(tree) - 1, "every node is in one stretch"


@quick
@given(trajectories())
def test_an_episode_is_its_actions_each_after_what_was_seen(runs: list[Trajectory]) -> None:
    for run in runs:
        lines = episode(run, most=2)
        assert lines[0].endswith(f"score {run.score:.2f}") and len(lines) <= 1 + 2 * 2 + 1
        assert [line[4:] for line in lines if line.startswith("  > ")] == [
            " ".join(step.action.split()) for step in run.steps[:2]
        ]
        assert (lines[-1] == f"  and {len(run.steps) - 2} more") == (len(run.steps) > 2)


def test_an_episode_in_lines() -> None:
    run = trajectory(["look", "take key"], 0.5)
    told = [step.observation.strip() for step in run.steps]
    assert episode(run) == [
        "'toy/0': 2 actions, score 0.50",
        f"  {told[0]}",
        "  > look",
        f"  {told[1]}",
        "  > take key",
    ]


def test_a_sketch_shows_forks_from_above() -> None:
    runs = [["go", "left", "up", "stay"], ["go", "left", "up", "leave"], ["go", "right"]]
    tree = build_tree(trajectory(actions, n / 2, sample=n) for n, actions in enumerate(runs))
    assert sketch(tree)[1:] == [
        "  go  0.50 of 3",
        "    left +1  0.25 of 2",
        "      leave  0.50 of 1",
        "      stay  0.00 of 1",
        "    right  1.00 of 1",
    ]
    assert sketch(tree, most=3)[1:] == [
        "  go  0.50 of 3",
        "    left +1  0.25 of 2",
        "    right  1.00 of 1",
        "  and 2 more",
    ]
