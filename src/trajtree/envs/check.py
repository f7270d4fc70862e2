"""Checking that an environment keeps the contract: `check_env` plays it, also badly, and reports what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from trajtree.envs.base import Environment, StepResult
from trajtree.envs.guard import FOR_THE_USER, named, problem_of_closing, quoted, shown, well_formed
from trajtree.errors import UnknownTask
from trajtree.trajectory import SCORE_TOLERANCE

HOSTILE_ACTIONS = (
    "",
    "   ",
    "\n\n",
    "0",
    "x" * 10_000,
    "look\nand run",
    "\x00\x1b[2J",
    "é☃🙂",
    "\ud800",
    "{}%s\\",
)
"""What a confused agent may say; the environment must answer each."""

_LONGEST = 1000
"""Number of steps within which an episode must end, whatever the agent does."""


class EnvCheckError(AssertionError):
    """The environment breaks the contract; the message says where and how."""


@dataclass(frozen=True, slots=True)
class EnvReport:
    """What `check_env` covered: names, number of tasks, episodes and steps played, and how episodes ended."""

    name: str
    version: str
    tasks: int
    episodes: int
    steps: int
    terminated: int
    truncated: int


@dataclass(frozen=True, slots=True)
class _Episode:
    task: str
    first: str
    results: tuple[StepResult, ...]


def check_env(
    make: Callable[[], Environment],
    tasks: Sequence[str],
    *,
    actions: Callable[[str], Sequence[str]],
    unknown_task: str = "no such task",
) -> EnvReport:
    """Check an environment on `tasks`, with `actions(task)` as a sensible way to play each.

    Checked: class attributes and tools; types of all returned values; score within [0, 1] after every step; an episode
    ends within 1,000 steps, by termination or truncation, never both; the same actions give the same rewards and, after
    canonicalisation, the same observations; a snapshot, if supported, continues as a replay does; two environments do
    not affect each other; hostile actions are answered; an unknown task raises KeyError; `close` can be called twice.

    Raises:
        EnvCheckError: one of these checks fails.
        UnknownTask: the environment does not know one of the tasks.
        ValueError: `tasks` is empty.
    """
    if not tasks:
        raise ValueError("check_env needs at least one task")
    made: list[Environment] = []
    try:
        made += [make()]
        made += [make()]
        return _checked(made[0], made[1], tasks, actions, unknown_task)
    except BaseException as error:
        for env in made:
            problem_of_closing(env)  # the first error says more
        if isinstance(error, (EnvCheckError, *FOR_THE_USER)):
            raise
        raise EnvCheckError(f"raises {named(error, place=True)}") from error


def _checked(
    first: Environment,
    second: Environment,
    tasks: Sequence[str],
    actions: Callable[[str], Sequence[str]],
    unknown_task: str,
) -> EnvReport:
    _check_class(first)
    _check_canonical(first)
    episodes = []
    for task, other in zip(tasks, [*tasks[1:], tasks[0]], strict=True):
        once = _play(first, task, actions(task))
        again = _play(first, task, actions(task))
        _same(first, once, again, "played twice in one environment")
        _check_snapshot(first, task, actions(task), once)
        in_turns = _in_turns(first, task, actions(task), second, other, actions(other))
        _same(first, once, in_turns, "played in turns with another environment")
        episodes += [once, again, in_turns, *(_play(first, task, [action]) for action in HOSTILE_ACTIONS)]
    episodes.append(_to_the_end(first, tasks[0], actions(tasks[0])))
    _check_unknown(first, unknown_task)
    for env in (first, second):
        _check_close(env)
    ends = [episode.results[-1] for episode in episodes if episode.results]
    return EnvReport(
        name=first.name,
        version=first.version,
        tasks=len(tasks),
        episodes=len(episodes),
        steps=sum(len(episode.results) for episode in episodes),
        terminated=sum(end.terminated for end in ends),
        truncated=sum(end.truncated for end in ends),
    )


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise EnvCheckError(message)


def _check_class(env: Environment) -> None:
    for attribute in ("name", "version", "instruction"):
        value = getattr(type(env), attribute, None)
        _require(isinstance(value, str) and value != "", f"class attribute {attribute!r} is {quoted(value)}, not text")
    for tool in env.tools:
        has_name = (
            isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping) and "name" in tool["function"]
        )
        _require(has_name, f"tool {quoted(tool)} is not {{'type': 'function', 'function': {{'name': ..., ...}}}}")


def _check_canonical(env: Environment) -> None:
    for function in (env.canonical_action, env.canonical_observation):
        for text in HOSTILE_ACTIONS:
            once = function(text)
            _require(isinstance(once, str), f"{function.__name__}({text[:20]!r}) is {quoted(once)}, not a string")
            _require(function(once) == once, f"{function.__name__} changes its own result for {text[:20]!r}")


def _play(env: Environment, task: str, actions: Sequence[str]) -> _Episode:
    observation = _reset(env, task)
    results: list[StepResult] = []
    score = 0.0
    for action in actions:
        result = _step(env, task, action)
        score += result.reward
        _require(-SCORE_TOLERANCE <= score <= 1 + SCORE_TOLERANCE, f"{task}: score is {score} after {action[:60]!r}")
        results.append(result)
        if result.terminated or result.truncated:
            break
    return _Episode(task, observation, tuple(results))


def _to_the_end(env: Environment, task: str, actions: Sequence[str]) -> _Episode:
    """An episode in which the agent repeats the same actions over and over."""
    episode = _play(env, task, list(islice(cycle(actions or ["0"]), _LONGEST)))
    _require(
        any(episode.results[-1][2:]),
        f"{task}: the episode does not end within {_LONGEST} steps; give the environment a step limit",
    )
    return episode


def _reset(env: Environment, task: str) -> str:
    try:
        observation = env.reset(task)
    except KeyError as error:
        why = shown(error.args[0]) if error.args else "KeyError"
        raise UnknownTask(f"{env.name} has no task {task!r} ({why})") from error
    except FOR_THE_USER:
        raise
    except BaseException as error:
        raise EnvCheckError(f"{task}: reset raises {named(error, place=True)}") from error
    is_text = isinstance(observation, str) and observation != ""
    _require(is_text, f"{task}: reset returns {quoted(observation)}, not text")
    return observation


def _step(env: Environment, task: str, action: str) -> StepResult:
    where = f"{task}: after {action[:60]!r}"
    try:
        result = env.step(action)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise EnvCheckError(f"{where} step raises {named(error)}") from error
    _require(isinstance(result, StepResult), f"{where} step returns {type(result).__name__}, not a StepResult")
    try:
        checked = well_formed(result)
    except ValueError as error:
        raise EnvCheckError(f"{where}: {error}") from None
    _require(not (checked.terminated and checked.truncated), f"{where} the episode is both terminated and truncated")
    return checked


def _in_turns(
    env: Environment,
    task: str,
    actions: Sequence[str],
    other: Environment,
    other_task: str,
    other_actions: Sequence[str],
) -> _Episode:
    """The episode in `env`, played while `other` is always one step ahead in its own episode."""
    first = _reset(env, task)
    _reset(other, other_task)
    results: list[StepResult] = []
    other_over = False
    for number, action in enumerate(actions):
        if number < len(other_actions) and not other_over:
            other_over = any(_step(other, other_task, other_actions[number])[2:])
        results.append(_step(env, task, action))
        if any(results[-1][2:]):
            break
    return _Episode(task, first, tuple(results))


def _check_snapshot(env: Environment, task: str, actions: Sequence[str], once: _Episode) -> None:
    """If the environment has `snapshot` and `restore`: continuing from a snapshot equals continuing from a replay."""
    if not (hasattr(env, "snapshot") and hasattr(env, "restore")):
        return
    half = len(once.results) // 2
    first = _reset(env, task)
    before = tuple(_step(env, task, action) for action in actions[:half])
    taken = env.snapshot()
    for how in ("going on", "restored from a snapshot"):
        after = tuple(_step(env, task, action) for action in actions[half : len(once.results)])
        _same(env, once, _Episode(task, first, before + after), how)
        env.restore(taken)


def _same(env: Environment, one: _Episode, two: _Episode, how: str) -> None:
    canonical = env.canonical_observation
    where = f"{one.task}, {how}:"
    _require(canonical(one.first) == canonical(two.first), f"{where} the first observation differs")
    _require(len(one.results) == len(two.results), f"{where} the lengths differ")
    for number, (a, b) in enumerate(zip(one.results, two.results, strict=True), 1):
        same_text = canonical(a.observation) == canonical(b.observation)
        _require(same_text, f"{where} observation {number} is {a.observation!r}, then {b.observation!r}")
        _require(a[1:] == b[1:], f"{where} step {number} gives {a[1:]}, then {b[1:]}")


def _check_unknown(env: Environment, task: str) -> None:
    asked = f"reset({task!r}) does not raise KeyError, although there is no such task"
    try:
        _reset(env, task)
    except UnknownTask:
        return
    except EnvCheckError as error:
        raise EnvCheckError(f"{asked}; {str(error).removeprefix(f'{task}: ')}") from error
    raise EnvCheckError(asked)


def _check_close(env: Environment) -> None:
    for _ in range(2):
        if problem := problem_of_closing(env):
            raise EnvCheckError(f"{problem}; it is called twice")
