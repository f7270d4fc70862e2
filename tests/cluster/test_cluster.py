"""On a Ray cluster of two nodes on this machine: the same as in one process, whatever is lost on the way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'trajtree[ray]'")

from ray.cluster_utils import Cluster as Machines
from tests.cluster import there
from tests.policies.stub_server import Answer, Body, ok, probed, said, stub
from tests.toy import DOMAIN, TASKS, Toy, solution

from trajtree.cluster import connection
from trajtree.cluster.connection import connected
from trajtree.cluster.place import Cluster
from trajtree.errors import DataError, EngineError, RunError
from trajtree.experiment.execute import run_recipe
from trajtree.experiment.lessons import TREES, build_trees, find_paths
from trajtree.experiment.recipe import Recipe
from trajtree.experiment.stage import Work
from trajtree.experiment.tasks import STORE
from trajtree.explore.job import Job, play
from trajtree.explore.place import HERE, Place
from trajtree.explore.strategies import ExploreSettings
from trajtree.models.weights import ModelRef
from trajtree.policies.spending import Spending
from trajtree.store.progress import SILENT
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Sampling, Trajectory
from trajtree.trees.search import PathSettings

ROOT = Path(__file__).resolve().parents[2]
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        "TRAJTREE_RAY" not in os.environ, reason="starts a Ray cluster of two nodes, which takes minutes: make cluster"
    ),
]


@pytest.fixture(scope="module")
def mark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that there.FATAL makes."""
    return tmp_path_factory.mktemp("marks") / "died"


@pytest.fixture(scope="module")
def machines(mark: Path) -> Iterator[Machines]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAJTREE_TEST_MARK", str(mark))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # Ray's own is 15, which starves workers beside other work
        paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        made = Machines(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        made.add_node(**NODE)
        patch.setenv("RAY_ADDRESS", made.address)
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def cluster(machines: Machines) -> Iterator[Cluster]:
    told: list[str] = []
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with connected("ray", environment="tests.toy:DOMAIN", models=["dice:@"], needs={}, say=told.append) as found:
        assert told == ["ray: 2 nodes, 2 CPUs"]
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
        yield found


def job(policy: str = "dice:@", *, env: str = "tests.toy:DOMAIN", tasks: int = 5, **changes: Any) -> Job:
    given = {
        "env": env,
        "model": ModelRef(policy),
        "tasks": TASKS[:tasks],
        "strategy": "independent",
        "explored": ExploreSettings(4, [Sampling(0.5), Sampling(1.0)]),
        "max_steps": None,
        "thoughts": False,
        "max_new_tokens": 8,
        "batch": 3,
        "dtype": "float32",
        "seed": 3,
        "workers": 0,
        "seconds": 60.0,
    }
    return Job(**{**given, **changes})


def played(folder: Path, name: str, what: Job, place: Place = HERE, progress: Any = SILENT) -> bytes:
    store = folder / f"{name}.jsonl"
    play(what, store, Spending(), progress, place)
    return store.read_bytes()


def unnamed(folder: Path, name: str) -> list[Trajectory]:
    """The trajectories in their order; policies are called by what they are told to do."""
    return [replace(run, policy="") for run in TrajectoryStore(folder / f"{name}.jsonl")]


class Then:
    """Progress that does something when waves have been stored, until it has succeeded."""

    def __init__(self, act: Callable[[], bool]) -> None:
        self.act, self.done = act, False

    def total(self, amount: int) -> None: ...

    def advance(self, amount: int, figures: Mapping[str, float] | None = None) -> None:
        self.done = self.done or self.act()


def test_explores_the_same_bytes_as_one_process(cluster: Cluster, tmp_path: Path) -> None:
    here = played(tmp_path, "here", job())
    assert len(here.splitlines()) == 21
    assert played(tmp_path, "there", job(), cluster) == here
    # Passes that depend on what was played before them.
    branching = job(strategy="branching", explored=ExploreSettings(2, [Sampling(1.0)], branches=2), tasks=3)
    assert played(tmp_path, "branched", branching, cluster) == played(tmp_path, "branched_here", branching)


def test_a_worker_killed_in_the_middle_loses_nothing(cluster: Cluster, tmp_path: Path) -> None:
    mark = tmp_path / "died"
    played(tmp_path, "there", job(f"dice:2@{mark}"), cluster)
    assert mark.exists()
    played(tmp_path, "here", job())
    assert unnamed(tmp_path, "there") == unnamed(tmp_path, "here")


def test_a_node_killed_in_the_middle_loses_nothing(machines: Machines, cluster: Cluster, tmp_path: Path) -> None:
    """One of two nodes, each with a worker that plays, and a new one comes in its place."""
    (doomed,) = machines.worker_nodes

    def kill() -> bool:
        if len(list(tmp_path.glob("plays-*"))) < 2:
            return False
        machines.remove_node(doomed, allow_graceful=False)
        machines.add_node(**NODE)
        return True

    gone = Then(kill)
    played(tmp_path, "there", job(f"dice:slow@{tmp_path / 'plays'}", tasks=20), cluster, gone)
    assert gone.done
    played(tmp_path, "here", job(tasks=20))
    assert unnamed(tmp_path, "there") == unnamed(tmp_path, "here")


def test_a_driver_killed_in_the_middle_loses_nothing(machines: Machines, tmp_path: Path) -> None:
    store = tmp_path / "runs.jsonl"
    words = ["explore", "--env", "tests.toy:DOMAIN", "--policy", "dice:@", "--tasks", "toy", "--first", "40"]
    words += ["--rollouts", "4", "--batch", "2", "--workers", "0", "--on", "ray", "--out", str(store)]
    command = [sys.executable, "-c", "import tests.cluster.there; from trajtree.cli.start import main; main()", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as driver:
        while not store.exists() or store.read_bytes().count(b"\n") < 5:
            assert driver.poll() is None, driver.stdout.read() if driver.stdout else ""
            time.sleep(0.05)
        driver.kill()
    assert 5 <= store.read_bytes().count(b"\n") < 161, "or the kill was no kill in the middle"
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert again.returncode == 0, again.stderr
    assert "ray: 2 nodes, 2 CPUs" in again.stdout
    here = [*command[:-4], "--out", str(tmp_path / "here.jsonl")]
    assert subprocess.run(here, cwd=ROOT, capture_output=True, timeout=600).returncode == 0
    assert store.read_bytes() == (tmp_path / "here.jsonl").read_bytes()


def test_a_wave_that_always_ends_its_worker_is_the_cause(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(
        EngineError, match="5 workers of the cluster ended while they were to play toy/0 and what follows"
    ):
        played(tmp_path, "there", job("dice:0@always", tasks=1), cluster)


def winning(body: Body) -> Answer:
    if (looked := probed(body)) is not None:
        return looked
    number = int(body["messages"][1]["content"].split()[1].rstrip(":"))
    return ok(said(solution(f"toy/{number}")[sum(m["role"] == "assistant" for m in body["messages"])]))


def test_model_servers_are_asked_from_here_and_environments_are_there(
    cluster: Cluster, tmp_path: Path, mark: Path
) -> None:
    with stub(winning) as server:
        asked = job(f"openai:stub@{server.url}", workers=None, tasks=4, env="tests.cluster.there:FATAL")
        played(tmp_path, "there", asked, cluster)
        runs = list(TrajectoryStore(tmp_path / "there.jsonl"))
    assert sorted(run.key for run in runs) == sorted((task, sample) for task in TASKS[:4] for sample in range(4))
    assert all(run.success for run in runs)
    assert mark.exists(), "its process died, and the episode was played again"


def test_trees_and_searches_are_made_of_copies(cluster: Cluster, tmp_path: Path) -> None:
    """No file is shared: what the workers read and write lies elsewhere, and arrives the same to the byte."""
    recipe = Recipe.model_validate({"name": "x", "env": {"name": "tests.toy:DOMAIN"}, "tasks": {"types": ["toy"]}})
    explored = tmp_path / "explored"
    explored.mkdir()
    played(explored, STORE.removesuffix(".jsonl"), job())
    for where in ("here", "there"):
        for stage in ("trees", "paths"):
            (tmp_path / where / stage).mkdir(parents=True)
    here = tmp_path / "here"
    build_trees(recipe, recipe.trees, Work(here / "trees", {"explored": explored}, SILENT))
    find_paths(PathSettings(min_score=0.0), Work(here / "paths", {"trees": here / "trees"}, SILENT))

    def trees(folder: Path, inputs: Mapping[str, Path]) -> str:
        build_trees(recipe, recipe.trees, Work(folder, inputs, SILENT))
        return str(inputs["explored"])

    def paths(folder: Path, inputs: Mapping[str, Path]) -> None:
        find_paths(PathSettings(min_score=0.0), Work(folder, inputs, SILENT))

    there = tmp_path / "there"
    read = cluster.apart(trees, there / "trees", {"explored": explored})
    assert not Path(read).is_relative_to(tmp_path) and not Path(read).exists()
    cluster.apart(paths, there / "paths", {"trees": there / "trees"})
    for name in (f"trees/{TREES}", f"paths/{STORE}"):
        assert (there / name).read_bytes() == (here / name).read_bytes()

    (explored / STORE).write_bytes((explored / STORE).read_bytes() + b"{}\n")
    with pytest.raises(DataError, match=f"^{explored / STORE}, line 22"):
        cluster.apart(trees, there / "trees", {"explored": explored})


def test_a_whole_recipe_makes_the_same_files(cluster: Cluster, tmp_path: Path, tiny_words: Path) -> None:
    """Models that were trained here travel to where they play; stages without a path between them run together."""
    pytest.importorskip("peft")
    from tests.experiment.test_pipeline import recipe_of

    changes: dict[str, Any] = {
        "tasks": {"types": ["toy"], "demonstrations": 4, "unseen": 0, "dev": 1, "test": 4},
        "explore": {"rollouts": 3, "grid": [{"temperature": 1.2}]},
        "evaluate": {"rows": ["weak", "w2sg_exact"], "ceiling": "w2sg_exact", "guarantee": False},
        "paths": {"min_score": 0.0},
        "play": {"batch": 12, "max_new_tokens": 8, "dtype": "float32", "workers": 0},
    }
    given = recipe_of(tiny_words) | changes
    given["weak"] |= {"epochs": 2}
    given["sft"] |= {"epochs": 1}
    recipe = Recipe.model_validate(given)
    here = run_recipe(recipe, tmp_path / "here", lambda name: SILENT)
    there = run_recipe(recipe, tmp_path / "there", lambda name: SILENT, cluster=cluster)
    assert {name: done.digest for name, done in there.items()} == {name: done.digest for name, done in here.items()}
    assert {"weak", "explore-weak", "trees-weak", "paths-weak-exact", "evaluate-w2sg_exact"} <= there.keys()
    assert not any(done.cached for done in there.values())


def refused(on: str = "ray", **changes: Any) -> str:
    given = {"environment": "tests.toy:DOMAIN", "models": (), "needs": {}, "say": lambda sentence: None}
    with pytest.raises(RunError) as caught, connected(on, **{**given, **changes}):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_cluster_that_does_not_answer() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert "nothing answers there (Connection refused); start it: ray start" in refused(f"ray://127.0.0.1:{port}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
            assert f"RAY_ADDRESS is 127.0.0.1:{port}, and nothing answers there" in refused()
    for bad in ("slurm", "ray://", "ray://host", "ray://host:99999", "ray://host:x", "Ray"):
        assert refused(bad).startswith(f"--on {bad}: is no place to play; give ray")


def test_a_policy_that_is_an_object() -> None:
    with pytest.MonkeyPatch.context() as patch, socket.socket() as one:
        patch.setitem(there.SCHEMES, "mine", there.Scheme(lambda ref, **settings: one, "an object"))
        message = refused(models=["mine:x"])
    assert message.startswith("mine:x: its policy is an object in this process and cannot be sent to a cluster (")
    assert "have SCHEMES['mine'] open it by a function that makes it anew" in message


class Newer(Toy):
    version = "2"


def test_nodes_that_differ(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    alive = cluster.nodes.alive()
    # What is patched is patched here alone, and not in the nodes' workers.
    monkeypatch.setattr(connection, "load_domain", lambda name: replace(DOMAIN, environment=Newer))
    with pytest.raises(
        RunError, match=r"^node .+ has tests.toy:DOMAIN 1, and this process 2; install the same on both"
    ):
        connection._check_environment(alive, "tests.toy:DOMAIN")
    with pytest.raises(
        RunError, match=r"^node .+ cannot use nowhere:DOMAIN \(env.name 'nowhere:DOMAIN': .*\); install"
    ):
        connection._check_environment(alive, "nowhere:DOMAIN")
    monkeypatch.setattr(connection, "version", lambda name: "9.9" if "pytest" in sys.modules else "9.8")
    with pytest.raises(RunError, match=r"^node .+ has trajtree 9.8, and this process 9.9; install the same on both$"):
        connection._check_versions(alive)


def test_resources_that_no_node_has(cluster: Cluster) -> None:
    nodes = cluster.nodes
    with pytest.raises(
        RunError, match=r"^no node of the cluster has what a worker takes \(CPU 1, GPU 1\); the nodes have"
    ):
        nodes.check({"CPU": 1, "GPU": 1})
    with pytest.raises(
        RunError,
        # Nodes that were started at different times may offer different memory.
        match=r"^no node .* \(CPU 3\); the nodes have (CPU 1, memory [0-9,]+ bytes(; )?)+: lower play.needs, or add",
    ):
        nodes.check({"CPU": 3})
    with pytest.raises(RunError, match=r"^play.needs.GPU: 1.5 is neither whole nor below 1"):
        nodes.check({"GPU": 1.5})
    assert nodes.takes({}, processes=0, model=True) == {"CPU": 1.0}
    assert nodes.takes({"CPU": 0.5, "arm": 1}, processes=2, model=False) == {"CPU": 0.5, "arm": 1}
