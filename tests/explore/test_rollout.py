"""Making trajectories in waves: outcomes, a breaking environment, and going on after a kill."""

from __future__ import annotations

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import pytest
from tests.builders import Told
from tests.toy import Toy, solution

from trajtree.chat import parse_react
from trajtree.envs.base import Environment, StepResult
from trajtree.errors import DataError, EnvError, RunError
from trajtree.explore.episode import EpisodeSpec
from trajtree.explore.faults import ATTEMPTS
from trajtree.explore.rollout import explore, rollout
from trajtree.explore.strategies import Slot, independent, one_pass
from trajtree.policies.base import Reply
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Cause, Message, Outcome, Sampling, Tokens, Trajectory

LONG = Sampling(0.0)


@dataclass
class Talk:
    system: str
    seed: tuple[int, ...]
    messages: list[Message] = field(default_factory=list)
    said: int = 0

    def tokens(self) -> tuple[Tokens, ...]:
        return (Tokens(tuple(range(2 * self.said + 1)), tuple((2 * i, 2 * i + 1) for i in range(self.said))),)


class Scripted:
    """Says what `script(task number, turn, seed)` says; the number is read from the first observation."""

    name = "scripted"

    def __init__(self, script: Callable[[int, int, tuple[int, ...]], Reply | str]) -> None:
        self.script = script
        self.batches: list[int] = []

    def start(self, system: str, sampling: Sampling, seed: tuple[int, ...]) -> Talk:
        return Talk(system, seed, [Message("system", system)])

    def reply(self, conversations: Sequence[Talk]) -> list[Reply]:
        self.batches.append(len(conversations))
        replies = []
        for talk in conversations:
            assert talk.messages[-1].role == "user"
            number = int(talk.messages[1].content.split()[1].rstrip(":"))
            reply = self.script(number, talk.said, talk.seed)
            reply = Reply(reply) if isinstance(reply, str) else reply
            replies.append(reply)
            if reply.error is None:
                talk.said += 1
                talk.messages.append(Message("assistant", reply.text))
        return replies


def winning(number: int, turn: int, seed: tuple[int, ...]) -> str:
    return solution(f"toy/{number}")[turn]


def play(
    policy: Scripted,
    episodes: Sequence[EpisodeSpec],
    path: Path,
    make_env: Callable[[], Environment] = Toy,
    **kwargs: object,
) -> list[Trajectory]:
    store = TrajectoryStore(path / "trajectories.jsonl", create=True)
    rollout(episodes, policy, make_env, store, **{"seed": 7, "batch": 4, **kwargs})
    return list(store)


def test_outcomes(tmp_path: Path) -> None:
    def script(number: int, turn: int, seed: tuple[int, ...]) -> Reply | str:
        match number:
            case 0:
                return winning(number, turn, seed)
            case 1:
                return ("take red key", "open red door")[turn]
            case 2:
                return "look" if turn else "take green key"
            case 3:
                return "take red key" if turn == 0 else "  \n "
            case _:
                return Reply("", "the context is full")

    won, lost, idle, mute, full = play(
        Scripted(script), independent([f"toy/{i}" for i in range(5)], 1, [LONG]), tmp_path
    )
    assert (won.outcome, won.score, len(won.steps), won.success) == (Outcome.COMPLETED, 1.0, 2, True)
    assert (lost.outcome, lost.score, lost.success) == (Outcome.COMPLETED, 0.0, False)
    assert (idle.outcome, idle.score, len(idle.steps)) == (Outcome.TRUNCATED, 0.5, 6)
    assert (mute.outcome, mute.score, len(mute.steps)) == (Outcome.AGENT_ERROR, 0.5, 1)
    assert mute.error == "no action in the reply '  \\n '"
    assert (full.outcome, full.score, full.steps) == (Outcome.AGENT_ERROR, 0.0, ())
    assert full.error == "the context is full"
    for trajectory in (won, lost, idle, mute, full):
        assert trajectory.score == pytest.approx(sum(s.reward for s in trajectory.steps))
        assert trajectory.policy == "scripted" and trajectory.env == "toy" and trajectory.seed == 7
        assert trajectory.messages[0] == Message("system", Toy.instruction)
        seen = [m.content for m in trajectory.messages if m.role == "user"]
        assert seen[: len(trajectory.steps)] == [s.observation for s in trajectory.steps]
    assert won.messages[1:3] == (
        Message("user", Toy().reset("toy/0")),
        Message("assistant", "take red key"),
    )
    assert len(won.tokens[0].agent) == 2


def test_episodes_go_round_the_grid() -> None:
    grid = [Sampling(0.5), Sampling(1.0)]
    assert list(independent(["a", "b"], 3, grid)) == [
        EpisodeSpec(task, sample, grid[sample % 2]) for task in ("a", "b") for sample in range(3)
    ]


def test_episodes_are_counted_not_listed() -> None:
    many = independent(["a", "b"], 10**12, [Sampling(0.5), Sampling(1.0)])
    assert len(many) == 2 * 10**12
    assert many[10**12 + 3] == many[3 - 10**12] == EpisodeSpec("b", 3, Sampling(1.0))
    assert [spec.key for spec in many[10**12 - 1 : 10**12 + 1]] == [("a", 10**12 - 1), ("b", 0)]
    with pytest.raises(IndexError):
        many[2 * 10**12]
    with pytest.raises(RunError, match="more than can be counted; lower the number of rollouts"):
        independent(["a", "b"], 10**19, [Sampling()])


def test_a_pass_of_any_length_is_played_as_far_as_it_gets(tmp_path: Path) -> None:
    """What is played and what is not is never listed."""

    class Enough(Exception):
        pass

    class Told:
        done = 0

        def total(self, amount: int) -> None:
            assert amount == 10**12

        def advance(self, amount: int, figures: object = None) -> None:
            self.done += amount
            if self.done == 4:
                raise Enough

    store = TrajectoryStore(tmp_path / "s.jsonl", create=True)
    for _ in range(2):
        with pytest.raises(Enough):
            rollout(
                independent(["toy/0"], 10**12, [LONG]), Scripted(winning), Toy, store, seed=0, batch=2, progress=Told()
            )
    assert [t.key for t in store] == [("toy/0", sample) for sample in range(4)]


def test_every_episode_has_its_own_stream(tmp_path: Path) -> None:
    seeds = []

    def script(number: int, turn: int, seed: tuple[int, ...]) -> str:
        seeds.append(seed)
        return winning(number, turn, seed)

    play(Scripted(script), independent(["toy/0", "toy/1"], 3, [LONG]), tmp_path)
    assert len(set(seeds)) == 6
    assert set(Counter(seeds).values()) == {2}


def test_waiting_episodes_are_answered_together(tmp_path: Path) -> None:
    policy = Scripted(winning)
    play(policy, independent([f"toy/{i}" for i in range(9)], 1, [LONG]), tmp_path)
    assert policy.batches == [4, 4, 4, 4, 1, 1]


def test_thoughts_are_kept_apart(tmp_path: Path) -> None:
    policy = Scripted(lambda n, t, s: f"Thought: hm\nAction: {winning(n, t, s)}")
    (trajectory,) = play(policy, [EpisodeSpec("toy/3", 0, LONG)], tmp_path, parse=parse_react, suffix="Think.")
    assert [(s.thought, s.action) for s in trajectory.steps] == [("hm", a) for a in solution("toy/3")]
    assert trajectory.messages[0].content == f"{Toy.instruction} Think."
    assert trajectory.success


class Breaking(Toy):
    """Fails in chosen tasks: `reset` or the second step, the first `times` times that the task is played."""

    tries: ClassVar[Counter[str]] = Counter()
    where: ClassVar[dict[str, tuple[str, int]]] = {}
    lock = threading.Lock()

    def reset(self, task: str) -> str:
        with self.lock:
            self.tries[task] += 1
        self.task = task
        self._break("reset")
        return super().reset(task)

    def step(self, action: str) -> StepResult:
        if self.moves == 1:
            self._break("step")
        return super().step(action)

    def _break(self, now: str) -> None:
        where, times = self.where.get(self.task, ("", 0))
        if where == now and self.tries[self.task] <= times:
            raise EnvError(f"{self.task} broke in {now}, try {self.tries[self.task]}")


@pytest.fixture
def breaking() -> type[Breaking]:
    return type("Fresh", (Breaking,), {"tries": Counter(), "where": {}})


def test_a_broken_environment_is_tried_again_then_recorded(tmp_path: Path, breaking: type[Breaking]) -> None:
    breaking.where = {"toy/1": ("step", 99), "toy/5": ("reset", 99), "toy/3": ("step", ATTEMPTS - 1)}
    episodes = independent([f"toy/{i}" for i in range(6)], 1, [LONG])
    played = play(Scripted(winning), episodes, tmp_path, breaking)
    assert [t.task for t in played] == [j.task for j in episodes]
    in_step, in_reset = played[1], played[5]
    assert in_step.outcome is in_reset.outcome is Outcome.ENV_ERROR
    assert in_step.error is not None
    assert re.fullmatch(rf"step 2 \('.*'\): toy/1 broke in step, try {ATTEMPTS}", in_step.error)
    assert in_reset.error == f"toy/5 broke in reset, try {ATTEMPTS}"
    assert len(in_step.steps) == 1 and in_step.score == 0.5
    assert breaking.tries["toy/1"] == breaking.tries["toy/5"] == breaking.tries["toy/3"] == ATTEMPTS
    assert breaking.tries["toy/0"] == breaking.tries["toy/4"] == 1


@pytest.mark.parametrize(
    "wrong", [SystemExit(0), KeyError("x"), None, (None, 0.0, False, False), ("o", 7, False, False)]
)
def test_a_lying_environment_loses_no_episode(tmp_path: Path, wrong: object) -> None:
    """One environment raises or answers wrongly: its episode is recorded as a fault, all others are played."""

    class Lying(Toy):
        def step(self, action: str) -> StepResult:
            if self.task != "toy/3":
                return super().step(action)
            if isinstance(wrong, BaseException):
                raise wrong
            return wrong  # type: ignore[return-value]

        def reset(self, task: str) -> str:
            self.task = task
            return super().reset(task)

    episodes = independent([f"toy/{i}" for i in range(6)], 2, [LONG])
    sound = play(Scripted(winning), episodes, tmp_path / "sound")
    played = play(Scripted(winning), episodes, tmp_path / "lying", Lying)
    assert [t for t in played if t.task != "toy/3"] == [t for t in sound if t.task != "toy/3"]
    assert [(t.outcome, t.cause) for t in played if t.task == "toy/3"] == 2 * [
        (Outcome.ENV_ERROR, Cause.ENVIRONMENT_FAULT)
    ]
    assert list(TrajectoryStore(tmp_path / "lying" / "trajectories.jsonl")) == played


def test_an_environment_that_is_down_ends_the_rollout_and_is_not_recorded(
    tmp_path: Path, breaking: type[Breaking]
) -> None:
    episodes = independent([f"toy/{i}" for i in range(8)], 1, [LONG])
    sound = play(Scripted(winning), episodes, tmp_path / "sound")
    breaking.where = {"toy/5": ("step", 99), "toy/6": ("reset", 99), "toy/7": ("reset", 99)}
    with pytest.raises(
        EnvError, match=r"failed in 3 of 4 episodes, 3 times each; in toy/5: step 2 \(.*\): toy/5 broke in step"
    ):
        play(Scripted(winning), episodes, tmp_path / "down", breaking)
    assert len(list(TrajectoryStore(tmp_path / "down" / "trajectories.jsonl"))) == 4
    breaking.where = {}
    assert play(Scripted(winning), episodes, tmp_path / "down", breaking) == sound


@pytest.mark.parametrize(("batch", "rollouts"), [(1, 1), (1, 3), (4, 4)])
def test_an_environment_that_is_down_is_noticed_where_a_wave_has_one_task(
    tmp_path: Path, breaking: type[Breaking], batch: int, rollouts: int
) -> None:
    tasks = [f"toy/{i}" for i in range(6)]
    breaking.where = {task: ("reset", 99) for task in tasks}
    with pytest.raises(EnvError, match=r"failed in \d of \d episodes, 3 times each; in toy/0: toy/0 broke in reset"):
        play(Scripted(winning), independent(tasks, rollouts, [LONG]), tmp_path, breaking, batch=batch)
    assert {t.task for t in TrajectoryStore(tmp_path / "trajectories.jsonl")} == {"toy/0"}
    breaking.where = {}
    played = play(Scripted(winning), independent(tasks, rollouts, [LONG]), tmp_path, breaking, batch=batch)
    assert len(played) == 6 * rollouts and all(t.success for t in played)


def test_an_environment_that_dies_midway_is_noticed_where_a_wave_has_one_task(
    tmp_path: Path, breaking: type[Breaking]
) -> None:
    tasks = [f"toy/{i}" for i in range(30)]
    breaking.where = {task: ("reset", 99) for task in tasks[20:]}
    with pytest.raises(EnvError, match=r"failed in 5 of 8 episodes, 3 times each; in toy/20"):
        play(Scripted(winning), independent(tasks, 1, [LONG]), tmp_path, breaking, batch=1)


def test_a_few_tasks_that_break_stop_nothing_where_a_wave_has_one_task(
    tmp_path: Path, breaking: type[Breaking]
) -> None:
    tasks = [f"toy/{i}" for i in range(12)]
    breaking.where = {task: ("reset", 99) for task in (tasks[0], *tasks[5:9])}
    played = play(Scripted(winning), independent(tasks, 2, [LONG]), tmp_path / "some", breaking, batch=2)
    assert sum(t.outcome is Outcome.ENV_ERROR for t in played) == 10 and len(played) == 24
    (only,) = play(Scripted(winning), independent(["toy/0"], 1, [LONG]), tmp_path / "one", breaking, batch=1)
    assert only.outcome is Outcome.ENV_ERROR, "one task says nothing of others"


def test_what_breaks_disturbs_no_other_episode(tmp_path: Path, breaking: type[Breaking]) -> None:
    episodes = independent([f"toy/{i}" for i in range(6)], 2, [LONG])
    sound = play(Scripted(winning), episodes, tmp_path / "sound")
    breaking.where = {"toy/1": ("step", 99), "toy/4": ("reset", 1)}
    broken = play(Scripted(winning), episodes, tmp_path / "broken", breaking)
    assert [t for t in broken if t.task != "toy/1"] == [t for t in sound if t.task != "toy/1"]


def test_an_unknown_task_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="toy has no task 'toy/999'"):
        play(Scripted(winning), [EpisodeSpec("toy/999", 0, LONG)], tmp_path)


def test_environments_are_closed_whatever_happens(tmp_path: Path) -> None:
    made, closed = [], []

    class Closing(Toy):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

        def close(self) -> None:
            closed.append(self)

    def script(number: int, turn: int, seed: tuple[int, ...]) -> str:
        raise RuntimeError("the policy broke")

    with pytest.raises(RuntimeError, match="the policy broke"):
        play(Scripted(script), independent(["toy/0", "toy/1"], 1, [LONG]), tmp_path, Closing)
    assert len(made) == len(closed) == 2


class Killed(Exception):
    pass


def wandering(number: int, turn: int, seed: tuple[int, ...]) -> str:
    """Something else in each episode, the same whenever it is played again."""
    return ("look", f"take {('red', 'blue', 'green')[hash(seed) % 3]} key", "open red door")[(turn + seed[2]) % 3]


EPISODES = independent([f"toy/{i}" for i in range(5)], 3, [Sampling(0.5), Sampling(1.0)])


@pytest.fixture
def unbroken(tmp_path: Path) -> bytes:
    play(Scripted(wandering), EPISODES, tmp_path / "unbroken")
    return (tmp_path / "unbroken" / "trajectories.jsonl").read_bytes()


@pytest.mark.parametrize("waves", range(1, 4))
def test_a_killed_rollout_goes_on_to_the_same_store(tmp_path: Path, unbroken: bytes, waves: int) -> None:
    class Kill(Told):
        def advance(self, amount: int, note: str = "") -> None:
            super().advance(amount)
            if len(self.amounts) == waves:
                raise Killed

    with pytest.raises(Killed):
        play(Scripted(wandering), EPISODES, tmp_path, progress=Kill())
    half = (tmp_path / "trajectories.jsonl").read_bytes()
    assert unbroken.startswith(half) and half != unbroken
    policy = Scripted(wandering)
    done = Told()
    assert len(play(policy, EPISODES, tmp_path, progress=done)) == len(EPISODES)
    assert (tmp_path / "trajectories.jsonl").read_bytes() == unbroken
    assert done.totals == [len(EPISODES)] and sum(done.amounts) == len(EPISODES)
    assert len(policy.batches) <= 6 * (4 - waves), "finished waves are not played again"


def test_every_place_where_a_write_can_be_cut_off(tmp_path: Path, unbroken: bytes) -> None:
    path = tmp_path / "trajectories.jsonl"
    ends = [i + 1 for i, byte in enumerate(unbroken) if byte == ord("\n")]
    cuts = sorted({0, 1, ends[0] - 1, *ends, *(end + 40 for end in ends[:-1]), len(unbroken) - 1})
    for cut in cuts:
        path.write_bytes(unbroken[:cut])
        play(Scripted(wandering), EPISODES, tmp_path)
        assert path.read_bytes() == unbroken, f"cut after {cut} bytes"


def test_a_finished_store_is_left_alone(tmp_path: Path, unbroken: bytes) -> None:
    path = tmp_path / "trajectories.jsonl"
    path.write_bytes(unbroken)
    policy = Scripted(wandering)
    play(policy, EPISODES, tmp_path)
    assert policy.batches == []
    assert path.read_bytes() == unbroken


def test_one_more_sample_keeps_the_others(tmp_path: Path) -> None:
    few = play(Scripted(winning), independent(["toy/0"], 2, [LONG]), tmp_path)
    more = play(Scripted(winning), independent(["toy/0"], 3, [LONG]), tmp_path)
    assert more[:2] == few
    assert more[2] == replace(few[0], sample=2)


def test_no_episodes_at_all(tmp_path: Path) -> None:
    assert play(Scripted(winning), [], tmp_path) == []


class Named(Scripted):
    """Wins, but for its name."""

    def __init__(self, name: str) -> None:
        super().__init__(winning)
        self.name = name


MIXED = (Sampling(0.5), Slot(1.0, 0.9, by="other"), Slot(0.0))


def play_mixed(store: TrajectoryStore, *, dies: int | None = None) -> tuple[Named, Named]:
    own, other = Named("own"), Named("other")
    progress = Told() if dies is None else Dies(dies)
    passes = one_pass(independent(["toy/0", "toy/1", "toy/2"], 4, MIXED))
    with contextlib.suppress(KeyboardInterrupt):
        explore(passes, own, Toy, store, seed=0, batch=4, progress=progress, others={"own": own, "other": other})
    return own, other


class Dies(Told):
    """A kill after so many stored episodes."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def advance(self, amount: int, figures: object = None) -> None:
        self.after -= amount
        if self.after <= 0:
            raise KeyboardInterrupt


def test_a_slot_names_its_policy(tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path / "s.jsonl", create=True)
    own, other = play_mixed(store)
    assert {t.key: (t.policy, t.sampling) for t in store} == {
        (f"toy/{task}", sample): {
            0: ("own", Sampling(0.5)),
            1: ("other", Sampling(1.0, 0.9)),
            2: ("own", Sampling(0.0)),
        }[sample % 3]
        for task in range(3)
        for sample in range(4)
    }
    assert max(own.batches) == 4 and max(other.batches) == 3, "waves of their own"


@pytest.mark.parametrize("dies", [1, 5, 9, 10])
def test_a_mixed_grid_resumes_to_the_same_bytes(tmp_path: Path, dies: int) -> None:
    whole, torn = (TrajectoryStore(tmp_path / f"{name}.jsonl", create=True) for name in ("whole", "torn"))
    play_mixed(whole)
    play_mixed(torn, dies=dies)
    assert 0 < len(list(torn)) <= 12
    play_mixed(torn)
    assert torn.path.read_bytes() == whole.path.read_bytes()
