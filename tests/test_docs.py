"""The code in the documentation runs."""

import re
from pathlib import Path

from tests.toy import TASKS, Toy, solution

import trajtree
from trajtree.envs.check import check_env

ROOT = Path(__file__).parent.parent


def code_of(name: str) -> str:
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)[0]


def test_the_environment_in_the_docs_keeps_the_contract() -> None:
    scope: dict[str, type[trajtree.Environment]] = {}
    exec(code_of("docs/environments.md"), scope)
    report = check_env(scope["Guess"], ["guess/3", "guess/7"], actions=lambda task: ["higher than 4", "it is 3"])
    assert report.name == "guess"


def test_the_api_in_the_readme_runs(tmp_path: Path, capsys) -> None:
    store = trajtree.TrajectoryStore(tmp_path / "trajectories.jsonl")
    store.append([played(task, actions, sample) for task in TASKS[:3] for sample, actions in enumerate(tries(task))])
    code = code_of("README.md").replace("runs/demo/explore/KEY/trajectories.jsonl", str(store.path))
    exec(code, {})
    assert "TreeQuality" in capsys.readouterr().out


def tries(task: str) -> list[list[str]]:
    return [solution(task), ["look", "look", "look", "look", "look", "look"]]


def played(task: str, actions: list[str], sample: int) -> trajtree.Trajectory:
    env = Toy()
    observation, steps, terminated = env.reset(task), [], False
    for action in actions:
        result = env.step(action)
        steps.append(trajtree.Step(observation, action, reward=result.reward))
        observation, terminated = result.observation, result.terminated
    return trajtree.Trajectory(
        task=task,
        sample=sample,
        policy="script",
        env="toy",
        env_version="1",
        seed=0,
        sampling=trajtree.Sampling(),
        messages=(),
        steps=tuple(steps),
        score=sum(s.reward for s in steps),
        outcome=trajtree.Outcome.COMPLETED if terminated else trajtree.Outcome.TRUNCATED,
    )
