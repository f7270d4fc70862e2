"""Hours of bad luck: kills, signals, full disks, torn files, two writers, hostile inputs, worlds that break.

    SOAK_S=180 python -m tests.soak            # or: make soak
    SOAK_SEED=17 python -m tests.soak          # one trial again

After each trial there are the bytes of an unbroken run, or one sentence that names the thing: never a traceback, never
a wrong result with exit status 0. The first trial that ends otherwise ends the soak with status 1 and says its seed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from tests.soak.commands import Ended, Violation, end, listens, run, start
from tests.soak.hostile import READERS, called, mutated, valid_inputs
from tests.soak.playing import breaking_environment, exploring
from tests.soak.workloads import Workload, prepare, unbroken

LIGHT, HEAVY = ("import", "build", "pairs", "paths"), ("train", "run")
_INPUTS = 150
"""Hostile inputs in one trial."""

Trial = Callable[[Path, Path, Random, Counter[str]], None]


def some_workload(base: Path, random: Random) -> Workload:
    return unbroken(random.choice(LIGHT if random.random() < 0.6 else HEAVY), base)


def same(workload: Workload, folder: Path, what: str) -> None:
    """The results are those of an unbroken run.

    Raises:
        Violation: they are not; naming the files that differ.
    """
    found, expected = workload.found(folder), workload.expected
    if found != expected:
        differ = sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))
        raise Violation(f"{what}: not what an unbroken run leaves: {', '.join(differ[:10])}")


def kills(base: Path, folder: Path, random: Random, count: Counter[str]) -> None:
    """SIGKILL, Control-C or SIGTERM at random moments, several times; then to the end."""
    workload = some_workload(base, random)
    words = workload.fresh(folder / "inputs")
    for _ in range(random.randint(1, 4)):
        process = start(words)
        number = random.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM))
        # What comes before a command listens, Python's own start, is not its to end in order.
        if number == signal.SIGKILL or listens(process):
            time.sleep(random.uniform(0, workload.seconds))
        process.send_signal(number)
        ended = end(process, words)
        if number == signal.SIGKILL:
            ended.check(0, -number)
        else:
            # One that comes when all is done ends the process as it would end any other.
            done = workload.found(folder / "inputs") == workload.expected
            ended.check(0, 128 + number, *([-number] if done else []))
            said = ("nothing finished is lost: go on with: trajtree ", "trajtree: stopped before it began\n")
            if ended.status > 0 and not any(text in ended.err for text in said):
                raise Violation(f"{' '.join(words)} ended by a signal without saying how to go on:\n{ended.err}")
        broken_off = ended.status == (-number if number == signal.SIGKILL else 128 + number)
        count[f"{signal.Signals(number).name} of {words[0]}" if broken_off else "finished first"] += 1
    run(words).check(0)
    same(workload, folder / "inputs", f"{words[0]} after kills")


def full_disk(base: Path, folder: Path, random: Random, count: Counter[str]) -> None:
    """A limit on the size of files, or where root may a small disk; then room again."""
    workload = some_workload(base, random)
    assert workload.whole is not None
    largest = max(path.stat().st_size for path in workload.results(workload.whole))
    with small_disk(folder / "disk", random, workload) as mounted:
        place = folder / "disk" if mounted else folder
        words = workload.fresh(place / "inputs")
        refused = run(words, largest_file=None if mounted else int(random.uniform(0.02, 1.2) * largest)).check(0, 1)
        if refused.status and not any(word in str(refused.sentence) for word in ("space", "large", "write", "written")):
            raise Violation(f"{' '.join(words)} on a full disk said {refused.sentence}")
        if words[0] in LIGHT and not str(run([*words[:-1], "/dev/full"]).check(1).sentence).count("/dev/full"):
            raise Violation(f"{words[0]} --out /dev/full did not name it")
        if mounted:
            subprocess.run(["mount", "-o", "remount,size=2g", place], check=True)
        count[f"{'full disk' if mounted else 'file-size limit'} under {words[0]}"] += refused.status
        run(words).check(0)
        same(workload, place / "inputs", f"{words[0]} after a full disk")


@contextmanager
def small_disk(folder: Path, random: Random, workload: Workload) -> Iterator[bool]:
    """A disk of little room mounted at a new folder; False where that is not allowed, or not this time."""
    assert workload.start is not None and workload.whole is not None
    folder.mkdir()
    before, after = (
        sum(p.stat().st_size for p in f.rglob("*") if p.is_file()) for f in (workload.start, workload.whole)
    )
    room = before + 65536 + int(random.uniform(0, 1) * (after - before))
    options = ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", folder]
    mounted = (
        random.random() < 0.5 and os.geteuid() == 0 and not subprocess.run(options, capture_output=True).returncode
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", folder], check=True)


def torn(base: Path, folder: Path, random: Random, count: Counter[str]) -> None:
    """A file of a finished run or training is cut, zeroed, changed or lost: that is noticed and named.

    What is only derived from other files, as a report's copy of its recipe, may be written anew instead.
    """
    workload = unbroken(random.choice(HEAVY), base)
    assert workload.whole is not None
    shutil.copytree(workload.whole, folder / "inputs")
    words = workload.words(folder / "inputs")
    file = random.choice(
        [path for path in workload.results(folder / "inputs") if path.is_file() and path.stat().st_size]
    )
    how, data = random.choice(("cut", "zeroed", "changed", "lost")), bytearray(file.read_bytes())
    if how == "lost":
        file.unlink()
    else:
        at = random.randrange(len(data))
        data[at] ^= random.randrange(1, 256)
        file.write_bytes({"cut": bytes(data[:at]), "zeroed": bytes(len(data)), "changed": bytes(data)}[how])
    refused = run(words).check(0, 1)
    if refused.status == 0:
        same(workload, folder / "inputs", f"{words[0]} after {file.name} was {how}")
        count[f"file of {words[0]} {how}, written anew"] += 1
        return
    if str(file) not in str(refused.sentence):
        raise Violation(f"{file} was {how}, and {words[0]} said: {refused.sentence}")
    count[f"file of {words[0]} {how}"] += 1
    if words[0] == "run":
        stage = str(refused.sentence).partition("--redo ")[2].split()[0]
        run([*words, "--redo", stage]).check(0)
        same(workload, folder / "inputs", f"run with --redo {stage}")


def two_writers(base: Path, folder: Path, random: Random, count: Counter[str]) -> None:
    """Twice the same command at once: one may be refused, and what it writes is as from one."""
    workload = some_workload(base, random)
    words = workload.fresh(folder / "inputs")
    first = start(words)
    time.sleep(random.uniform(0, workload.seconds))
    second = start(words)
    ended: list[Ended] = [end(process, words).check(0, 1) for process in (first, second)]
    if all(one.status for one in ended):
        raise Violation(f"of two at once none wrote: {[one.sentence for one in ended]}")
    for refused in (one for one in ended if one.status):
        if "another" not in str(refused.sentence):
            raise Violation(f"{' '.join(words)} beside another said {refused.sentence}")
    count["second writer refused" if any(one.status for one in ended) else "two writers, one after the other"] += 1
    same(workload, folder / "inputs", f"two of {words[0]}")


def hostile_inputs(base: Path, folder: Path, random: Random, count: Counter[str]) -> None:
    """Valid files with bytes changed, for every reader."""
    for name in ("few-runs", "few"):
        unbroken(name, base)
    inputs = valid_inputs(base, folder)
    for number in range(_INPUTS):
        name = random.choice(list(READERS))
        data = mutated(inputs[name], random)
        out = folder / str(number)
        out.mkdir()
        (out / name).write_bytes(data)
        try:
            status = called(READERS[name](out / name, out))
        except Violation:
            shutil.copy(out / name, Path(tempfile.gettempdir()) / f"soak-{name}")
            raise
        count[f"hostile inputs {'refused' if status else 'read'}"] += 1
        shutil.rmtree(out)


TRIALS: dict[Trial, float] = {
    kills: 4,
    hostile_inputs: 2,
    two_writers: 1.5,
    full_disk: 1.5,
    torn: 1.5,
    breaking_environment: 1,
    exploring: 3,
}
"""What may happen, and how often."""


def trial(seed: int, base: Path, count: Counter[str]) -> None:
    """One trial, chosen by its seed."""
    random = Random(seed)
    (chosen,) = random.choices(list(TRIALS), list(TRIALS.values()))
    folder = base / f"trial-{seed}"
    folder.mkdir()
    try:
        chosen(base, folder, random, count)
    except Violation as violation:
        sys.exit(f"SOAK_SEED={seed}, {chosen.__name__}: {violation}\nfigures so far: {dict(count)}\nfiles: {folder}")
    shutil.rmtree(folder)
    count["trials"] += 1


def main() -> None:
    """Try until the time is over, and print what was tried."""
    base, count = Path(tempfile.mkdtemp(prefix="soak-")), Counter[str]()
    prepare(base)
    if "SOAK_SEED" in os.environ:
        trial(int(os.environ["SOAK_SEED"]), base, count)
    else:
        seconds, seed = float(os.environ.get("SOAK_S", "180")), int(time.time()) * 1000
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            seed += 1
            trial(seed, base, count)
    for what, number in sorted(count.items()):
        print(f"{number:7,} {what}")
    shutil.rmtree(base)


if __name__ == "__main__":
    main()
