"""Parsing a task's description."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TASK = re.compile(r"Your task is to: (.+?)\.?\s*$")
_FORMS = tuple(
    re.compile(form)
    for form in (
        r"(?:look at|examine the) (?P<what>\w+) (?:under|with) the (?P<lamp>\w+)",
        r"(?P<two>put two|find two) (?P<what>\w+) (?:and put them )?in (?P<where>\w+)",
        r"put a (?P<how>clean|hot|cool) (?P<what>\w+) in (?P<where>\w+)",
        r"(?P<how>clean|heat|cool) some (?P<what>\w+) and put it in (?P<where>\w+)",
        r"put (?:a|some) (?P<what>\w+) (?:in|on) (?P<where>\w+)",
    )
)


@dataclass(frozen=True, slots=True)
class Errand:
    """A task: the kind of thing, how many, an optional treatment, where to put it, or the lamp to use."""

    what: str
    count: int = 1
    verb: str = ""
    where: str = ""
    lamp: str = ""


def parse_errand(observation: str) -> Errand | None:
    """The errand of a first observation; None if it matches none of ALFWorld's twelve phrasings."""
    task = _TASK.search(observation)
    for form in _FORMS:
        match = form.fullmatch(task[1]) if task else None
        if match:
            said = match.groupdict("")
            verb = {"hot": "heat"}.get(said.get("how", ""), said.get("how", ""))
            return Errand(said["what"], 2 if said.get("two") else 1, verb, said.get("where", ""), said.get("lamp", ""))
    return None


__all__ = ["Errand", "parse_errand"]
