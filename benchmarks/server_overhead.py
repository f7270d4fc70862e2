"""What trajtree adds to the time that a model server takes.

Episodes of TextWorldExpress are played through `rollout`, and every request is written down. Then the same requests are
sent again without us: a bare loop over the same HTTP client, as many conversations at once, each request after the
answer to the one before, no environment, no store. Same seeds, same replies; both in alternating blocks on one server.
Reported: the difference of the two times, and the processor seconds of this process (environment, store, openai) as a
share of the time; with --server-pid also as a share of the server's own processor seconds, which says the same on a
machine where others compute too.
The server must be running: see docs/servers.md.

    python benchmarks/server_overhead.py openai:smollm2@http://127.0.0.1:8080/v1 --out server_overhead.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import openai
import psutil

from trajtree.envs.domain import load_domain
from trajtree.errors import TrajtreeError
from trajtree.explore.rollout import rollout
from trajtree.explore.strategies import independent
from trajtree.models.weights import versions
from trajtree.policies.server import ServerConversation, ServerPolicy
from trajtree.policies.server_name import parse_name
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Sampling

Conversations = list[list[dict[str, Any]]]


class Recording(ServerPolicy):
    """A server policy that writes down every request, by conversation in the order of their beginning."""

    def record(self) -> None:
        """Begin anew."""
        self.requests: defaultdict[ServerConversation, list[dict[str, Any]]] = defaultdict(list)

    def request(self, conversation: ServerConversation) -> dict[str, Any]:
        """The body, which is kept."""
        body = super().request(conversation)
        self.requests[conversation].append(body)
        return body


class Measured(NamedTuple):
    """Seconds of the episodes through `rollout`, of this process's and of the server's processor, and steps."""

    seconds: float
    processor: float
    server: float
    steps: int


def processor_of(pid: int | None) -> float:
    """Processor seconds of another process so far; 0 where none is named."""
    return 0.0 if pid is None else sum(psutil.Process(pid).cpu_times()[:2])


def ours(policy: Recording, args: argparse.Namespace) -> Measured:
    """The episodes through `rollout`."""
    domain = load_domain(args.env)
    tasks = list(domain.tasks(args.type, "train"))[: args.episodes]
    policy.record()
    with tempfile.TemporaryDirectory() as folder:
        store = TrajectoryStore(Path(folder) / "store.jsonl", create=True)
        began, processor, server = time.perf_counter(), time.process_time(), processor_of(args.server_pid)
        rollout(
            independent(tasks, 1, [Sampling(0.8, 0.95)]),
            policy,
            lambda: domain.make(args.max_steps),
            store,
            seed=0,
            batch=args.batch,
        )
        return Measured(
            time.perf_counter() - began,
            time.process_time() - processor,
            processor_of(args.server_pid) - server,
            sum(len(t.steps) for t in store),
        )


async def bare(address: str, conversations: Conversations, batch: int) -> float:
    """Seconds of the same requests by themselves."""
    async with httpx2.AsyncClient(timeout=300) as client:
        left = iter(conversations)

        async def worker() -> None:
            for bodies in left:
                for body in bodies:
                    answer = await client.post(f"{address}/chat/completions", json=body)
                    answer.raise_for_status()

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(batch)))
        return time.perf_counter() - began


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", help="openai:MODEL@URL")
    parser.add_argument("--env", default="textworldexpress")
    parser.add_argument("--type", default="coin", help="task type")
    parser.add_argument("--episodes", type=int, default=16)
    parser.add_argument("--max-steps", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=24)
    parser.add_argument("--batch", type=int, default=4, help="conversations at once (default 4)")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--server-pid", type=int, help="the server's process, where it is on this machine")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    policy = Recording(parse_name(args.server), max_new_tokens=args.max_new_tokens)
    ours(policy, args)  # warms the server's cache, the simulator and the connections' code
    blocks = []
    for _ in range(args.blocks):
        measured = ours(policy, args)
        conversations = list(policy.requests.values())
        alone = asyncio.run(bare(policy.addresses[0], conversations, args.batch))
        block = {
            "requests": sum(map(len, conversations)),
            "steps": measured.steps,
            "rollout_seconds": round(measured.seconds, 2),
            "bare_seconds": round(alone, 2),
            "overhead": round(measured.seconds / alone - 1, 4),
            "processor_share": round(measured.processor / measured.seconds, 4),
        }
        if measured.server:
            block["share_of_server_processor"] = round(measured.processor / measured.server, 4)
        blocks.append(block)
        print(json.dumps(block), flush=True)
    medians = {
        name: statistics.median(b[name] for b in blocks) for name in blocks[0] if "over" in name or "share" in name
    }
    print(json.dumps(medians))
    if args.out:
        made = {
            "settings": {k: v for k, v in vars(args).items() if k not in ("out", "server", "server_pid")},
            "server": dict(policy.identity),
            "cores": os.cpu_count(),
            "load": [round(x, 2) for x in os.getloadavg()],
            "packages": versions(["trajtree", "openai", "xllamacpp"]),
        }
        args.out.write_text(json.dumps({**made, "blocks": blocks, "median": medians}, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except (TrajtreeError, openai.OpenAIError, httpx2.HTTPError) as error:
        raise SystemExit(f"server_overhead: {error}") from None
