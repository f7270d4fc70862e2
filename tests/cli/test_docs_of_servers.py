"""docs/servers.md, followed by the letter; in place of a model's server a stub answers."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

pytest.importorskip("openai")
from tests.cli.commands import done
from tests.policies.stub_server import Stub, ok, probed, said, stub

from trajtree.envs.jvm import TEXTWORLD_EXPRESS, find_java, package_folder
from trajtree.errors import EnvError, RecipeError
from trajtree.experiment.recipe import load_recipe
from trajtree.policies.server_name import parse_name
from trajtree.store.trajectory_store import TrajectoryStore

DOCS = (Path(__file__).parents[2] / "docs" / "servers.md").read_text()
ADDRESS = "http://127.0.0.1:8080/v1"


@pytest.fixture
def served() -> Iterator[Stub]:
    with stub(lambda body: probed(body) or ok(said("look around"))) as state:
        yield state


def commands() -> list[str]:
    """Every command of trajtree in the step by step, in its order."""
    steps = DOCS.partition("## Step by step")[2].partition("\n## ")[0].replace("\\\n", " ")
    return re.findall(r"(?:^ *|`)(trajtree (?:explore|evaluate|build) [^`\n]*--[^`\n]*)", steps, re.MULTILINE)


@pytest.mark.real
def test_step_by_step(served: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        package_folder(TEXTWORLD_EXPRESS), find_java()
    except EnvError as error:
        pytest.skip(str(error))
    monkeypatch.chdir(tmp_path)
    asked, explored, measured, built = commands()
    assert all(ADDRESS in command for command in (asked, explored, measured)) and "--dry-run" in asked
    assert "6 episodes to play" in run(asked, served) and not served.seen and not Path("runs.jsonl").exists()
    for _ in range(2):  # "both commands can be given again at any time, and play only what is missing"
        assert "6 episodes: 6" in run(explored, served) and "3 episodes: 3" in run(measured, served)
        assert len(served.requests) == 6 * (6 + 3), "six steps in each episode, none of them twice"
    assert Counter(t.key[1] for t in TrajectoryStore(Path("runs.jsonl"))) == {0: 2, 1: 2, 2: 2}
    assert len(list(TrajectoryStore(Path("measured.jsonl")))) == 3
    assert "2 trees of 6 runs" in run(built, served)


def run(command: str, served: Stub) -> str:
    return done(*shlex.split(command.replace(ADDRESS, served.url))[1:])


def test_names() -> None:
    (block,) = re.findall(r"```\n(openai:.*?)```", DOCS, re.DOTALL)
    names = [parse_name(line) for line in block.splitlines()]
    assert [(name.model, len(name.addresses)) for name in names] == [
        ("Qwen/Qwen3-8B", 1),
        ("gpt-4.1-mini", 1),
        ("Qwen/Qwen3-8B", 2),
    ]


def test_recipes(tmp_path: Path) -> None:
    (weak,) = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    (rows,) = re.findall(r"`(evaluate: \{.*?\})`", DOCS)
    file = tmp_path / "r.yaml"
    file.write_text(f"name: r\ntasks: {{types: [a]}}\n{weak}")
    assert load_recipe(file).served("weak")
    strong = {"strong": yaml.safe_load(weak)["weak"]}
    file.write_text(f"name: r\ntasks: {{types: [a]}}\n{weak}{yaml.safe_dump(strong)}")
    with pytest.raises(RecipeError, match=r"evaluate\.rows"):
        load_recipe(file)
    file.write_text(f"{file.read_text()}{rows}\n")
    assert load_recipe(file).evaluate.rows == ("weak", "strong")
