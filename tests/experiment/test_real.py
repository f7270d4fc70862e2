"""SmolLM2 and ScienceWorld as they really are: a training step, and an episode of three steps."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

from tests.train.told import Told

from trajtree.envs import jvm
from trajtree.envs.scienceworld import DOMAIN
from trajtree.errors import EnvError, PolicyError
from trajtree.explore.episode import EpisodeSpec
from trajtree.explore.rollout import rollout
from trajtree.models.transcript import ChatFormat
from trajtree.models.weights import PACKAGED, ModelRef, load_tokenizer, locate
from trajtree.policies.local import LocalPolicy
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.train.examples import sft_examples
from trajtree.train.losses import sft
from trajtree.train.settings import Lora, Optimisation
from trajtree.train.trainable import with_adapter
from trajtree.train.trainer import train
from trajtree.trajectory import Outcome, Sampling, Trajectory

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
TASK = "find-plant/0"
STEPS = 3


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    try:
        locate(PACKAGED), jvm.package_folder(), jvm.find_java()
    except (PolicyError, EnvError) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def demonstration() -> Trajectory:
    env = DOMAIN.make(None)
    shown = DOMAIN.demonstrate(env, TASK)
    env.close()
    assert isinstance(shown, Trajectory)
    return shown


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, demonstration: Trajectory) -> Path:
    """SmolLM2 after three steps on one demonstration."""
    folder = tmp_path_factory.mktemp("train")
    model = with_adapter(ModelRef(PACKAGED), Lora(4, 8), dtype="auto", seed=0)
    chat = ChatFormat(load_tokenizer(PACKAGED), PACKAGED)
    examples = sft_examples([demonstration], chat, context=model.config.max_position_embeddings)
    losses: list[float] = []
    train(
        model,
        examples,
        sft(),
        Optimisation(epochs=3, lr=1e-3, batch=1),
        folder,
        seed=0,
        progress=Told(lambda done, total, metrics: losses.append(metrics["loss"])),
    )
    assert len(losses) == 3 and losses[2] < losses[0]
    model.save_pretrained(folder / "model")
    return folder / "model"


@pytest.mark.parametrize("tuned", [False, True], ids=["untouched", "tuned"])
def test_an_episode(tmp_path: Path, adapter: Path, tuned: bool) -> None:
    policy = LocalPolicy(ModelRef(PACKAGED, (str(adapter),) if tuned else ()), max_new_tokens=64)
    assert policy.remembers
    store = TrajectoryStore(tmp_path / "trajectories.jsonl", create=True)
    rollout([EpisodeSpec(TASK, 0, Sampling())], policy, lambda: DOMAIN.make(STEPS), store, seed=0)
    (played,) = store
    assert played.outcome is Outcome.TRUNCATED and len(played.steps) == STEPS
    (tokens,) = played.tokens
    assert len(tokens.agent) == STEPS
    said = [policy.chat.decode([i for i in tokens.ids[a:b] if i not in policy.chat.stop_ids]) for a, b in tokens.agent]
    assert said == [m.content for m in played.messages if m.role == "assistant"]
