"""What a Ray cluster costs: its overhead against one process, and how many episodes one driver can take in.

Overhead: the same episodes of a scripted policy, once in this process with `--workers` processes that hold the
environments, once on a cluster of this machine with as many workers, in alternating blocks. Start-up is left out: each
side first plays as many waves as there are workers, and the clock runs from then on. All must play the same actions for
the same scores. A scripted policy takes no time to reply, so nothing hides the overhead. On a machine where others
compute too, the seconds of the processors say more than those of the clock; they count Ray's own processes, busy or
not, for as long as the block takes.

Intake: what the driver does with the trajectories that arrive (unpickling, checking, writing, reading back), without
playing them: episodes and megabytes per second of this process's processor, for the same episodes with and
without the tokens of an engine. With --store, only this is measured, for the first episodes of a store, tokens and all.

    python benchmarks/cluster_overhead.py --episodes 200 --out cluster_overhead.json
    python benchmarks/cluster_overhead.py --store runs.jsonl --out cluster_intake.json
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import psutil

from trajtree.cluster.connection import connected
from trajtree.envs.domain import load_domain
from trajtree.errors import TrajtreeError
from trajtree.explore.episode import EpisodeSpec
from trajtree.explore.place import HERE, Place, Setting
from trajtree.explore.rollout import explore
from trajtree.explore.strategies import Passes, independent, one_pass
from trajtree.explore.workers import EnvMaker
from trajtree.models.weights import ModelRef, versions
from trajtree.policies.base import Reply
from trajtree.policies.opening import SCHEMES, Opening, Scheme
from trajtree.policies.spending import Spending
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Message, Sampling, Tokens, Trajectory

ACTIONS = ("look around", "inventory", "open door to hallway", "go to hallway", "open door to kitchen", "go to kitchen")


class Talk:
    """A conversation with a random stream of its own."""

    def __init__(self, system: str, seed: tuple[int, ...]) -> None:
        self.messages = [Message("system", system)]
        self.random = Random(str(seed))

    def tokens(self) -> tuple[Tokens, ...]:
        """None."""
        return ()


class Walker:
    """Walks about at random."""

    name = "walker"

    def start(self, system: str, sampling: Sampling, seed: tuple[int, ...]) -> Talk:
        """Open a conversation."""
        return Talk(system, seed)

    def reply(self, conversations: Sequence[Talk]) -> list[Reply]:
        """One action each."""
        replies = [Reply(talk.random.choice(ACTIONS)) for talk in conversations]
        for talk, reply in zip(conversations, replies, strict=True):
            talk.messages.append(Message("assistant", reply.text))
        return replies


SCHEMES["walker"] = Scheme(lambda ref, **settings: Walker(), "walks about at random")
OPENING = Opening(ref=ModelRef("walker:"), max_new_tokens=8, one_line=True, dtype="float32", name="walker")


def processor() -> float:
    """Processor seconds so far of this process and of all that it has started: workers, their Java, and Ray."""
    me = psutil.Process()
    total = 0.0
    for process in (me, *me.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:2])
    return total


class Clock:
    """A pass to warm up, and one whose seconds, and those of the processor, are counted."""

    def __init__(self, first: Sequence[EpisodeSpec], then: Sequence[EpisodeSpec]) -> None:
        self.first, self.then = first, then
        self.seconds = self.processor = 0.0

    def passes(self) -> Passes:
        """The two."""
        yield self.first
        began, used = time.perf_counter(), processor()
        yield self.then
        self.seconds, self.processor = time.perf_counter() - began, processor() - used


def block(place: Place, args: argparse.Namespace) -> tuple[Clock, list[Trajectory]]:
    """The seconds of the episodes in a place, and all that was stored."""
    tasks = list(load_domain(args.env).tasks(args.type, "train"))
    warm = independent(tasks[:1], args.workers * args.batch, [Sampling(1.0)])
    timed = independent(tasks[1 : 1 + -(-args.episodes // args.rollouts)], args.rollouts, [Sampling(1.0)])
    clock = Clock(warm, timed[: args.episodes])
    # Of each worker of the cluster: one process with environments. Here: as many as the cluster has workers.
    workers = args.workers if place is HERE else 1
    make = EnvMaker(args.env, args.max_steps)
    setting = Setting(make=make, seed=0, thoughts=False, workers=workers, seconds=600.0, needs={"CPU": 1})
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        store = TrajectoryStore(Path(folder, "runs.jsonl"), create=True)
        policy = stack.enter_context(place.policy(OPENING, setting, Spending()))
        envs = stack.enter_context(place.environments(setting))
        batch = args.batch * args.workers if place is HERE else args.batch
        explore(clock.passes(), policy, envs, store, seed=0, batch=batch, threads=place.threads)
        return clock, list(store)


class Arriving:
    """A policy whose trajectories have been played already, and arrive as they do from a cluster."""

    def __init__(self, played: dict[tuple[str, int], Trajectory]) -> None:
        self.played = {key: pickle.dumps(trajectory) for key, trajectory in played.items()}

    def play(self, waves: Iterable[Sequence[EpisodeSpec]]) -> Iterator[tuple[Sequence[EpisodeSpec], list[Trajectory]]]:
        """The waves."""
        for wave in waves:
            yield wave, [pickle.loads(self.played[spec.key]) for spec in wave]


def with_tokens(trajectory: Trajectory) -> Trajectory:
    """As from an engine that reports tokens: a token per four characters, with log-probabilities of the agent's."""
    ids: list[int] = []
    agent: list[tuple[int, int]] = []
    for message in trajectory.messages:
        start = len(ids)
        ids += [100 + len(ids) % 40000 for _ in range(len(message.content) // 4 + 1)]
        if message.role == "assistant":
            agent.append((start, len(ids)))
    said = sum(end - start for start, end in agent)
    tokens = Tokens(tuple(ids), tuple(agent), tuple(-0.1234567 * (i % 7) for i in range(said)))
    return replace(trajectory, tokens=(tokens,))


def intake(played: Sequence[Trajectory], times: int) -> dict[str, float]:
    """What the driver takes in per second of its processor, and the size of an episode in transit and in the store."""
    copies = {
        (t.task, s): replace(t, sample=s) for t in played for s in range(t.sample * times, (t.sample + 1) * times)
    }
    arriving = Arriving(copies)
    specs = [EpisodeSpec(task, sample, Sampling(1.0)) for task, sample in copies]
    with tempfile.TemporaryDirectory() as folder:
        store = TrajectoryStore(Path(folder, "runs.jsonl"), create=True)
        began, processor = time.perf_counter(), time.process_time()
        explore(one_pass(specs), arriving, _none, store, seed=0, batch=32)
        seconds, processor = time.perf_counter() - began, time.process_time() - processor
        size = store.path.stat().st_size
    return {
        "episodes": len(specs),
        "episodes per processor second": len(specs) / processor,
        "episodes per second": len(specs) / seconds,
        "megabytes per processor second": size / 1e6 / processor,
        "bytes of an episode in the store": size / len(specs),
        "bytes of an episode on the network": sum(map(len, arriving.played.values())) / len(specs),
    }


def overhead(args: argparse.Namespace) -> tuple[dict[str, Any], list[Trajectory]]:
    """The figures of both sides, and the episodes that each played."""
    seconds: dict[str, list[float]] = {"one process": [], "cluster": []}
    used: dict[str, list[float]] = {"one process": [], "cluster": []}
    played: list[Trajectory] = []
    different: set[tuple[Any, ...]] = set()
    with connected(args.on, environment=args.env, models=["walker:"], needs={"CPU": 1}, say=print) as cluster:
        for _ in range(args.blocks):
            for side, place in (("one process", HERE), ("cluster", cluster)):
                clock, played = block(place, args)
                seconds[side].append(clock.seconds)
                used[side].append(clock.processor)
                # Texts of ScienceWorld may name objects in another order.
                different.add(tuple((t.key, t.score, *(step.action for step in t.steps)) for t in played))
                took = f"{clock.seconds:7.1f} s, {clock.processor:7.1f} s of processors"
                print(f"{side:<12} {args.episodes} episodes {took}", flush=True)
    if len(different) > 1:
        raise SystemExit("cluster_overhead: the episodes are not the same")
    more = {}
    for what, taken in (("seconds", seconds), ("processor seconds", used)):
        more[what] = statistics.median(taken["cluster"]) / statistics.median(taken["one process"]) - 1
        print(f"overhead in {what} {more[what]:+.1%}")
    return {"seconds": seconds, "processor seconds": used, "overhead": more}, played


def _none() -> Any:
    raise AssertionError("nothing is played here")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="scienceworld")
    parser.add_argument("--type", default="find-plant", help="task type (default find-plant)")
    parser.add_argument("--episodes", type=int, default=200, help="of a block (default 200)")
    parser.add_argument("--rollouts", type=int, default=10, help="episodes of a task (default 10)")
    parser.add_argument("--blocks", type=int, default=2, help="of each side (default 2)")
    parser.add_argument("--workers", type=int, default=2, help="processes with environments (default 2)")
    parser.add_argument("--batch", type=int, default=4, help="episodes at once of one worker (default 4)")
    parser.add_argument("--max-steps", type=int, default=10, help="step limit of an episode (default 10)")
    parser.add_argument("--on", default="ray", help="the cluster (default ray: this machine)")
    parser.add_argument("--store", type=Path, help="measure the intake alone, with episodes of this store")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    args = arguments()
    before = [round(load, 2) for load in os.getloadavg()]
    measured = overhead(args) if args.store is None else ({}, list(islice(TrajectoryStore(args.store), 150)))
    figures, played = measured
    tokens = played if args.store is not None else [*map(with_tokens, played)]
    times = -(-4000 // len(played))
    arrived = {
        "messages": intake([replace(each, tokens=()) for each in played], times),
        "and tokens": intake(tokens, times),
    }
    for what, said in arrived.items():
        print(what, ", ".join(f"{name} {value:,.0f}" for name, value in said.items()))
    if args.out:
        figures |= {
            "intake": arrived,
            "settings": {name: value for name, value in vars(args).items() if name not in ("out", "store")},
            "machine": {
                "cores": os.cpu_count(),
                "memory GB": round(psutil.virtual_memory().total / 1e9),
                "load before": before,
                "load after": [round(load, 2) for load in os.getloadavg()],
                **versions(["trajtree", "ray", "scienceworld"]),
            },
        }
        args.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except TrajtreeError as error:
        raise SystemExit(f"cluster_overhead: {error}") from None
