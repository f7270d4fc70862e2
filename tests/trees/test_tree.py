"""What merging trajectories must keep."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.builders import TASK, key_path, quick, trajectories, trajectory

from trajtree.errors import DataError
from trajtree.store.tree_store import read_trees, write_trees
from trajtree.trajectory import Made, Message, Tokens, Trajectory
from trajtree.trees.merge import build, build_tree
from trajtree.trees.quality import TreeQuality, quality, token_ratio
from trajtree.trees.tree import TrajectoryTree

ARRAYS = ("parent", "depth", "decision", "first", "visits", "score_sum", "end")


def same(one: TrajectoryTree, other: TrajectoryTree) -> bool:
    rest = ("task", "trajectories", "observation", "action")
    return all(np.array_equal(getattr(one, a), getattr(other, a)) for a in ARRAYS) and all(
        getattr(one, a) == getattr(other, a) for a in rest
    )


def node_keys(tree: TrajectoryTree, node: int) -> tuple[tuple[str, str], ...]:
    return tuple((tree.observation[n], tree.action[n]) for n in tree.path(node))


@quick
@given(trajectories())
def test_every_trajectory_can_be_read_back(given_: list[Trajectory]) -> None:
    tree = build_tree(given_)
    assert sorted(t.sample for t in tree.trajectories) == [t.sample for t in given_]
    for index, one in enumerate(tree.trajectories):
        assert node_keys(tree, int(tree.end[index])) == key_path(one)
        assert index in tree.ending[tree.end[index]]


@quick
@given(trajectories().flatmap(lambda ts: st.tuples(st.just(ts), st.permutations(ts))))
def test_order_of_arrival_changes_nothing(both: tuple[list[Trajectory], list[Trajectory]]) -> None:
    assert same(build_tree(both[0]), build_tree(both[1]))


@quick
@given(trajectories())
def test_counts_are_those_of_brute_force(given_: list[Trajectory]) -> None:
    tree = build_tree(given_)
    visits: Counter[tuple[tuple[str, str], ...]] = Counter()
    scores: defaultdict[tuple[tuple[str, str], ...], float] = defaultdict(float)
    for one in given_:
        for length in range(len(one.steps) + 1):
            visits[key_path(one)[:length]] += 1
            scores[key_path(one)[:length]] += one.score
    nodes = [node_keys(tree, n) for n in range(len(tree))]
    assert len(set(nodes)) == len(tree) == len(visits)
    assert {k: tree.visits[n] for n, k in enumerate(nodes)} == visits
    assert {k: tree.score_sum[n] for n, k in enumerate(nodes)} == scores
    for n, keys in enumerate(nodes):
        assert [tree.trajectories[i] for i in tree.through(n)] == [
            t for t in tree.trajectories if key_path(t)[: len(keys)] == keys
        ]


@quick
@given(trajectories())
def test_parent_depth_and_children_agree(given_: list[Trajectory]) -> None:
    tree = build_tree(given_)
    assert (tree.parent[0], tree.depth[0], tree.observation[0], tree.action[0]) == (tree.NO_PARENT, 0, "", "")
    for node in range(1, len(tree)):
        assert 0 <= tree.parent[node] < node
        assert tree.depth[node] == tree.depth[tree.parent[node]] + 1 == len(tree.path(node))
        assert node in tree.children[tree.parent[node]]
    assert sum(map(len, tree.children)) == len(tree) - 1


@quick
@given(trajectories())
def test_forks_are_choices_of_the_agent(given_: list[Trajectory]) -> None:
    tree = build_tree(given_)
    forks = list(tree.forks())
    for node, children in forks:
        assert len({tree.observation[c] for c in children}) == 1
        assert len({tree.action[c] for c in children}) == len(children) > 1
        assert set(children) <= set(tree.children[node])
    groups = Counter((int(tree.parent[n]), tree.observation[n]) for n in range(1, len(tree)))
    assert len(forks) == sum(count > 1 for count in groups.values())


@quick
@given(trajectories(faults=True))
def test_faults_are_no_data(given_: list[Trajectory]) -> None:
    played = [t for t in given_ if not t.outcome.is_fault]
    trees = build(given_)
    assert [t for tree in trees for t in tree.trajectories] == sorted(played, key=lambda t: (key_path(t), t.sample))
    if played != given_:
        with pytest.raises(DataError, match=r"(env|engine)_error says nothing about the policy"):
            build_tree(given_)


def test_one_tree_a_task() -> None:
    given_ = [trajectory("a", task=task, sample=n) for n, task in enumerate(("t/b", "t/a", "t/b"))]
    assert [(tree.task, len(tree.trajectories)) for tree in build(given_)] == [("t/a", 1), ("t/b", 2)]
    with pytest.raises(DataError, match=r"\['t/a', 't/b'\]"):
        build_tree(given_)
    with pytest.raises(DataError, match="none"):
        build_tree([])
    assert build([]) == []


def test_canonical_forms_decide_what_merges() -> None:
    given_ = [trajectory(["Go  North"], sample=0, seen=["Hall"]), trajectory(["go north"], sample=1, seen=["hall"])]
    assert len(build_tree(given_)) == 3
    tree = build_tree(
        given_, canonical_action=lambda a: " ".join(a.lower().split()), canonical_observation=lambda o: o.lower()
    )
    assert (len(tree), tree.action[1], tree.observation[1]) == (2, "go north", "hall")


@quick
@given(trajectories())
def test_decisions_and_subtrees_by_brute_force(given_: list[Trajectory]) -> None:
    tree = build_tree(given_)
    for node in range(1, len(tree)):
        siblings = [c for c in tree.children[tree.parent[node]] if tree.observation[c] == tree.observation[node]]
        assert tree.decision[node] == siblings[0]
    for node in range(len(tree)):
        below = [n for n in range(len(tree)) if node == 0 or node in tree.path(n)]
        assert below == list(range(node, tree.subtree_end[node]))
        assert tree.best[node] == max(tree.trajectories[i].score for i in tree.through(node))


@quick
@given(st.lists(trajectories(), max_size=3))
def test_trees_survive_their_file(tmp_path_factory: pytest.TempPathFactory, sets: list[list[Trajectory]]) -> None:
    trees = [build_tree([replace(t, task=f"toy/{n}") for t in given_]) for n, given_ in enumerate(sets)]
    path = tmp_path_factory.mktemp("trees") / "trees.jsonl"
    assert write_trees(trees, path) == len(trees)
    again = list(read_trees(path))
    assert len(again) == len(trees)
    assert all(same(one, other) for one, other in zip(trees, again, strict=True))
    assert [[getattr(t, a).dtype for a in ARRAYS] for t in again] == [
        [getattr(t, a).dtype for a in ARRAYS] for t in trees
    ]


def test_bad_files_of_trees_are_named(tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl"
    with pytest.raises(DataError, match=r"trees.jsonl: cannot be read .*trajtree build"):
        list(read_trees(path))
    path.write_text('{"format": "other"}\n')
    with pytest.raises(DataError, match=r"trees.jsonl, line 1: not a file of trees"):
        list(read_trees(path))
    write_trees([build_tree([trajectory("ab"), trajectory("ac", sample=1)])], path)
    good = path.read_text()
    path.write_text(good.replace('"version": 2', '"version": 9'))
    with pytest.raises(DataError, match=r"line 1, field version: 9; this trajtree reads versions 1 and 2"):
        list(read_trees(path))
    for right, wrong, said in (
        ('"shared":[0,1]', '"shared":[0]', "field shared: 1 values, 2 trajectories"),
        ('"shared":[0,1]', '"shared":[0,3]', "field shared.1: 3 steps, between 0 and 2 were expected"),
        ('"shared":[0,1]', '"shared":[1,1]', "field shared.0: 1 steps, between 0 and 0 were expected"),
        ('"shared":[0,1]', '"shared":[0,-1]', "field shared.1: -1 steps"),
        ('"score":0,', '"score":"much",', "field trajectories.0.score: "),
        ('"task":"toy/0","shared"', '"shared"', "field task: missing"),
        ('"observations":[[1,-1]]', '"observations":[[9,-1]]', "field observations.0: node 9 or text -1 is not there"),
        ('"shared"', '"actions":[[1,0]],"shared"', "field actions.0: node 1 or text 0 is not there"),
        ('"observations":[[1,-1]]', '"observations":[[1,-1],[1,-1]]', "field observations.1: node 1 after node 1"),
    ):
        changed = good.replace(right, wrong, 1)
        assert changed != good
        path.write_text(changed)
        with pytest.raises(DataError) as error:
            list(read_trees(path))
        assert f"trees.jsonl, line 2, {said}" in str(error.value)


def under(system: str, actions: str, **more: Any) -> Trajectory:
    """A run with messages, under a system prompt."""
    made = trajectory(actions, **more)
    said = [Message("system", system)]
    for step in made.steps:
        said += [Message("user", step.observation), Message("assistant", step.action)]
    return replace(made, messages=tuple(said))


# [runs] of a tree, and what is changed in its line of the file: (where, new value), and the message.
WRONG: dict[str, tuple[list[Trajectory], tuple[tuple[list[Any], Any], ...], str]] = {
    "another task": (
        [trajectory("a"), trajectory("b", sample=1)],
        ((["trajectories", 1, "task"], "toy/9"),),
        "trajectories.1.task: 'toy/9', and the tree is of task 'toy/0'",
    ),
    "a fault": (
        [trajectory("a"), trajectory("b", sample=1)],
        ((["trajectories", 0, "outcome"], "env_error"),),
        "trajectories.0.outcome: env_error says nothing about the policy",
    ),
    "a sample twice": (
        [trajectory("a"), trajectory("b", sample=1)],
        ((["trajectories", 1, "sample"], 0),),
        "trajectories.1.sample: another run has this number too",
    ),
    "no such origin": (
        [trajectory("a"), trajectory("b", sample=1)],
        ((["trajectories", 1, "origin"], [7, 1]),),
        "trajectories.1.origin: branched off sample 7, which is not among the trajectories",
    ),
    "other contexts": (
        [under("Act.", "a"), under("Act.", "ab", sample=1)],
        ((["trajectories", 1, "messages", 0, 1], "Act well."),),
        "shared.1: this run shares steps with the one before it, although they began with different prompts or tools",
    ),
    "a name of a message": (
        [under("Act.", "a"), under("Act.", "ab", sample=1)],
        ((["trajectories", 1, "messages", 1], ["u", "after ", {"name": "Eva"}]),),
        "shared.1: this run shares steps with the one before it, although they began with different prompts or tools",
    ),
    "too little shared": (
        [trajectory("ab", seen="xy"), trajectory("ac", seen="xy", sample=1)],
        ((["shared", 1], 0),),
        "shared.1: this run does 'a' in step 1 like an earlier one, and does not share it; build it again",
    ),
    "an order in which others lie between": (
        [trajectory("a", seen="x"), trajectory("ab", seen="xy", sample=1), trajectory("b", seen="x", sample=2)],
        ((["trajectories"], [1, 2, 0]), (["shared"], [0, 0, 0])),
        "shared.2: this run does 'a' in step 1 like an earlier one, and does not share it; build it again",
    ),
    "one observation in two spellings": (
        [trajectory("ab", seen=["x ", "y"]), trajectory("ac", seen=["x ", "y"], sample=1)],
        ((["shared", 1], 0),),
        "shared.1: this run sees 'x ' in step 1, which is 'x ' here and 'x' elsewhere; build it again",
    ),
    "too much shared": (
        [trajectory("ab", seen="xy"), trajectory("b", sample=1, seen="x")],
        ((["shared", 1], 1),),
        "shared.1: this run does 'b' in step 1, which is 'a' here and 'b' elsewhere; build it again",
    ),
}


# Messages before the first reply of two runs that saw the same, "x", and were given something else.
APART = {
    "name": (Message("user", "x"), Message("user", "x", name="Eva")),
    "role": (Message("user", "x"), Message("tool", "x")),
    "call": (Message("tool", "x", tool_call_id="1"), Message("tool", "x", tool_call_id="2")),
}


@pytest.mark.parametrize("name", APART)
@pytest.mark.parametrize("order", [0, 1])
def test_who_said_the_first_observation_is_part_of_the_context(name: str, order: int) -> None:
    runs = [
        replace(trajectory(["a"], sample=sample, seen=["x"]), messages=(said, Message("assistant", "a")))
        for sample, said in enumerate(APART[name][:: 1 - 2 * order])
    ]
    assert len({t.context for t in runs}) == 2
    assert list(build_tree(runs).forks()) == []


def test_the_place_of_instructions_is_part_of_the_context() -> None:
    system, user, reply = Message("system", "Act."), Message("user", "x"), Message("assistant", "a")
    runs = [
        replace(trajectory(["a"], sample=sample, seen=["x"]), messages=(*said, reply))
        for sample, said in enumerate([(system, user), (user, system)])
    ]
    tree = build_tree(runs)
    assert len(tree) == 3 and list(tree.forks()) == []


@pytest.mark.parametrize("name", WRONG)
def test_a_tree_that_could_not_have_been_built_is_refused(tmp_path: Path, name: str) -> None:
    runs, changes, said = WRONG[name]
    path = tmp_path / "trees.jsonl"
    tree = build_tree(runs)
    write_trees([tree], path)
    assert same(next(read_trees(path)), tree)
    head, line = path.read_text().splitlines()
    row = json.loads(line)
    for (*where, last), value in changes:
        place = row
        for key in where:
            place = place[key]
        place[last] = [place[last][i] for i in value] if last == "trajectories" else value
    path.write_text(f"{head}\n{json.dumps(row)}\n")
    with pytest.raises(DataError) as error:
        list(read_trees(path))
    assert str(error.value).startswith(f"{path}, line 2, field {said}")


def test_a_file_has_one_tree_per_task(tmp_path: Path) -> None:
    path, trees = tmp_path / "trees.jsonl", [build_tree([trajectory("a", task=task)]) for task in ("x", "y")]
    write_trees(trees, path)
    head, first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(head + first + second + first)
    with pytest.raises(DataError, match=r"line 4, field task: line 2 already has a tree of task 'x'"):
        list(read_trees(path))
    before = path.read_bytes()
    with pytest.raises(DataError, match="task 'x': there are two trees of this task, and a file can hold only one"):
        write_trees([*trees, trees[0]], path)
    assert path.read_bytes() == before


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl"
    write_trees([build_tree([trajectory("ab")])], path)
    before = path.read_bytes()

    def breaking() -> Iterator[TrajectoryTree]:
        yield build_tree([trajectory("c")])
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_trees(breaking(), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["trees.jsonl"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metadata": {"k": None}}, "again: field metadata: Expected `bool | int | float | str`, got `null`"),
        ({"metadata": {1: "x"}}, "field metadata: dict {1: 'x'} would be read back as dict {'1': 'x'}"),
        (
            {"messages": (Message("assistant", "a"),), "made": (Made(cost=math.nan),)},
            "field made: tuple (Made(model=None, time=None, cost=nan",
        ),
        ({"score": np.float64(0.5)}, "a value has another type than its field: "),
        ({"policy": None}, "again: field policy: Expected `str`, got `null`"),
    ],
)
def test_a_tree_that_could_not_be_read_back_is_not_written(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = tmp_path / "trees.jsonl"
    write_trees([build_tree([trajectory("ab")])], path)
    before = path.read_bytes()
    odd = replace(trajectory("a", 0.5, sample=1), **changes)
    with pytest.raises(DataError) as error:
        write_trees([build_tree([trajectory("b"), odd])], path)
    assert str(error.value).startswith(f"task {TASK!r}, sample 1: cannot be stored, ")
    assert said in str(error.value)
    assert path.read_bytes() == before


def vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """An embedding by length alone: texts of nearly the same length are similar."""
    angles = np.array([len(text) for text in texts]) / 10
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_semantic_merge_by_hand() -> None:
    """Rooms whose descriptions differ a little are one; the kitchen's, twice as long, is another."""
    given_ = [
        trajectory(["go", "take"], 1.0, sample=0, seen=["start", "a room with a key"]),
        trajectory(["go", "drop"], 0.0, sample=1, seen=["start", "a room with a key."]),
        trajectory(["go", "take"], 0.5, sample=2, seen=["start", "a kitchen, in which nothing is to be had"]),
    ]
    assert [len(children) for _, children in build_tree(given_).forks()] == []
    tree = build_tree(given_, embed=vectors)
    assert len(tree) == 5
    ((node, children),) = tree.forks()
    assert (tree.action[node], [tree.action[c] for c in children]) == ("go", ["drop", "take"])
    assert {tree.observation[c] for c in children} == {"a room with a key"}
    assert same(build_tree(given_, embed=vectors, similarity=0.9999), build_tree(given_))


@quick
@given(trajectories())
def test_semantic_merge_of_equal_texts_alone_is_the_exact_merge(given_: list[Trajectory]) -> None:
    def apart(texts: Sequence[str]) -> NDArray[np.float32]:
        return np.eye(len(texts), dtype=np.float32)

    assert same(build_tree(given_), build_tree(given_, embed=apart))


def test_quality_by_hand() -> None:
    """After `a` the agent chose `b` or `c` to the same end (no information); at the root, `a` or `d` (information)."""
    tree = build_tree(
        [
            trajectory("ab", 0.5, sample=0),
            trajectory("ac", 0.5, sample=1),
            trajectory("acb", 0.5, sample=2),
            trajectory("d", 1.0, sample=3),
            trajectory("d", 0.0, sample=4),
            trajectory("dd", 1.0, sample=5),
        ]
    )
    assert quality(tree) == TreeQuality(
        task=TASK,
        trajectories=6,
        nodes=6,  # a, ab, ac, acb, d, dd
        leaves=3,  # ab, acb, dd
        forks=2,
        informative_forks=1,
        spread=(0.0 + (2 / 3 - 0.5)) / 2,
        depth=3,
        branching=2.0,
        merged=1 - 6 / 11,
        best=1.0,
        mean=3.5 / 6,
        pairs=1,
        lost=0,
        token_ratio=token_ratio(tree.trajectories),
    )


def test_token_ratio_by_hand() -> None:
    """Tokens 1 2 3 | 1 2 4 5 | 1 2: nine, of which 1 2 3 4 5 remain."""
    given_ = [
        replace(trajectory("a", sample=n), tokens=(Tokens(ids, ((0, 1),)),))
        for n, ids in enumerate([(1, 2, 3), (1, 2, 4, 5), (1, 2)])
    ]
    assert token_ratio(given_) == 9 / 5
    assert token_ratio(given_[:1]) == 1.0
    text = [trajectory("a", sample=0), trajectory("a", sample=1)]
    assert token_ratio(text) == 2.0
