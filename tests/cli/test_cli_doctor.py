"""What a report of a fault needs is told whatever is missing, and no secret is."""

from __future__ import annotations

import sys

import pytest
from tests.cli.commands import done

from trajtree.cli.commands import doctor
from trajtree.errors import EnvError


@pytest.fixture(autouse=True)
def _few_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting the games of ALFWorld takes seconds."""
    monkeypatch.setattr(doctor, "_tasks", lambda name: 7)


def test_everything_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/somewhere")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    told = done("doctor")
    for heading in doctor.CHECKS:
        assert f"\n{heading}" in f"\n{told}"
    for fact in (sys.executable, "core: ", "pydantic ", "train: ", "scienceworld: 7", "GB free"):
        assert fact in told
    assert "HF_HOME=/somewhere" in told and "HF_TOKEN=(set)" in told and "hf_secret" not in told


def test_what_is_broken_is_a_finding_and_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise EnvError("the simulator needs Java")

    def odd(name: str) -> int:
        raise RuntimeError(f"{name} is ill\nand \x1b[31mred")

    monkeypatch.setattr(doctor, "find_java", none)
    monkeypatch.setattr(doctor, "_tasks", odd)
    told = done("doctor")
    assert "java          the simulator needs Java\n" in told
    assert "alfworld (trajtree data alfworld --from PATH): alfworld is ill and <U+001B>[31mred" in told
    assert "GB free" in told


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "requires", lambda name: ["no-such-package>=1 ; extra == 'train'", "pydantic>=2"])
    assert "train: no-such-package (missing)" in done("doctor")
