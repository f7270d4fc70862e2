"""What counts as the same when runs are compared: which parts of a text are ignored, and which part of a reply acts.

All of this is for comparison only: a tree's trajectories, and whatever is written from them, stay as they were.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from functools import partial
from shlex import quote
from typing import NamedTuple

import msgspec

from trajtree.errors import DataError, one_of
from trajtree.trajectory import Context, Message, ToolCall, Trajectory

IGNORED = "\N{HORIZONTAL ELLIPSIS}"
"""Stands in a compared text for what is ignored."""


class Merging(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a tree was merged, where that is more than comparing whole texts for equality.

    Attributes:
        ignore: what is not compared: names in IGNORABLE or regular expressions.
        action: which part of a reply is compared: a name in ACTIONS, a field, or a regular expression.
        similarity: smallest cosine of observations, and of contexts, that are the same; None if they must be equal.
        model: the embeddings that were used, where a command chose them.
        env: the environment that normalised the texts, where a command chose it.
    """

    ignore: tuple[str, ...] = ()
    action: str | None = None
    similarity: float | None = None
    model: str | None = None
    env: str | None = None

    @property
    def options(self) -> str:
        """As options of `trajtree build`; "" for the default."""
        named = {"--action": self.action, "--env": self.env}
        if self.similarity is not None:
            named |= {"--merge": "semantic", "--similarity": f"{self.similarity:g}", "--model": self.model}
        found = [*(("--ignore", rule) for rule in self.ignore), *named.items()]
        return " ".join(f"{name} {quote(value)}" for name, value in found if value is not None)

    @property
    def ignores(self) -> bool:
        """Whether parts of what was seen or done were ignored."""
        return bool(self.ignore) or self.action is not None


EQUAL_TEXTS = Merging()
"""The default: whole texts that are equal are the same."""


class Ignorable(NamedTuple):
    """A part of texts that has no meaning for the agent; `pattern` is a regular expression."""

    pattern: str
    about: str


FIRST_MESSAGE = "first-message"
"""Ignores what the user said first: the one name in IGNORABLE that is a place, not a pattern."""

_HEX = r"(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]"
"""A hexadecimal digit of a word with both a letter and a digit, which neither numbers nor names are."""
_DATE = r"\b\d{4}[-/]\d\d[-/]\d\d"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_CLOCK = r"\d\d?:\d\d(?::\d\d(?:[.,]\d+)?)?"

IGNORABLE = {
    "container-ids": Ignorable(
        rf"(?<=@){_HEX}{{6,64}}(?=[:\s\]]|$)|\b{_HEX}{{64}}\b|\b{_HEX}{{12}}\b", "ids of containers: root@3fa1c0"
    ),
    "timestamps": Ignorable(
        rf"{_DATE}[T ,]+{_CLOCK}(?: ?(?:Z\b|UTC\b|[+-]\d\d:?\d\d\b))?"
        rf"|\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?(?:{_MONTH} {{1,2}}\d\d?|\d\d?[ /]{_MONTH})"
        rf"[ ,/:]*(?:\d{{4}}[ :]+)?{_CLOCK}(?: [A-Z]{{3,4}}\b| ?[+-]\d{{4}}\b)?(?: \d{{4}}\b)?",
        "dates with a time of day: 2026-11-26 10:31:05",
    ),
    "dates": Ignorable(rf"{_DATE}\b", "dates: 2026-11-26"),
    "clock-times": Ignorable(rf"\b{_CLOCK}\b", "times of day: 10:31:05"),
    "durations": Ignorable(
        r"\b\d+m\d+(?:\.\d+)?s\b|\b\d+\.\d+ ?(?:[mnuµ]?s|sec|secs|seconds?)\b|\b\d+ ?[mnuµ]s\b",
        "measured durations: 0.12s, 35 ms, 0m1.204s",
    ),
    "temp-paths": Ignorable(
        r"(?<=/tmp/)(?:tmp[\w.]{6,}|pytest-of-\w+/pytest-\d+|[\w-]*[-.](?=[a-z_]*[A-Z0-9])\w{6,12}\b)"
        r"|/var/folders/\w+/\w+/T\b",
        "temporary files and folders: /tmp/tmpa3f9x2kq",
    ),
    "uuids": Ignorable(r"(?i)\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UUIDs"),
    "commit-ids": Ignorable(rf"\b{_HEX}{{7,40}}\b", "hashes of commits: 9fceb02"),
    "memory-addresses": Ignorable(r"\b0x[0-9a-fA-F]{6,16}\b", "addresses in memory: 0x7f3a5c0d2e80"),
    "process-ids": Ignorable(r"(?i)(?<=\bpid)[ =:]{1,3}\d+\b", "numbers of processes: pid 4123"),
    FIRST_MESSAGE: Ignorable("", "what the user says first, where a simulated user words it anew in each run"),
}
"""What can be ignored by name."""


class ActionPart(NamedTuple):
    """A part of a reply that is its action; `of` returns None for a reply that does not have it."""

    of: Callable[[str], str | None]
    about: str


_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})[^`]*")


def _last_code_block(reply: str) -> str | None:
    """The lines between the last two fences that belong together; a block that is never closed does not count."""
    last = fence = None
    lines: list[str] = []
    for line in reply.split("\n"):
        if fence is None:
            if (opening := _FENCE.fullmatch(line)) is not None:
                fence, lines = opening[1], []
        elif (closing := line.strip()).startswith(fence) and not closing.strip(fence[0]):
            last, fence = "\n".join(lines), None
        else:
            lines.append(line)
    return last


ACTIONS = {"last-code-block": ActionPart(_last_code_block, "the last fenced block of a reply")}
"""Parts of replies by name."""

_NAME = re.compile(r"[a-z]+(?:-[a-z]+)*")
_FIELD = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")


class Ignoring:
    """Replaces what is ignored in a text by IGNORED, and knows which rules have matched so far.

    Args:
        ignore: names in IGNORABLE, or regular expressions.

    Raises:
        DataError: a rule is neither, or matches the empty text.
    """

    def __init__(self, ignore: Collection[str] = ()) -> None:
        self._patterns = {rule: _pattern(rule) for rule in ignore if rule != FIRST_MESSAGE}
        self.first_message = FIRST_MESSAGE in ignore
        self._unmatched = set(self._patterns)

    def __call__(self, text: str) -> str:
        """The text as it is compared."""
        for rule, pattern in self._patterns.items():
            text, count = pattern.subn(IGNORED, text)
            if count:
                self._unmatched.discard(rule)
        return text

    @property
    def unmatched(self) -> list[str]:
        """The rules that matched nothing in any text so far."""
        return [rule for rule in self._patterns if rule in self._unmatched]

    def context(self, context: Context) -> Context:
        """A context as it is compared."""
        if not self._patterns:
            return context
        given, opening = (tuple(map(self._message, messages)) for messages in (context.given, context.opening))
        return Context(given, opening, tuple(map(self, context.tools)))

    def _message(self, m: Message) -> Message:
        return Message(
            m.role,
            self(m.content),
            None if m.reasoning is None else self(m.reasoning),
            tuple(ToolCall(c.id, c.name, self(c.arguments)) for c in m.tool_calls),
            m.tool_call_id,
            m.name,
        )

    def observations(self, trajectory: Trajectory) -> list[str]:
        """[steps] what was seen before each step, the first without its wording if that is ignored."""
        seen = [step.observation for step in trajectory.steps]
        if seen and self.first_message and any(m.role == "user" for m in trajectory.context.opening):
            seen[0] = IGNORED
        return seen


def _pattern(rule: str) -> re.Pattern[str]:
    if rule in IGNORABLE:
        return re.compile(IGNORABLE[rule].pattern)
    if _NAME.fullmatch(rule) and get_close_matches(rule, IGNORABLE, n=1):
        try:
            one_of(IGNORABLE)(rule)
        except ValueError as error:
            raise DataError(f"--ignore: {error}; as a regular expression write ({rule})") from None
    pattern = compiled(rule, "--ignore")
    if pattern.match(""):
        raise DataError(f"--ignore {rule!r}: matches the empty text, and so everywhere; write + instead of *")
    return pattern


def compiled(rule: str, option: str) -> re.Pattern[str]:
    """The user's regular expression, compiled. Raises DataError if it is not one."""
    try:
        return re.compile(rule)
    except re.error as error:
        raise DataError(f"{option} {rule!r}: not a regular expression ({error})") from None


class Acting:
    """Finds the action in a reply, and counts the replies in which there is none: those are compared whole.

    Args:
        action: a name in ACTIONS; a field of the arguments of the agent's calls, or of replies that are JSON; or a
            regular expression, whose first group, if it has one, is the action. None compares actions whole.

    Raises:
        DataError: it is none of these.
    """

    def __init__(self, action: str | None = None) -> None:
        self.replies = self.without = 0
        self._find: Callable[[Trajectory, int], str | None] | None = None
        if action is None:
            return
        if action in ACTIONS:
            self._find = partial(_in_text, ACTIONS[action].of)
        elif _FIELD.fullmatch(action):
            self._find = partial(in_field, action.split("."))
        else:
            if _NAME.fullmatch(action):
                near = get_close_matches(action, ACTIONS, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise DataError(f"--action {action!r}: not one of {', '.join(ACTIONS)}, a field or a pattern{hint}")
            self._find = partial(_in_text, partial(_matched, compiled(action, "--action")))

    def __call__(self, trajectory: Trajectory) -> list[str]:
        """[steps] the actions as they are compared."""
        if self._find is None:
            return [step.action for step in trajectory.steps]
        found = []
        for number, step in enumerate(trajectory.steps):
            action = self._find(trajectory, number)
            self.without += action is None
            found.append(step.action if action is None else action)
        self.replies += len(found)
        return found


def _in_text(of: Callable[[str], str | None], trajectory: Trajectory, step: int) -> str | None:
    return of(trajectory.steps[step].action)


def _matched(pattern: re.Pattern[str], text: str) -> str | None:
    """The last match, because agents argue first and act last."""
    found = list(pattern.finditer(text))
    return found[-1][1 if pattern.groups else 0] if found else None


def in_field(path: Sequence[str], trajectory: Trajectory, step: int) -> str | None:
    """The field in the arguments of a reply's calls, each with its tool's name, or in a reply that is JSON."""
    replies = trajectory.replies
    calls = trajectory.messages[replies[step]].tool_calls if step < len(replies) else ()
    if not calls:
        return _at(path, trajectory.steps[step].action)
    values = [_at(path, call.arguments) for call in calls]
    if all(value is None for value in values):
        return None
    both = zip(calls, values, strict=True)
    return "\n".join(f"{call.name}({call.arguments if value is None else value})" for call, value in both)


def _at(path: Sequence[str], text: str) -> str | None:
    """The field of an object in JSON; None where there is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


__all__ = [
    "ACTIONS",
    "EQUAL_TEXTS",
    "FIRST_MESSAGE",
    "IGNORABLE",
    "IGNORED",
    "Acting",
    "ActionPart",
    "Ignorable",
    "Ignoring",
    "Merging",
    "compiled",
    "in_field",
]
