"""Many episodes at once on a stand-in for a model server: processor seconds and memory of the process that plays them.

    python benchmarks/many_at_once.py --out benchmarks/results/many-at-once.json

Every episode has two turns. The stand-in, in a process of its own, answers the second turn of the first episode only
when all of them have come so far: they are under way at the same time, each with a connection of its own. Each number
of episodes is played in a new process; the environment does nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import shlex
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from trajtree.envs.base import Environment, StepResult
from trajtree.explore.open_files import make_room_for
from trajtree.explore.rollout import rollout
from trajtree.explore.strategies import independent
from trajtree.models.weights import versions
from trajtree.policies.server import ServerPolicy
from trajtree.policies.server_name import ServerName
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Outcome, Sampling

TURNS = 2
TASKS = 50


class Corridor(Environment):
    """Two steps, whatever the agent says."""

    name = "corridor"
    version = "1"
    instruction = "You are in a corridor. Reply with one action."

    def reset(self, task: str) -> str:
        """Begin."""
        self.left = TURNS
        return f"Task {task}: leave the corridor."

    def step(self, action: str) -> StepResult:
        """Go on."""
        self.left -= 1
        over = self.left == 0
        return StepResult("You go on.", float(over), over, False)


async def serve(port: Connection, many: int) -> None:
    """Answer on a free port, which is sent to whoever asks."""
    together, come = asyncio.Event(), 0

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal come
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.decode().split("\r\n")
            lengths = [line.partition(":")[2] for line in lines if line.lower().startswith("content-length:")]
            body = json.loads(await reader.readexactly(int(lengths[0]))) if lengths else {}
            if sum(message["role"] == "assistant" for message in body.get("messages", ())) == TURNS - 1:
                come += 1
                if come >= many:
                    together.set()
                await together.wait()
            said = json.dumps(answer(body)).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(said))
            writer.write(said)
            await writer.drain()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answered(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()  # the other side has gone

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=many)
    port.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """The same to every request."""
    if not body:
        return {"object": "list", "data": [{"id": "stub", "object": "model", "created": 1, "owned_by": "us"}]}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "go on"}}
    usage = {"prompt_tokens": 30, "completion_tokens": 2, "total_tokens": 32}
    return {"object": "chat.completion", "choices": [choice], "usage": usage}


def stand_in(port: Connection, many: int) -> None:
    """Runs in a process of its own."""
    make_room_for(2 * many)
    asyncio.run(serve(port, many))


def measure(many: int) -> dict[str, Any]:
    """The figures of so many episodes at once, played in this process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    there, here = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=stand_in, args=(here, many), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{there.recv()}/v1"
    with tempfile.TemporaryDirectory() as folder:
        store = TrajectoryStore(Path(folder, "runs.jsonl"), create=True)
        policy = ServerPolicy(ServerName("stub", (url,)), max_new_tokens=8)
        episodes = independent([str(number) for number in range(TASKS)], many // TASKS, [Sampling()])
        began, used = time.perf_counter(), time.process_time()
        rollout(episodes, policy, Corridor, store, seed=0, batch=many)
        seconds, used = time.perf_counter() - began, time.process_time() - used
        found = list(store)
    server.kill()
    once = Counter(t.key for t in found) == Counter(spec.key for spec in episodes)
    if not once or any(t.outcome is not Outcome.COMPLETED for t in found):
        raise SystemExit("many_at_once: not every episode was played to its end exactly once")
    return {
        "episodes at once": many,
        "requests": many * TURNS,
        "seconds": round(seconds, 1),
        "processor seconds": round(used, 2),
        "milliseconds of the processor per request": round(1000 * used / (many * TURNS), 2),
        "peak MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "peak MB before": round(before / 1024),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at-once", type=int, nargs="+", default=[50, 250, 1000], help=f"multiples of {TASKS}")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = []
    for many in args.at_once:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as apart:
            rows.append(apart.submit(measure, many).result())
        print(json.dumps(rows[-1]), flush=True)
    if args.out:
        load = [round(each, 2) for each in os.getloadavg()]
        said = {"command": shlex.join(["python", *sys.argv]), "cores": os.cpu_count(), "load": load}
        args.out.write_text(json.dumps({**said, **versions(["trajtree", "openai"]), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
