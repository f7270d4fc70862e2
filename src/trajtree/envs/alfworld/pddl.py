"""Reading a planning problem: typed objects, initial facts and the goal, from PDDL text.

Names are lower-cased, as planners do: PDDL is case-insensitive, and the numbers of things depend on the order of their
lower-case names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from trajtree.errors import DataError

Fact: TypeAlias = tuple[str, ...]
"""Predicate and arguments."""

Expression: TypeAlias = "str | list[Expression]"
"""A name, or a list in parentheses."""

_TOKEN = re.compile(r"[()]|[^\s()]+")
_COMMENT = re.compile(r";[^\n]*")


@dataclass(frozen=True, slots=True)
class Problem:
    """A planning problem: type by object name, facts true at the start, the goal's expression."""

    objects: dict[str, str]
    facts: tuple[Fact, ...]
    goal: Expression


def parse_problem(text: str, where: str) -> Problem:
    """The problem that `text` describes; `where` names it in errors.

    Raises:
        DataError: the text is cut off, is not a PDDL problem of the domain alfred, or lacks a section.
    """
    whole = _parse(_TOKEN.findall(_COMMENT.sub("", text).lower()), where)
    sections = {part[0]: part[1:] for part in whole if isinstance(part, list) and part and isinstance(part[0], str)}
    if sections.get(":domain") != ["alfred"]:
        raise DataError(f"{where}, field pddl_problem: not a problem of the PDDL domain alfred")
    for name in (":objects", ":init", ":goal"):
        if not sections.get(name):
            raise DataError(f"{where}, field pddl_problem: no {name} section")
    facts = tuple(tuple(map(str, fact)) for fact in sections[":init"] if _is_flat(fact) and fact[0] != "=")
    return Problem(typed(sections[":objects"], where), facts, sections[":goal"][0])


def typed(words: list[Expression], where: str) -> dict[str, str]:
    """Names and types of `a b - t c - u`, in order.

    Raises:
        DataError: something is not a name, or has no type.
    """
    found: dict[str, str] = {}
    untyped: list[str] = []
    names = iter(words)
    for word in names:
        if not isinstance(word, str):
            raise DataError(f"{where}, field pddl_problem: {word} where a name is expected")
        if word == "-":
            kind = next(names, None)
            if not isinstance(kind, str):
                break
            found.update(dict.fromkeys(untyped, kind))
            untyped = []
        else:
            untyped.append(word)
    if untyped:
        raise DataError(f"{where}, field pddl_problem: {untyped[0]!r} has no type")
    return found


def _is_flat(expression: Expression) -> bool:
    return isinstance(expression, list) and bool(expression) and all(isinstance(part, str) for part in expression)


def _parse(tokens: list[str], where: str) -> list[Expression]:
    """The single expression made of the tokens, parsed without recursion because a file may be nested arbitrarily."""
    top: list[Expression] = []
    open_lists = [top]
    for token in tokens:
        if token == "(":
            inner: list[Expression] = []
            open_lists[-1].append(inner)
            open_lists.append(inner)
        elif token == ")":
            open_lists.pop()
            if not open_lists:
                raise DataError(f"{where}, field pddl_problem: an unmatched closing parenthesis")
        else:
            open_lists[-1].append(token)
    if len(open_lists) > 1:
        raise DataError(f"{where}, field pddl_problem: cut off, {len(open_lists) - 1} parentheses are not closed")
    if len(top) != 1 or not isinstance(top[0], list):
        raise DataError(f"{where}, field pddl_problem: not a single expression in parentheses")
    return top[0]


__all__ = ["Expression", "Fact", "Problem", "parse_problem", "typed"]
