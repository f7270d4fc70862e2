"""A tiny world to test everything with: take the key of the right colour, open the door of that colour."""

from __future__ import annotations

from typing import ClassVar

from trajtree.envs.base import Environment, StepResult
from trajtree.envs.domain import Domain, NoDemonstration
from trajtree.trajectory import Message, Outcome, Sampling, Step, Trajectory

COLOURS = ("red", "blue", "green")
TASKS = tuple(f"toy/{number}" for number in range(200))
MAX_STEPS = 6


class Toy(Environment):
    """The task names a colour. The right key scores 0.5, opening its door 1; any other door is a dead end."""

    name: ClassVar[str] = "toy"
    version: ClassVar[str] = "1"
    instruction: ClassVar[str] = (
        "You stand in a room with coloured keys and doors. Reply with one action: take COLOUR key, "
        "drop COLOUR key, open COLOUR door, look."
    )

    def __init__(self) -> None:
        self.colour = ""
        self.held: str | None = None
        self.moves = 0
        self.over = True

    def reset(self, task: str) -> str:
        if task not in TASKS:
            raise KeyError(f"no task {task!r}: there are toy/0 to toy/{len(TASKS) - 1}")
        number = int(task.removeprefix("toy/"))
        self.colour = COLOURS[number % 3]
        self.held, self.moves, self.over = None, 0, False
        return f"Task {number}: leave through the {self.colour} door. {self._look()}"

    def step(self, action: str) -> StepResult:
        if self.over:
            return StepResult("The episode is over.", 0.0, False, True)
        self.moves += 1
        before = self._score()
        observation, won = self._act(*self.canonical_action(action).split(" "))
        lost = observation == "A pit!"
        reward = 1.0 - before if won else -before if lost else self._score() - before
        truncated = self.moves >= MAX_STEPS and not (won or lost)
        self.over = won or lost or truncated
        return StepResult(observation, reward, won or lost, truncated)

    def _act(self, verb: str, colour: str = "", thing: str = "", *rest: str) -> tuple[str, bool]:
        match (verb, colour if colour in COLOURS and not rest else None, thing):
            case ("take", str(colour), "key") if self.held is None:
                self.held = colour
                return f"You hold the {colour} key.", False
            case ("drop", str(colour), "key") if self.held == colour:
                self.held = None
                return "Your hands are empty.", False
            case ("open", str(colour), "door") if self.held == colour:
                return ("You are outside.", True) if colour == self.colour else ("A pit!", False)
            case ("open", str(colour), "door"):
                return "It is locked.", False
            case ("look", None, ""):
                return self._look(), False
        return "Nothing happens.", False

    def _look(self) -> str:
        return f"Keys and doors are {', '.join(COLOURS)}. You hold {self.held or 'nothing'}."

    def _score(self) -> float:
        return 0.5 if self.held == self.colour else 0.0


def solution(task: str) -> list[str]:
    """The shortest way to win."""
    colour = COLOURS[int(task.removeprefix("toy/")) % 3]
    return [f"take {colour} key", f"open {colour} door"]


def demonstrate(env: Toy, task: str) -> Trajectory | NoDemonstration:
    """The solution, played."""
    observation = env.reset(task)
    messages = [Message("system", env.instruction)]
    steps: list[Step] = []
    for action in solution(task):
        result = env.step(action)
        messages += [Message("user", observation), Message("assistant", action)]
        steps.append(Step(observation, action, reward=result.reward))
        observation = result.observation
    return Trajectory(
        task=task,
        sample=0,
        policy="expert",
        env=env.name,
        env_version=env.version,
        seed=0,
        sampling=Sampling(),
        messages=tuple(messages),
        steps=tuple(steps),
        score=sum(s.reward for s in steps),
        outcome=Outcome.COMPLETED,
    )


def _tasks(task_type: str, split: str) -> tuple[str, ...]:
    if task_type != "toy":
        raise KeyError(f"no task type {task_type!r}: there is toy")
    return {"train": TASKS[:120], "dev": TASKS[120:150], "test": TASKS[150:]}[split]


DOMAIN = Domain(environment=Toy, make=lambda max_steps: Toy(), tasks=_tasks, demonstrate=demonstrate)

COLOURED = Domain(
    environment=Toy,
    make=lambda max_steps: Toy(),
    tasks=_tasks,
    demonstrate=demonstrate,
    types=("toy",),
    situation=lambda task: COLOURS[int(task.removeprefix("toy/")) % 3],
)
"""The same, with tasks of one colour in one situation."""

PARTLY = Domain(
    environment=Toy, make=lambda max_steps: Toy(), tasks=_tasks, demonstrate=demonstrate, types=("nothing", "toy")
)
"""Names a type of which its data holds no task."""

TWICE = Domain(
    environment=Toy,
    make=lambda max_steps: Toy(),
    tasks=lambda kind, split: _tasks("toy", split),
    demonstrate=demonstrate,
)
"""Whatever the task type, the same tasks."""

NEWER = Domain(environment=Toy, make=lambda max_steps: Toy(), tasks=_tasks, demonstrate=demonstrate, data=lambda: "new")
"""The same tasks over other data."""

HOPELESS = Domain(
    environment=Toy,
    make=lambda max_steps: Toy(),
    tasks=_tasks,
    demonstrate=lambda env, task: NoDemonstration(task, "nobody knows how"),
)
"""The same without an expert."""


def _by_parity(task_type: str, split: str) -> tuple[str, ...]:
    return tuple(task for task in _tasks("toy", split) if int(task.removeprefix("toy/")) % 2 == (task_type == "odd"))


BY_PARITY = Domain(
    environment=Toy, make=lambda max_steps: Toy(), tasks=_by_parity, demonstrate=demonstrate, types=("odd", "even")
)
"""The same tasks, of two types."""

HOPELESS_BY_PARITY = Domain(
    environment=Toy,
    make=lambda max_steps: Toy(),
    tasks=_by_parity,
    demonstrate=lambda env, task: NoDemonstration(task, "nobody knows how"),
    types=("odd", "even"),
)
"""Two types without an expert."""
