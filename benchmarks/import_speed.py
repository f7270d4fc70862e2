"""How fast runs are imported, where the time goes, and that memory does not grow with the input.

    python benchmarks/import_speed.py --before ../before/src --out benchmarks/results/import-speed.json

Two kinds of run: small ones (20 steps in plain text, 2.4 kB, those of tree_scale.py), and large ones as coding agents
leave them (20 calls of a tool and their results, 72 kB). Commands run in processes of their own, under both versions
in turn, and their CPU seconds count, so other work on the machine disturbs them less; the median of `--rounds` is kept,
less that of the start, which is measured as often: an input must take much longer to import than the command to start.
`--memory MB` instead imports an input of 100 MB and one of that size, and notes the peak memory of each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))

from tree_scale import run, write_runs

SMALL_RUN = 2372
"""Bytes of a small run."""

WORDS = (
    "the",
    "file",
    "error",
    "line",
    "import",
    "return",
    "self.value",
    "def test(x):",
    '"quoted"',
    "\tindented",
    "—",
)


def write_large_runs(path: Path, size: int) -> None:
    """Runs of a coding agent, 72 kB each, at least `size` bytes in all; a few of their characters are not ASCII."""
    rng = random.Random(0)

    def text(length: int) -> str:
        words = rng.choices(WORDS, weights=[10] * (len(WORDS) - 1) + [1], k=length // 7)
        return " ".join(f"{word}\n" if number % 12 == 11 else word for number, word in enumerate(words))

    with path.open("w") as file:
        number = 0
        while file.tell() < size:
            messages = [
                {"role": "system", "content": "You are a coding agent."},
                {"role": "user", "content": f"Fix issue {number % 20}. {text(1500)}"},
            ]
            for step in range(20):
                command = {"command": f"sed -n 1,20p {text(150)}", "timeout": 30}
                call = {"id": f"call_{number}_{step}", "type": "function"}
                function = {"name": "bash", "arguments": json.dumps(command)}
                messages.append(
                    {"role": "assistant", "content": text(300), "tool_calls": [{**call, "function": function}]}
                )
                messages.append({"role": "tool", "content": text(2350), "tool_call_id": call["id"]})
            messages.append({"role": "assistant", "content": "Done."})
            row = {"instance_id": f"issue-{number % 20}", "model": "m", "messages": messages}
            file.write(json.dumps({**row, "reward": rng.randrange(2)}) + "\n")
            number += 1


def compared(log: Path, versions: dict[str, Path | None], rounds: int, jobs: tuple[int, ...]) -> dict[str, object]:
    """Seconds and MB/s of `trajtree import` under each version, and seconds of several jobs under this one."""
    size = log.stat().st_size / 1e6
    kinds = {name: (source, []) for name, source in versions.items()}
    kinds |= {f"now, {count} jobs": (None, ["--jobs", str(count)]) for count in jobs}
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, (source, options) in kinds.items():
            store = log.with_name("store.jsonl")
            taken[name].append(run(["import", str(log), "--out", str(store), *options], source))
            store.unlink()
    found: dict[str, object] = {"input_mb": size}
    for name, runs in taken.items():
        found[name] = {key: median(one[key] for one in runs) for key in ("seconds", "peak_mb")}
        if name in versions:  # the CPU seconds of several jobs are not counted with those of the command
            start = median(started(versions[name], log) for _ in range(rounds))
            cpu = median(one["cpu_seconds"] for one in runs)
            found[name] |= {"cpu_seconds": cpu, "start_cpu_seconds": start, "mb_per_cpu_second": size / (cpu - start)}
    return found


def started(source: Path | None, log: Path) -> float:
    """CPU seconds that an import of a single run takes."""
    one, store = log.with_name("one.jsonl"), log.with_name("store.jsonl")
    with log.open("rb") as file:
        one.write_bytes(file.readline())
    taken = run(["import", str(one), "--out", str(store)], source)["cpu_seconds"]
    store.unlink()
    return taken


def phases(log: Path, runs: int) -> dict[str, float]:
    """Microseconds per run of the parts of an import, one run after another as in an import; medians over the runs.

    Wall-clock time: a part takes too little of it to be disturbed in more than half of the runs.
    """
    from trajtree.formats.import_records import Asked, Item, Reading, converted
    from trajtree.formats.import_sources import Source, hash_of
    from trajtree.formats.import_tally import Tally, facts_of
    from trajtree.formats.read.canonical import canonical_text
    from trajtree.formats.read.detect import beginning_of, format_named, runs_of
    from trajtree.formats.read.records import _decoded
    from trajtree.formats.read.to_trajectory import trajectory_of
    from trajtree.formats.redaction import may_hold_a_key
    from trajtree.store.encoding import to_row
    from trajtree.store.trajectory_store import line_of, line_with

    kind = beginning_of(log).format
    format = format_named(kind)
    source = Source(log, log, "runs.jsonl#0123456789abcdef@01234567", kind, False, False)
    asked = Asked(None, (0.0, 1.0), None, None, None, False)
    place = {"source": source.name, "row": 1, "line": 1, "digest": "0" * 16, "content": "0" * 16}
    taken: dict[str, list[float]] = {}
    tally = Tally()

    def timed(part, work, *given):
        start = time.perf_counter()
        found = work(*given)
        taken.setdefault(part, []).append((time.perf_counter() - start) * 1e6)
        return found

    raws = runs_of(log, kind)
    for _ in range(runs):
        raw = timed("cut the record out of the file", next, raws)
        timed("hash its bytes", hash_of, raw.data)
        record, compact = timed("decode it, look for keys given twice", _decoded, raw)
        timed("hash its content", lambda record, text: hash_of(canonical_text(record, text)), record, compact)
        found = timed("read its messages and fields", lambda record: format.read(record, score=None, task=None), record)
        make = partial(trajectory_of, place=place)
        made = timed("make steps", make, found, kind, (0.0, 1.0))
        timed("make the row to be stored", to_row, made)
        line = timed("make it, encode it, check its types", line_of, made)
        timed("look for keys of services", may_hold_a_key, line)
        facts = partial(facts_of, redacted={}, with_key=False)
        timed("facts for the report", facts, found, made, [], (0.0, 1.0))
        item = Item(Reading(source, format.read, format.tasks, False), raw)
        done = timed("all that one of several jobs does", converted, item, asked).run
        timed("number it, count it", lambda run: (tally.add("t", run.facts), line_with("t", 0, run.rest)), done)
    return {name: median(each) for name, each in taken.items()} | {"bytes of a run": log.stat().st_size / count(log)}


def count(log: Path) -> int:
    """Number of lines."""
    with log.open("rb") as file:
        return sum(1 for _ in file)


def memory(folder: Path, megabytes: int) -> list[dict[str, float]]:
    """Peak memory of importing 100 MB of large runs, and of importing them over and over, `megabytes` MB in all."""
    found = []
    once, log, store = folder / "once.jsonl", folder / "runs.jsonl", folder / "store.jsonl"
    write_large_runs(once, 100 * 10**6)
    for times in (1, round(megabytes / 100)):
        with log.open("wb") as file:
            for _ in range(times):
                file.write(once.read_bytes())
        found.append({"input_mb": log.stat().st_size / 1e6, **run(["import", str(log), "--out", str(store)], None)})
        log.unlink()
        store.unlink()
        print(json.dumps(found[-1]), flush=True)
    return found


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="the `src` folder of an earlier version, to run beside this one")
    parser.add_argument("--small", type=int, default=24, metavar="MB", help="size of the input of small runs")
    parser.add_argument("--large", type=int, default=72, metavar="MB", help="size of the input of large runs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, nargs="*", default=[2])
    parser.add_argument("--memory", type=int, metavar="MB", help="measure memory only, with an input of this size")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    done = json.loads(args.out.read_text()) if args.out.exists() else {}
    done["python"], done["machine"] = platform.python_version(), f"{platform.system()} {platform.machine()}"
    versions = {**({"before": args.before.resolve()} if args.before else {}), "now": None}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if args.memory:
            done["memory"] = memory(folder, args.memory)
        else:
            small, large = folder / "small.jsonl", folder / "large.jsonl"
            write_runs(small, round(args.small * 1e6 / SMALL_RUN), runs_per_task=1000, steps=20)
            write_large_runs(large, args.large * 10**6)
            for name, log in (("small", small), ("large", large)):
                done[name] = compared(log, versions, args.rounds, tuple(args.jobs))
                done[name]["phases_us"] = phases(log, 3000 if name == "small" else 150)
                done[name]["load_average"] = os.getloadavg()[0]
                print(json.dumps(done[name]), flush=True)
    args.out.write_text(json.dumps(done, indent=1) + "\n")


if __name__ == "__main__":
    main()
