"""ScienceWorld: thirty kinds of elementary science tasks in a house of ten rooms, with partial credit.

The simulator is the Scala program inside the package scienceworld (Apache-2.0), called directly: its Python
wrapper lists every valid action after each step, which takes ten times as long as the step itself.
"""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from trajtree.envs.base import Environment, StepResult
from trajtree.envs.jvm import SCIENCEWORLD, Jvm, Replayed
from trajtree.errors import DataError, EnvError

Split = Literal["train", "dev", "test"]


class TaskType(NamedTuple):
    """A kind of task: number of variations, and the step limit of its episodes."""

    variations: int
    max_steps: int


# Step limits are those that ETO published; types marked * are not among them, and get what their gold paths need.
TASK_TYPES: dict[str, TaskType] = {
    "boil": TaskType(30, 100),
    "change-the-state-of-matter-of": TaskType(30, 80),
    "chemistry-mix": TaskType(32, 60),
    "chemistry-mix-paint-secondary-color": TaskType(36, 15),
    "chemistry-mix-paint-tertiary-color": TaskType(36, 30),
    "find-animal": TaskType(300, 15),
    "find-living-thing": TaskType(300, 15),
    "find-non-living-thing": TaskType(300, 15),
    "find-plant": TaskType(300, 15),
    "freeze": TaskType(30, 80),
    "grow-fruit": TaskType(126, 60),
    "grow-plant": TaskType(126, 30),
    "identify-life-stages-1": TaskType(14, 30),
    "identify-life-stages-2": TaskType(10, 30),
    "inclined-plane-determine-angle": TaskType(168, 80),  # *
    "inclined-plane-friction-named-surfaces": TaskType(1386, 80),  # *
    "inclined-plane-friction-unnamed-surfaces": TaskType(162, 200),  # *
    "lifespan-longest-lived": TaskType(125, 10),
    "lifespan-longest-lived-then-shortest-lived": TaskType(125, 12),
    "lifespan-shortest-lived": TaskType(125, 10),
    "measure-melting-point-known-substance": TaskType(436, 120),
    "measure-melting-point-unknown-substance": TaskType(300, 120),  # *
    "melt": TaskType(30, 80),
    "mendelian-genetics-known-plant": TaskType(120, 160),  # *
    "mendelian-genetics-unknown-plant": TaskType(480, 300),  # *
    "power-component": TaskType(20, 20),
    "power-component-renewable-vs-nonrenewable-energy": TaskType(20, 30),
    "test-conductivity": TaskType(900, 30),
    "test-conductivity-of-unknown-substances": TaskType(600, 30),
    "use-thermometer": TaskType(540, 30),
}

_UNKNOWN_ACTION = "No known action matches that input."
_SIMPLIFICATIONS = "teleportAction,openContainers,openDoors,selfWateringFlowerPots"
_AMBIENT = re.compile(r"(currently reading a temperature of) -?\d+")

# Only spellings that the simulator's parser itself treats as the same action.
_SYNONYMS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\bthe ", ""),
        (r"^look$", "look around"),
        (r"^(?:look on|examine) ", "look at "),
        (r"^(?:get|take) ", "pick up "),
        (r"^drop ", "put down "),
        (r"^focus (?!on )", "focus on "),
        (r"^teleport (?:to |into )?", "teleport to "),
        (r"^(?:(?:go|walk|move) (?:through|to|into)|go) ", "go to "),
        (r"^(?:move|put) (.+) (?:to|in|into|on) ", r"move \1 to "),
        (r"^turn on ", "activate "),
        (r"^turn off ", "deactivate "),
    )
)


def tasks() -> tuple[str, ...]:
    """Names of the thirty task types."""
    return tuple(TASK_TYPES)


def splits(task_type: str, split: Split) -> list[int]:
    """Official variations of a split: half of them train, a quarter dev, the rest test, in this order.

    Raises:
        KeyError: there is no such task type.
    """
    total = _task_type(task_type).variations
    quarter = total // 4
    bounds = {"train": (0, 2 * quarter), "dev": (2 * quarter, 3 * quarter), "test": (3 * quarter, total)}
    return list(range(*bounds[split]))


def eto_split(split: Split, path: Path) -> list[str]:
    """Task ids of a split as ETO (Song et al. 2024) and its followers use it.

    `path` is the folder with ETO's `train_indices.json`, `dev_indices.json` and `test_indices.json`.

    Raises:
        DataError: the file is missing, is not a list of [name, variation], or names an unknown task.
    """
    file = path / f"{split}_indices.json"
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{file}: is not JSON: {error}") from error
    if not isinstance(entries, list):
        raise DataError(f"{file}: must contain a list of [task name, variation], not {type(entries).__name__}")
    return [_eto_task(entry, f"{file}: entry {index}") for index, entry in enumerate(entries)]


def _eto_task(entry: object, where: str) -> str:
    match entry:
        case [str(name), int(variation)]:
            task = f"{plain_name(name)}/{variation}"
        case _:
            raise DataError(f"{where}: must be [task name, variation], got {entry!r}")
    try:
        parse_task(task)
    except KeyError as error:
        raise DataError(f"{where}: {error.args[0]}") from error
    return task


def plain_name(name: str) -> str:
    """The task type behind ETO's name for it, which is for example `task-6-lifespan-(longest-lived)`."""
    return re.sub(r"^task-\d+[ab]?-|[()]", "", name).replace("mendellian", "mendelian")


def _task_type(name: str) -> TaskType:
    if name not in TASK_TYPES:
        nearest = get_close_matches(name, TASK_TYPES, n=1, cutoff=0.0)[0]
        raise KeyError(f"ScienceWorld has no task type {name!r}; the closest is {nearest!r}")
    return TASK_TYPES[name]


def parse_task(task: str) -> tuple[str, int]:
    """Task type and variation of an id such as "find-plant/12".

    Raises:
        KeyError: the type is unknown or the variation is out of range; the message says what exists.
    """
    name, _, variation = task.partition("/")
    total = _task_type(name).variations
    if not (variation.isascii() and variation.isdigit()) or int(variation) >= total:
        raise KeyError(f"{task!r} is not a task: use {name}/0 to {name}/{total - 1}")
    return name, int(variation)


def simplifications_for(task_type: str) -> str:
    """All available simplifications: teleport, open doors and containers, self-watering pots.

    Listed individually, because the simulator's preset "easy" leaves containers closed. Wires can be connected only
    where the task needs it.
    """
    electrical = "power-component" in task_type or "conductivity" in task_type
    return _SIMPLIFICATIONS if electrical else f"{_SIMPLIFICATIONS},noElectricalAction"


class World:
    """A loaded task inside the virtual machine: the raw simulator, made repeatable by seeding every call."""

    def __init__(self, jvm: Jvm, task: str, simplifications: str, *, gold: bool = False) -> None:
        """Load the task (0.06 to 0.3 s); `gold` also plans the simulator's own solution (up to 6 s).

        Raises:
            EnvError: the simulator refuses to load the task.
        """
        self.jvm, self._task, self._turn = jvm, task, 0
        name, variation = parse_task(task)
        with jvm.lock:
            jvm.seed(self._seed())
            self._interface: Any = jvm.interface()
            error = str(self._interface.load(name, variation, simplifications, gold))
        if error.startswith("ERROR"):
            raise EnvError(f"ScienceWorld does not load {task}: {error}")

    def _seed(self) -> int:
        digest = blake2b(f"{self._task} {self._turn}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big", signed=True)

    def opening(self) -> str:
        """The task description; the agent sees where it starts by looking around."""
        with self.jvm.lock:
            return str(self._interface.getTaskDescription()).strip()

    def gold(self) -> list[str]:
        """The simulator's own solution, if it was requested."""
        with self.jvm.lock:
            return [str(action) for action in self._interface.getGoldActionSequence()]

    def close(self) -> None:
        """Free the world's memory."""
        with self.jvm.lock:
            self.jvm.release(self._interface)

    def perform(self, action: str) -> tuple[str, float, bool]:
        """Observation, raw score (negative after a fatal mistake) and whether the task is completed."""
        self._turn += 1
        with self.jvm.lock:
            self.jvm.seed(self._seed())
            observation = str(self._interface.step(action)).strip()
            return observation, float(self._interface.getScore()), bool(self._interface.getCompleted())


def _installed_version() -> str:
    try:
        return f"{version('scienceworld')}+seeded"
    except PackageNotFoundError:
        return "not installed"


class ScienceWorld(Environment):
    """ScienceWorld over text; tasks are written "find-plant/12" (type/variation).

    The score is the simulator's, from 0 to 1 with credit for subgoals; `focus on` the wrong object makes it 0
    and ends the episode. If several objects match an action, the simulator asks for a number and takes it as the
    next action.

    Exactly repeatable: the same task and actions give the same observations and scores. The stock simulator is not:
    animals wander, plants grow, thermometers vary by a degree or two, objects with equal names swap places, and
    where these coincide, scores vary too. Here randomness is a function of the task and the number of the step (see
    `trajtree.envs.jvm`). Measured on one variation of each of the 30 task types, playing the gold path three times and
    comparing observation, room and inventory after every action: with the stock simulator, 1,355 of 5,346 texts
    differed, and scores in at least 4 types; here none of 6,012 did. Java 17 and 25 agreed on 400 random actions in
    10 types.

    An episode survives the death of the virtual machine: it is replayed in a new one.
    """

    name: ClassVar[str] = "scienceworld"
    version: ClassVar[str] = _installed_version()
    instruction: ClassVar[str] = (
        "You act in a text world. Reply with one action: look around; teleport to ROOM; look in OBJECT; "
        "pick up OBJECT; move OBJECT to OBJECT; pour OBJECT into OBJECT; use OBJECT on OBJECT; activate OBJECT; "
        "read OBJECT; inventory; wait; focus on OBJECT. A wrong focus ends the task."
    )

    def __init__(self, *, max_steps: int | None = None, simplifications: str | None = None) -> None:
        """Make an idle environment; the virtual machine starts with the first `reset`.

        If None, `max_steps` and `simplifications` (the simulator's comma-separated names) depend on the task type: see
        `TASK_TYPES` and `simplifications_for`.
        """
        self._max_steps = max_steps
        self._simplifications = simplifications
        self._task = ""
        self._world: Replayed[World] | None = None
        self._score = 0.0
        self._terminated = self._truncated = False

    def max_steps(self, task: str) -> int:
        """Number of actions after which an episode of the task is truncated."""
        return self._max_steps or TASK_TYPES[parse_task(task)[0]].max_steps

    def simplifications(self, task: str) -> str:
        """Simplifications in force for the task."""
        if self._simplifications is None:
            return simplifications_for(parse_task(task)[0])
        return self._simplifications

    def reset(self, task: str) -> str:
        """Start the task; the observation is its description."""
        parse_task(task)
        self.close()
        self._task, self._score, self._terminated, self._truncated = task, 0.0, False, False
        self._world = Replayed(SCIENCEWORLD, task, lambda jvm: World(jvm, task, self.simplifications(task)))
        return self._world.do(World.opening)

    def step(self, action: str) -> StepResult:
        """Perform the action; a meaningless one costs a step.

        Raises:
            RuntimeError: there was no `reset`.
            EnvError: the virtual machine died repeatedly.
        """
        if self._world is None:
            raise RuntimeError("step before reset")
        if self._terminated or self._truncated:
            return StepResult("The episode is over.", 0.0, self._terminated, self._truncated)
        observation, raw, completed = self._world.perform(action)
        before, self._score = self._score, min(max(raw, 0.0), 1.0)
        self._terminated = completed or raw < 0
        self._truncated = not self._terminated and len(self._world.actions) >= self.max_steps(self._task)
        return StepResult(observation, self._score - before, self._terminated, self._truncated)

    def close(self) -> None:
        """Leave the world; the shared virtual machine keeps running until the process ends."""
        if self._world is not None:
            self._world.close()
        self._world = None

    @staticmethod
    def canonical_action(action: str) -> str:
        """Lower case, single spaces, no "the", and one spelling for verbs that the simulator treats as equal."""
        text = " ".join(action.lower().split())
        for pattern, replacement in _SYNONYMS:
            text = pattern.sub(replacement, text)
        return text

    @staticmethod
    def canonical_observation(observation: str) -> str:
        """Listings in alphabetical order and without the ambient temperature, on which no decision depends.

        A measurement ("the thermometer measures ...") stays as it is.
        """
        lines = _AMBIENT.sub(r"\1 #", observation).split("\n")
        groups = groupby(lines, key=lambda line: line.startswith("\t"))
        return "\n".join(line for listed, group in groups for line in (sorted(group) if listed else group))
