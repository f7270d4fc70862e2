"""A recipe's text: YAML within limits, overrides of its settings, and what is wrong with them by key."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from trajtree.errors import RecipeError

_DEEPEST, _MOST = 20, 100_000
"""Largest depth of nested sections and largest number of values in a recipe: far more than anybody writes."""

_RENAMED = {
    "treedpo": "preference",
    "treedpo.start": "starts_from, under rows: {w2sg_treedpo: ...}",
    "paths.mcts_iterations": "paths.iterations",
    "paths.mcts_gamma": "paths.gamma",
}
"""Keys of earlier versions and their current names."""


def from_yaml(text: str | bytes) -> Any:
    """Parse YAML.

    Raises:
        ValueError: it is invalid, nested too deeply, or grows too large through its aliases.
    """
    try:
        found = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        where = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise ValueError(f"{error.problem}{where}") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError(f"nested more than {_DEEPEST} deep") from None
    except (AttributeError, LookupError, OverflowError):
        # So it fails where a tag, such as !!int, promises what the value is not.
        raise ValueError("a value is not of the type that its tag or its form says") from None
    _measure(found, _DEEPEST, [_MOST])
    return found


def _measure(value: Any, depth: int, left: list[int]) -> None:
    left[0] -= 1
    if depth < 0:
        raise ValueError(f"nested more than {_DEEPEST} deep")
    if left[0] < 0:
        raise ValueError(f"says more than {_MOST:,} things")
    for inner in (*value.keys(), *value.values()) if isinstance(value, dict) else value if _is_list(value) else ():
        _measure(inner, depth - 1, left)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple | set)


def override(data: dict[str, Any], change: str) -> None:
    """Apply a change such as `explore.rollouts=6` to a recipe's data.

    Raises:
        RecipeError: it is not of that form, its section is not one, or its value is not YAML.
    """
    key, separator, value = change.partition("=")
    if not separator or not key:
        raise RecipeError(f"--set {change}: write it as section.key=value")
    *sections, last = key.split(".")
    here = data
    for section in sections:
        here = here.setdefault(section, {})
        if not isinstance(here, dict):
            raise RecipeError(f"--set {change}: {section} is not a section")
    try:
        here[last] = from_yaml(value)
    except ValueError as error:
        raise RecipeError(f"--set {change}: {value!r:.60} is not YAML: {error}") from None


def explain(error: ValidationError, root: Any, where: str = "") -> str:
    """What is wrong, by key, as one line.

    Args:
        error: what pydantic found.
        root: the model or dataclass that was to be made.
        where: the key of that part of the recipe; empty for the whole.
    """
    lines = []
    for problem in error.errors():
        path = [part for part in (where, *map(str, problem["loc"])) if part]
        name = ".".join(path)
        if problem["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            lines.append(f"{name}: unknown key; {_hint(problem['loc'], root)}")
        else:
            said = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "dataclass_type":
                said = "Input should be a valid dictionary"
            lines.append(f"{name}: {said}" if path else said)
    return "; ".join(lines)


def _hint(location: tuple[int | str, ...], root: Any) -> str:
    renamed = _RENAMED.get(".".join(map(str, location)))
    if renamed is not None:
        return f"it is now called {renamed}"
    known = _known_keys(location[:-1], root)
    near = get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(known)}"


def _known_keys(location: tuple[int | str, ...], root: Any) -> list[str]:
    here = root
    for part in location:
        if isinstance(part, str) and not (isinstance(here, type) and issubclass(here, dict)):
            if is_dataclass(here):
                annotation: Any = next(f.type for f in fields(here) if f.name == part)
            elif part in here.model_fields:
                annotation = here.model_fields[part].annotation
            else:
                continue
            # For a mapping, the type of its values; for a tuple, that of its items.
            inner = [a for a in get_args(annotation) if isinstance(a, type) and a not in (str, type(None))]
            here = inner[-1] if inner else annotation
    return [f.name for f in fields(here)] if is_dataclass(here) else list(here.model_fields)


__all__ = ["explain", "from_yaml", "override"]
