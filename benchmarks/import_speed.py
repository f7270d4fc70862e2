"""How fast runs are imported, where the time goes, and that memory does not grow with the input.

    python benchmarks/import_speed.py --before ../before/src --out benchmarks/results/import-speed.json

Two kinds of run: small ones (20 steps in plain text, 2.4 kB, those of tree_scale.py), and large ones as coding agents
leave them (20 calls of a tool and their results, 72 kB). Commands run in processes of their own, under both versions
in turn, and their CPU seconds count, so other work on the machine disturbs them less; the median of `--rounds` is kept.
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
from itertools import islice
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))

from tree_scale import run, write_runs

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
            start = median(started(versions[name]) for _ in range(rounds))
            cpu = median(one["cpu_seconds"] for one in runs)
            found[name] |= {"cpu_seconds": cpu, "start_cpu_seconds": start, "mb_per_cpu_second": size / (cpu - start)}
    return found


def started(source: Path | None) -> float:
    """CPU seconds that the command takes before it reads anything."""
    return run(["import", "--help"], source)["cpu_seconds"]


def phases(log: Path, runs: int) -> dict[str, float]:
    """CPU microseconds per run of the parts of an import, each over the same runs, records one after another."""
    from trajtree.formats.import_records import Asked, Item, Reading, converted
    from trajtree.formats.import_sources import Source, hash_of
    from trajtree.formats.import_tally import Tally, facts_of
    from trajtree.formats.read.detect import beginning_of, format_named, runs_of
    from trajtree.formats.read.records import decode, decode_with_content
    from trajtree.formats.read.to_trajectory import trajectory_of
    from trajtree.formats.redaction import may_hold_a_key
    from trajtree.store.encoding import to_row
    from trajtree.store.trajectory_store import line_of, line_with

    kind = beginning_of(log).format
    format = format_named(kind)
    raws = list(islice(runs_of(log, kind), runs))
    source = Source(log, log, "runs.jsonl#0123456789abcdef@01234567", kind, False, False)
    items = [Item(Reading(source, format.read, format.tasks, False), raw, hash_of(raw.data)) for raw in raws]
    asked = Asked(None, (0.0, 1.0), None, None, None, False)

    def found(raw):
        return format.read(decode(raw), score=None, task=None)

    place = {"source": source.name, "row": 1, "line": 1, "digest": "0" * 16, "content": "0" * 16}
    made = [trajectory_of(found(raw), kind, (0.0, 1.0), place=place) for raw in raws]
    lines = [line_of(one) for one in made]
    done = [converted(item, asked).run for item in items]
    one, tally = found(raws[0]), Tally()

    def timed(work, given) -> float:
        best = float("inf")
        for _ in range(5):
            start = time.process_time()
            for each in given:
                work(each)
            best = min(best, time.process_time() - start)
        return best / len(given) * 1e6

    decoded = timed(decode, raws)
    read = timed(found, raws)
    written = timed(to_row, made)
    stored = timed(line_of, made)
    start = time.process_time()
    for _ in runs_of(log, kind):
        pass
    cut = (time.process_time() - start) / sum(1 for _ in runs_of(log, kind)) * 1e6
    return {
        "cut the record out of the file": cut,
        "hash its bytes": timed(lambda raw: hash_of(raw.data), raws),
        "decode it, look for keys given twice": decoded,
        "hash its content": timed(lambda raw: hash_of(decode_with_content(raw)[1]), raws) - decoded,
        "read its messages and fields": read - decoded,
        "make steps": timed(lambda raw: trajectory_of(found(raw), kind, (0.0, 1.0), place=place), raws) - read,
        "make the row to be stored": written,
        "encode it, read it back, compare": stored - written,
        "look for keys of services": timed(may_hold_a_key, lines),
        "facts for the report": timed(
            lambda each: facts_of(one, each, [], (0.0, 1.0), redacted={}, with_key=False), made
        ),
        "number it, count it": timed(
            lambda each: (tally.add(each.task, each.facts), line_with(each.task, 0, each.rest)), done
        ),
        "all that one of several jobs does": timed(lambda item: converted(item, asked), items),
        "bytes of a run": sum(len(raw.data) for raw in raws) / len(raws),
    }


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
    parser.add_argument("--runs", type=int, default=10_000, help="number of small runs")
    parser.add_argument("--rounds", type=int, default=5)
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
            write_runs(small, args.runs)
            write_large_runs(large, small.stat().st_size)
            for name, log in (("small", small), ("large", large)):
                done[name] = compared(log, versions, args.rounds, tuple(args.jobs))
                done[name]["phases_us"] = phases(log, 500 if name == "small" else 50)
                done[name]["load_average"] = os.getloadavg()[0]
                print(json.dumps(done[name]), flush=True)
    args.out.write_text(json.dumps(done, indent=1) + "\n")


if __name__ == "__main__":
    main()
