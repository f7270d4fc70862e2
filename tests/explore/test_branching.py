"""Episodes that branch off others: where they begin, that they are whole, and that a kill changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.builders import Told, trajectory
from tests.explore.test_rollout import Killed, Scripted, Talk
from tests.toy import COLOURS, Toy

from trajtree.envs.base import StepResult
from trajtree.explore.branching import MIN_GAP, RUNS, branch_points, chance_to_be_known
from trajtree.explore.episode import Episode, EpisodeSpec, Start, sampled_tokens, tokens_per_step
from trajtree.explore.rollout import explore, rollout
from trajtree.explore.strategies import STRATEGIES, ExploreSettings, Slot, independent
from trajtree.policies.base import Reply
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Cause, Message, Origin, Outcome, Sampling, Tokens, Trajectory
from trajtree.trees.merge import build_tree

WARM = Sampling(1.0)
TASKS = [f"toy/{i}" for i in range(6)]
MOVES = [
    "look",
    *(f"{verb} {colour} {thing}" for verb, thing in (("take", "key"), ("open", "door")) for colour in COLOURS),
]

tree_of = partial(build_tree, canonical_action=Toy.canonical_action, canonical_observation=Toy.canonical_observation)


class Wanderer(Scripted):
    """Draws moves from its conversation's own stream, and goes on with the stream of a branched one."""

    def __init__(self) -> None:
        super().__init__(lambda number, turn, seed: "")

    def reply(self, conversations: Sequence[Talk]) -> list[Reply]:
        self.batches.append(len(conversations))
        found = []
        for talk in conversations:
            said = sum(m.role == "assistant" for m in talk.messages)
            text = Random(str((talk.seed, said))).choice(MOVES)
            talk.messages.append(Message("assistant", text))
            found.append(Reply(text))
        return found

    def start(self, system: str, sampling: Sampling, seed: tuple[int, ...]) -> Talk:
        return Quiet(system, seed, [Message("system", system)])


class Quiet(Talk):
    """Tells no tokens."""

    def tokens(self) -> tuple[Tokens, ...]:
        return ()


def passes(strategy: str = "branching", **settings: int) -> list[Trajectory]:
    return STRATEGIES[strategy].passes(TASKS, ExploreSettings(**{"rollouts": 3, "grid": [WARM], **settings}), tree_of)


def explored(path: Path, make_env: type[Toy] = Toy, progress: Told | None = None, **settings: int) -> list[Trajectory]:
    store = TrajectoryStore(path / "store.jsonl", create=True)
    explore(passes(**settings), Wanderer(), make_env, store, seed=3, batch=4, progress=progress or Told())
    return list(store)


def test_branched_episodes_are_whole_and_say_where_they_began(tmp_path: Path) -> None:
    found = explored(tmp_path, budget=600)
    by_key = {t.key: t for t in found}
    assert len(by_key) == len(found)
    branched = [t for t in found if t.origin is not None]
    assert len(branched) >= 8 and {t.sample for t in found if t.origin is None} >= {0, 1, 2}
    for run in branched:
        assert run.origin is not None
        parent, steps = by_key[run.task, run.origin.sample], run.origin.steps
        assert run.steps[:steps] == parent.steps[:steps] and len(run.steps) >= steps
        assert run.past(steps) == parent.past(steps), "what the policy saw is what the parent saw, letter for letter"
        assert run.score == pytest.approx(sum(step.reward for step in run.steps))
        env = Toy()
        seen, rewards = [env.reset(run.task)], []
        for step in run.steps:
            result = env.step(step.action)
            seen.append(result.observation)
            rewards.append(result.reward)
        assert seen[:-1] == [step.observation for step in run.steps]
        assert rewards == [step.reward for step in run.steps]
    for task in TASKS:
        tree_of(t for t in found if t.task == task)


def test_the_budget_is_spent_and_not_much_more(tmp_path: Path) -> None:
    first = sum(map(sampled_tokens, explored(tmp_path / "first", budget=1)))
    for budget in (first + 1, first + 60, 3 * first):
        found = explored(tmp_path / str(budget), budget=budget)
        spent = sum(map(sampled_tokens, found))
        last = max(t.sample for t in found)
        assert spent >= budget and last >= 3
        assert spent < budget + 4 * 6 * 4 * 2, "one point's episodes of at most six steps of four tokens, or so"
    assert sum(map(sampled_tokens, explored(tmp_path / "default"))) >= 2 * first


def test_independent_rounds_stop_at_the_budget(tmp_path: Path) -> None:
    def spent(**settings: int) -> tuple[int, int]:
        store = TrajectoryStore(tmp_path / f"{settings}.jsonl", create=True)
        explore(passes("independent", **settings), Wanderer(), Toy, store, seed=3, batch=4)
        return len(list(store)), sum(map(sampled_tokens, store))

    all_episodes, everything = spent(rollouts=4)
    assert all_episodes == 24
    episodes, tokens = spent(rollouts=4, budget=everything // 2)
    assert episodes in (12, 18) and everything // 2 <= tokens < everything
    assert spent(rollouts=4, budget=10 * everything) == (24, everything)


@pytest.mark.parametrize("waves", [1, 3, 6, 8, 11])
def test_a_kill_changes_nothing(tmp_path: Path, waves: int) -> None:
    class Kill(Told):
        def advance(self, amount: int, note: str = "") -> None:
            super().advance(amount)
            if len(self.amounts) == waves:
                raise Killed

    explored(tmp_path / "unbroken", budget=900)
    with pytest.raises(Killed):
        explored(tmp_path / "killed", progress=Kill(), budget=900)
    explored(tmp_path / "killed", budget=900)
    unbroken, killed = (tmp_path / name / "store.jsonl" for name in ("unbroken", "killed"))
    assert killed.read_bytes() == unbroken.read_bytes()


def test_a_world_that_has_changed_is_noticed_counted_and_left_alone(tmp_path: Path) -> None:
    class Moody(Toy):
        """Answers a step differently every time that it is played."""

        mood = 0

        def step(self, action: str) -> StepResult:
            type(self).mood += 1
            result = super().step(action)
            return result._replace(observation=f"{result.observation} Mood {self.mood}.")

    explored(tmp_path, budget=1)
    found = explored(tmp_path, Moody, budget=400)
    diverged = [t for t in found if t.cause is Cause.REPLAY_DIVERGED]
    assert diverged and all(t.outcome is Outcome.ENV_ERROR and t.outcome.is_fault for t in diverged)
    assert all(t.origin is None for t in found if t.cause is None)
    assert all("before step" in str(t.error) and "it shows" in str(t.error) for t in diverged)
    # Their replies are their parents'.
    assert all(sampled_tokens(t) == 0 and any(m.role == "assistant" for m in t.messages) for t in diverged)


def test_a_reward_or_an_end_that_has_changed_is_noticed(tmp_path: Path) -> None:
    parent = replace(
        trajectory(["look", "take red key", "look"], task="toy/0"),
        messages=tuple(Message("assistant", "x") for _ in range(3)),
    )
    env = Toy()
    seen = [env.reset("toy/0"), env.step("look").observation, env.step("take red key").observation]
    steps = tuple(structs.replace(step, observation=o) for step, o in zip(parent.steps, seen, strict=True))

    class Short(Toy):
        def step(self, action: str) -> StepResult:
            return super().step(action)._replace(truncated=True)

    for name, make, said in (("reward", Toy, "step 2 of sample 0 earned 0, and now 0.5"), ("end", Short, "the end of")):
        store = TrajectoryStore(tmp_path / f"{name}.jsonl", create=True)
        spec = EpisodeSpec("toy/0", 5, WARM, Start(replace(parent, steps=steps), 2))
        rollout([spec], Wanderer(), make, store, seed=0)
        (found,) = store
        assert found.cause is Cause.REPLAY_DIVERGED and said in str(found.error)


def test_where_an_episode_can_begin() -> None:
    parent = trajectory(["a", "b"])
    for steps in (0, 2, 3):
        with pytest.raises(ValueError, match="cannot be branched off after"):
            Start(parent, steps)
    assert Start(parent, 1).next_observation == "after a"


def runs(*tries: tuple[str, float], task: str = "toy/0") -> list[Trajectory]:
    return [
        replace(
            trajectory(list(actions), score, sample=i, task=task),
            messages=tuple(Message("assistant", action) for action in actions),
        )
        for i, (actions, score) in enumerate(tries)
    ]


def test_the_latest_point_with_successes_and_failures_behind_it_comes_first() -> None:
    tree = build_tree(runs(("abcd", 1.0), ("abce", 0.0), ("abce", 0.0), ("axyz", 0.0), ("axyz", 0.0)))
    (point,) = branch_points([tree], 4)
    assert point.steps == 3 and point.parent.steps[2].action == "c", "where c was done, and d or e came of it"


def test_what_is_known_is_left_alone() -> None:
    solved = build_tree(runs(("abc", 1.0), ("abd", 1.0), task="toy/0"))
    failed = build_tree(runs(("abc", 0.0), ("abd", 0.0), task="toy/1"))
    mixed = build_tree(runs(("abc", 0.0), ("abd", 1.0), task="toy/2"))
    known = build_tree(runs(*[("a", 0.0), ("b", 1.0)] * 2, task="toy/3"))
    assert [p.parent.task for p in branch_points([solved, failed, mixed, known], 4)] == ["toy/2", "toy/1"]
    assert branch_points([solved, known], 4) == branch_points([], 4) == []


def test_after_a_known_fork_the_next_one_is_looked_for() -> None:
    tries = [("ac", 0.0), ("ad", 0.0), ("bc", 1.0), ("bd", 0.5)]
    (point,) = branch_points([build_tree(runs(*tries))], 4)
    assert (point.steps, point.parent.steps[0].action) == (1, "b"), "a and b are known, c and d after b are not"


def test_of_situations_with_nothing_known_the_earliest_comes_first() -> None:
    (point,) = branch_points([build_tree(runs(("abcdef", 0.0), ("abcdef", 0.0)))], 4)
    assert point.steps == 0


def test_a_difference_too_small_for_a_pair_is_none() -> None:
    close, apart = ([("abcd", 0.5), ("abce", 0.5 + gap)] for gap in (MIN_GAP - 0.01, MIN_GAP))
    points = [branch_points([build_tree(runs(*tries))], 4)[0] for tries in (close, apart)]
    assert [point.steps for point in points] == [0, 3]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.0, 0.1, 0.5, 1.0])), max_size=5),
    st.integers(1, 8),
    st.floats(0, 1),
)
def test_a_chance_is_one_and_grows_with_the_episodes(
    options: list[tuple[int, float]], episodes: int, differs: float
) -> None:
    own, means = [runs for runs, _ in options], [mean for _, mean in options]
    fewer, more = (chance_to_be_known(own, means, number, differs) for number in (episodes, episodes + 1))
    assert 0 <= fewer <= more + 1e-12 and more <= 1
    known = [mean for runs, mean in options if runs >= RUNS]
    if known and max(known) - min(known) >= MIN_GAP:
        assert more == 0


def test_the_chance_by_hand() -> None:
    # One of three draws is the option seen once, one in three: at least one of two is that, 1 - (2/3)^2. Both of them:
    # squared. A new one twice: (1/3)^2, and half of that.
    assert chance_to_be_known([1, 1], [0.0, 1.0], 2, 0.5) == pytest.approx((5 / 9) ** 2)
    assert chance_to_be_known([1, 1], [0.5, 0.5], 2, 0.5) == pytest.approx(0.5 * 5 / 9 / 9)
    assert chance_to_be_known([], [], 2, 0.5) == 0


def test_more_episodes_at_a_point_make_it_less_worthy() -> None:
    few = branch_points([build_tree(runs(("ab", 0.0), ("ac", 1.0)))], 4)
    many = branch_points([build_tree(runs(*[("ab", 0.0), ("ac", 1.0)] * 4))], 4)
    assert few[0].worth > 2 * many[0].worth > 0


def test_tokens_that_were_taken_over_are_not_counted() -> None:
    tokens = (Tokens(tuple(range(10)), ((2, 4), (5, 8))), Tokens(tuple(range(4)), ((1, 2),)))
    said = tuple(Message("assistant", "eight ch") for _ in range(3))
    whole = replace(trajectory(["a", "b", "c"]), tokens=tokens, messages=said)
    assert (sampled_tokens(whole), tokens_per_step(whole)) == (6, 2.0)
    branched = replace(whole, origin=Origin(1, 2))
    assert (sampled_tokens(branched), tokens_per_step(branched)) == (1, 1.0)
    shown = replace(trajectory(["b", "c"]), tokens=tokens, messages=said, context_turns=1)
    assert (sampled_tokens(shown), tokens_per_step(shown)) == (4, 2.0), "nor those of an example"
    assert sampled_tokens(replace(whole, tokens=())) == 6 and sampled_tokens(replace(branched, tokens=())) == 2


def test_independent_is_as_before() -> None:
    assert next(passes("independent", rollouts=2)) == independent(TASKS, 2, [WARM])


@pytest.mark.parametrize(
    "grid",
    [
        (Slot(0.7), Slot(1.0, by="other"), Slot(0.0)),
        (Slot(0.7, by="third"), Slot(0.0, by="other"), Slot(0.7, by="other")),
    ],
)
def test_slots_of_other_policies_play_from_the_beginning_only(grid: tuple[Slot, ...]) -> None:
    settings = ExploreSettings(3, grid, budget=10_000, branches=3)
    found = STRATEGIES["branching"].passes(["toy/0"], settings, tree_of)
    assert [spec.by for spec in next(found)] == [slot.by for slot in grid]
    branched = found.send([replace(run, task="toy/0") for run in runs(("ab", 0.0), ("ac", 1.0), ("ad", 0.0))])
    assert {(spec.by, spec.sampling) for spec in branched} == {(None, Sampling(0.7))} and len(branched) == 3


def test_another_models_tokens_are_not_taken_over() -> None:
    class Takes(Talk):
        took = False

        def take_over(self, messages: Sequence[Message], tokens: Sequence[Tokens]) -> None:
            self.messages[:] = messages
            self.took = True

    class Player(Scripted):
        def start(self, system: str, sampling: Sampling, seed: tuple[int, ...]) -> Talk:
            return Takes(system, seed, [Message("system", system)])

    (parent,) = runs(
        ("abc", 1.0),
    )
    parent = replace(parent, tokens=(Tokens((1, 2, 3), ((0, 1), (1, 2), (2, 3))),))
    for policy, took in (("scripted", True), ("other", False)):
        spec = EpisodeSpec(parent.task, 9, WARM, Start(replace(parent, policy=policy), 1))
        episode = Episode.of(spec, Toy(), Player(lambda number, turn, seed: "look"), 0, "")
        assert episode.conversation.took is took  # type: ignore[attr-defined]
        assert episode.conversation.messages == list(spec.start.messages)  # type: ignore[union-attr]
