"""How fast is our ALFWorld, and how heavy? Against stock textworld, the same games and actions, one after the other.

    python benchmarks/alfworld_speed.py --textworld /path/to/python --out benchmarks/results/alfworld-speed.json

`--textworld` is a Python with alfworld 0.4.2 and textworld 1.7.0; without it ours is timed alone. Games are taken
evenly from the valid_seen file of the folder $TRAJTREE_DATA/alfworld. A run is a row of seeded random admissible
commands; with every step the admissible commands are asked for, as textworld computes them anyway. CPU seconds of the
process, loading apart. Start-up is a new process from nothing to the first observation. Memory is traced by tracemalloc
over 1,000 environments that play in turn, after one has loaded what all share.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import lzma
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

HERE = Path(__file__).resolve()
FIRST_STEP = "from trajtree.envs.alfworld import ALFWorld; ALFWorld().reset({!r})"


def games(count: int) -> list[dict]:
    """Evenly taken games of valid_seen."""
    path = Path(os.environ["TRAJTREE_DATA"]) / "alfworld" / "valid_seen.jsonl.xz"
    lines = lzma.decompress(path.read_bytes()).splitlines()
    return [json.loads(line) for line in lines[:: max(1, len(lines) // count)][:count]]


def task_of(game: dict) -> str:
    """The id that ours has for a game."""
    return f"{game['task_type']}/{game['id'].rsplit('/', 1)[1]}"


def time_ours(count: int, steps: int, repeat: int = 50) -> dict:
    """Steps per CPU-second of ours, each game played `repeat` times to have something to measure."""
    from trajtree.envs.alfworld import ALFWorld

    loading = playing = 0.0
    for game in games(count):
        env, rng = ALFWorld(max_steps=10**9), random.Random(game["id"])
        begin = time.process_time()
        env.reset(task_of(game))
        ready = time.process_time()
        for _ in range(repeat):
            env.reset(task_of(game))
            commands = env.admissible()
            for _ in range(steps):
                env.step(rng.choice(commands))
                commands = env.admissible()
        loading, playing = loading + ready - begin, playing + time.process_time() - ready
    total = steps * count * repeat
    return {"steps": total, "CPU s": round(playing, 3), "load and reset, CPU s a game": round(loading / count, 4)}


def time_textworld(count: int, steps: int) -> dict:
    """Steps per CPU-second of stock textworld; nothing in it is patched."""
    import alfworld

    spec = importlib.util.spec_from_file_location("equality", HERE.with_name("alfworld_equality.py"))
    equality = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(equality)
    data = Path(os.environ["TRAJTREE_DATA"]) / "alfworld"
    grammar, domain = ((data / name).read_text() for name in ("alfred.twl2", "alfred.pddl"))
    del alfworld
    loading = playing = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for game in games(count):
            rng = random.Random(game["id"])
            begin = time.process_time()
            env = equality.Textworld(game, grammar, domain, Path(folder))
            commands = env.reset().admissible_commands
            ready = time.process_time()
            for _ in range(steps):
                commands = env.step(rng.choice(commands)).admissible_commands
            loading, playing = loading + ready - begin, playing + time.process_time() - ready
    total = steps * count
    return {"steps": total, "CPU s": round(playing, 2), "load and reset, CPU s a game": round(loading / count, 4)}


def start_up(task: str) -> list[float]:
    """Wall and CPU seconds of a new process that plays to the first observation; the median of five."""
    walls, cpus = [], []
    for _ in range(5):
        before = time.perf_counter(), sum(os.times()[2:4])
        subprocess.run([sys.executable, "-c", FIRST_STEP.format(task)], check=True)
        walls.append(time.perf_counter() - before[0])
        cpus.append(sum(os.times()[2:4]) - before[1])
    return [round(sorted(walls)[2], 3), round(sorted(cpus)[2], 3)]


def memory(count: int) -> dict:
    """Bytes that one environment of a thousand holds beyond what all share, and what is shared."""
    from trajtree.envs.alfworld import ALFWorld
    from trajtree.envs.alfworld.game_files import games_in, scene_of

    tasks = [task_of(game) for game in games(count)]
    scene_of.cache_clear()
    games_in.cache_clear()
    tracemalloc.start()
    for task in tasks:
        ALFWorld().reset(task)
    shared = tracemalloc.get_traced_memory()[0]
    many = [ALFWorld() for _ in range(1000)]
    rngs = [random.Random(number) for number in range(1000)]
    for number, env in enumerate(many):
        env.reset(tasks[number % len(tasks)])
    for _ in range(10):
        for env, rng in zip(many, rngs, strict=True):
            env.step(rng.choice(env.admissible()))
    held = tracemalloc.get_traced_memory()[0] - shared
    tracemalloc.stop()
    return {"instances": 1000, "bytes an instance": held // 1000, "bytes shared": shared, "games": len(tasks)}


def main() -> None:
    """Read the command line, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--games", type=int, default=10)
    parser.add_argument("--steps", type=int, default=40, help="steps of a game")
    parser.add_argument("--textworld", help="a Python that has alfworld 0.4.2 and textworld 1.7.0")
    parser.add_argument("--out")
    parser.add_argument("--only-textworld", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only_textworld:
        print(json.dumps(time_textworld(options.games, options.steps)))
        return
    ours = time_ours(options.games, options.steps)
    result = {
        "command": "python benchmarks/alfworld_speed.py --textworld PYTHON --out FILE",
        "games": options.games,
        "steps of a game": options.steps,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, shared with other work",
        "ours": {**ours, "steps per CPU s": round(ours["steps"] / ours["CPU s"])},
        "start-up, s": dict(zip(("wall", "CPU"), start_up(task_of(games(1)[0])), strict=True)),
        "memory": memory(options.games),
    }
    if options.textworld:
        command = [options.textworld, str(HERE), "--only-textworld"]
        command += ["--games", str(options.games), "--steps", str(options.steps)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        theirs = json.loads(told)
        result["textworld 1.7.0, alfworld 0.4.2"] = {
            **theirs,
            "steps per CPU s": round(theirs["steps"] / theirs["CPU s"], 1),
        }
        result["times faster"] = round(ours["steps"] / ours["CPU s"] / (theirs["steps"] / theirs["CPU s"]))
    text = json.dumps(result, indent=1)
    if options.out:
        Path(options.out).write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
