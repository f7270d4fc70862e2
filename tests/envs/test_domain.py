"""Every function of a domain is called through one guard: it does what it should, or the fault names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.envs import hostile_domains
from tests.envs.hostile_domains import COLOURED, RAISED, RETURNED, Deaf, Stubborn, broken, raising, returning
from tests.toy import TASKS, Toy

from trajtree.envs.domain import Domain, load_domain
from trajtree.envs.guard import Guarded, canonical_forms, closed
from trajtree.errors import DataError, EnvError, RecipeError, UnknownTask

NAME = "tests.envs.hostile_domains:CURRENT"

ASKED: dict[str, tuple[tuple[Any, ...], str]] = {
    "make": ((None,), "make(None)"),
    "tasks": (("toy", "train"), "tasks('toy', 'train')"),
    "demonstrate": ((Toy(), "toy/0"), "demonstrate('toy/0')"),
    "data": ((), "data()"),
    "situation": (("toy/0",), "situation('toy/0')"),
}
"""A call of each function, and how it is named."""


def loaded(domain: Any, monkeypatch: pytest.MonkeyPatch) -> Domain:
    monkeypatch.setattr(hostile_domains, "CURRENT", domain)
    return load_domain(NAME)


def call(function: str, does: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    arguments, _ = ASKED[function]
    return getattr(loaded(broken(function, does), monkeypatch), function)(*arguments)


@pytest.mark.parametrize("function", ASKED)
@pytest.mark.parametrize("what", RAISED)
def test_what_it_raises(function: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    does, said = RAISED[what]
    with pytest.raises(EnvError) as error:
        call(function, does, monkeypatch)
    assert str(error.value).startswith(f"{NAME}: {ASKED[function][1]} {said} (hostile_domains.py, line ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("function", "value", "said"), [(f, value, said) for f, faults in RETURNED.items() for value, said in faults]
)
def test_what_it_returns(function: str, value: object, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvError) as error:
        call(function, returning(value), monkeypatch)
    assert str(error.value).startswith(f"{NAME}: {ASKED[function][1]} returned ")
    assert str(error.value).endswith(said)


@pytest.mark.parametrize("function", ASKED)
@pytest.mark.parametrize(
    "error", [DataError("the games are missing"), ModuleNotFoundError("games"), KeyboardInterrupt()]
)
def test_what_is_for_the_user_stays_so(function: str, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(type(error)) as raised:
        call(function, raising(error), monkeypatch)
    assert raised.value is error


@pytest.mark.parametrize(("function", "unknown"), [("tasks", "task type 'toy'"), ("situation", "task 'toy/0'")])
@pytest.mark.parametrize(("error", "why"), [(KeyError("there is a"), "there is a"), (KeyError(), "KeyError")])
def test_a_key_error_means_that_there_is_no_such_thing(
    function: str, unknown: str, error: KeyError, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnknownTask) as raised:
        call(function, raising(error), monkeypatch)
    assert str(raised.value) == f"{NAME} has no {unknown} ({why})"


@pytest.mark.parametrize("function", ["make", "demonstrate", "data"])
def test_elsewhere_a_key_error_is_a_fault(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvError, match="raised KeyError: 'k'"):
        call(function, raising(KeyError("k")), monkeypatch)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"environment": None}, "environment is None, not a class derived from trajtree.Environment"),
        ({"environment": dict}, "environment is <class 'dict'>, not a class derived"),
        ({"environment": type("Nameless", (Toy,), {"name": ""})}, "Nameless.name is '', not a non-empty string"),
        ({"environment": type("Mute", (Toy,), {"instruction": 3})}, "Mute.instruction is 3, not a non-empty string"),
        ({"types": "toy"}, "types is 'toy', not names of task types"),
        ({"types": ("toy", 1)}, r"types is \('toy', 1\), not names of task types"),
        ({"tasks": TASKS}, "tasks is .*, not a function"),
        ({"situation": None}, "situation is None, not a function"),
    ],
)
def test_attributes_are_checked_when_it_is_loaded(
    changed: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecipeError, match=f"^env.name '{NAME}': {said}"):
        loaded(replace(COLOURED, **changed), monkeypatch)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys\nsys.exit(0)", r"importing broken_1 raised SystemExit: 0 \(broken_1.py, line 2\)"),
        ("\n1 / 0", r"importing broken_1 raised ZeroDivisionError: division by zero \(broken_1.py, line 2\)"),
        ("def f(:", r"importing broken_1 raised SyntaxError: invalid syntax \(broken_1.py, line 1\)"),
        ("import nowhere_at_all", "No module named 'nowhere_at_all'"),
        ("from trajtree import nothing", "cannot import name 'nothing'"),
    ],
)
def test_a_module_that_cannot_be_imported(code: str, said: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_1.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RecipeError, match=f"^env.name 'broken_1:DOMAIN': {said}"):
        load_domain("broken_1:DOMAIN")


def test_normal_forms_that_go_wrong() -> None:
    with pytest.raises(EnvError, match=r"^toy: canonical_observation\('x'\) returned None, not text$"):
        canonical_forms(Deaf)["canonical_observation"]("x")
    Raising = type("Raising", (Toy,), {"canonical_action": staticmethod(lambda action: action.nothing)})
    with pytest.raises(EnvError, match=r"^toy: canonical_action\('x'\) raised AttributeError: .* \(test_domain.py"):
        canonical_forms(Raising)["canonical_action"]("x")


def test_closing_that_goes_wrong_is_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"^toy: close raised SystemExit: 0 \(hostile_domains.py, line"):  # noqa: SIM117
        with closed(Stubborn()):
            pass
    with pytest.warns(UserWarning, match="close raised"), pytest.raises(ZeroDivisionError), closed(Stubborn()):
        raise ZeroDivisionError


def test_tools_that_cannot_be_written_down() -> None:
    with pytest.raises(EnvError, match=r"^toy: reading its tools raised TypeError: Object of type Unspeakable"):
        Guarded(hostile_domains.Unlisted())
