"""When a game is won: a goal such as "some clean mug is in some cabinet", compiled once and checked after each action.

Every ALFRED goal is a conjunction of "there are things such that ...", without "or" and "for all".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

from trajtree.envs.alfworld.pddl import Expression, Problem, typed
from trajtree.envs.alfworld.state import State
from trajtree.errors import DataError

_CHANGING: dict[str, Callable[[State, tuple[str, ...]], bool]] = {
    "atlocation": lambda state, ids: state.place == ids[1],
    "holds": lambda state, ids: state.held == ids[1],
    "holdsany": lambda state, ids: state.held is not None,
    "inreceptacle": lambda state, ids: ids[0] in state.inside.get(ids[1], ()),
    "objectatlocation": lambda state, ids: ids[0] in state.at.get(ids[1], ()),
    "opened": lambda state, ids: ids[0] in state.opened,
    "isclean": lambda state, ids: ids[0] in state.clean,
    "ishot": lambda state, ids: ids[0] in state.hot,
    "iscool": lambda state, ids: ids[0] in state.cool,
    "issliced": lambda state, ids: ids[0] in state.sliced,
    "istoggled": lambda state, ids: ids[0] in state.toggled,
}
_UNTRACKED = {"checked", "examined", "ison", "isreceptacleobjectfull", "full", "wasinreceptacle"}


class _Literal(NamedTuple):
    predicate: str
    terms: tuple[str, ...]
    wanted: bool


class _Query(NamedTuple):
    """There are values for `variables`, each among its `candidates`, such that the `literals` hold at every depth."""

    variables: list[str]
    candidates: list[list[str]]
    literals: list[list[_Literal]]


class Goal:
    """The goal of a problem.

    Raises:
        DataError: it uses a connective or a fact that no ALFRED goal uses.
    """

    def __init__(self, problem: Problem, where: str) -> None:
        self._problem, self._where = problem, where
        self._facts = frozenset(problem.facts)
        self._queries = [self._compile(part) for part in _conjuncts(problem.goal)]
        asked = {lit.predicate for query in self._queries for depth in query.literals for lit in depth}
        self._facts = frozenset(fact for fact in problem.facts if fact[0] in asked - _CHANGING.keys())
        del self._problem

    def reached(self, state: State) -> bool:
        """Whether the goal is true in the state."""
        return all(self._search(query, state, {}, 0) for query in self._queries)

    def _search(self, query: _Query, state: State, values: dict[str, str], depth: int) -> bool:
        if not all(self._true(literal, state, values) for literal in query.literals[depth]):
            return False
        if depth == len(query.variables):
            return True
        for candidate in query.candidates[depth]:
            values[query.variables[depth]] = candidate
            if self._search(query, state, values, depth + 1):
                return True
        return False

    def _true(self, literal: _Literal, state: State, values: dict[str, str]) -> bool:
        ids = tuple(values.get(term, term) for term in literal.terms)
        changing = _CHANGING.get(literal.predicate)
        if changing is not None:
            return changing(state, ids) is literal.wanted
        if literal.predicate == "=":
            return (ids[0] == ids[1]) is literal.wanted
        return ((literal.predicate, *ids) in self._facts) is literal.wanted

    def _compile(self, expression: Expression) -> _Query:
        types: dict[str, str] = {}
        literals: list[_Literal] = []
        self._flatten(expression, types, literals)
        variables = list(types)
        by_depth: defaultdict[int, list[_Literal]] = defaultdict(list)
        for literal in literals:
            by_depth[max((variables.index(t) + 1 for t in literal.terms if t in types), default=0)].append(literal)
        return _Query(
            variables,
            [self._candidates(variable, types[variable], literals) for variable in variables],
            [by_depth[depth] for depth in range(len(variables) + 1)],
        )

    def _candidates(self, variable: str, kind: str, literals: list[_Literal]) -> list[str]:
        """Objects that satisfy the literals that never change and contain only this variable."""
        fixed = [lit for lit in literals if lit.predicate not in _CHANGING and lit.predicate != "="]
        alone = [lit for lit in fixed if all(t == variable for t in lit.terms if t.startswith("?"))]
        found = []
        for id, its_kind in self._problem.objects.items():
            facts = [(lit, (lit.predicate, *(id if t == variable else t for t in lit.terms))) for lit in alone]
            if its_kind == kind and all((fact in self._facts) is lit.wanted for lit, fact in facts):
                found.append(id)
        return found

    def _flatten(self, expression: Expression, types: dict[str, str], literals: list[_Literal]) -> None:
        match expression:
            case ["and", *parts]:
                for part in parts:
                    self._flatten(part, types, literals)
            case ["exists", [*variables], inner]:
                new = typed(variables, self._where)
                if new.keys() & types.keys():
                    raise DataError(f"{self._where}, field pddl_problem: the goal uses {next(iter(new))} twice")
                types.update(new)
                self._flatten(inner, types, literals)
            case ["not", [str(predicate), *terms]]:
                literals.append(self._literal(predicate, terms, False))
            case [str(predicate), *terms]:
                literals.append(self._literal(predicate, terms, True))
            case _:
                raise DataError(f"{self._where}, field pddl_problem: the goal holds {expression!r}")

    def _literal(self, predicate: str, terms: list[Expression], wanted: bool) -> _Literal:
        if predicate in {"or", "forall", "imply", "when", *_UNTRACKED}:
            raise DataError(
                f"{self._where}, field pddl_problem: {predicate!r} occurs in no ALFRED goal; is this another game?"
            )
        return _Literal(predicate, tuple(map(str, terms)), wanted)


def _conjuncts(goal: Expression) -> list[Expression]:
    match goal:
        case ["and", *parts]:
            return list(parts)
        case _:
            return [goal]


__all__ = ["Goal"]
