"""The page of trees as it grows: one tree of many nodes, and many small trees, opened in Chromium.

    python benchmarks/page_scale.py --out benchmarks/results/page-scale.json

For each page: its size, the peak memory of this process while it was written, the milliseconds until the browser had
drawn it, and the median and the longest frame while it zooms. Needs playwright, and Chromium on the path.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from trajtree.report.viewer import write_viewer
from trajtree.trajectory import Outcome, Step, Trajectory
from trajtree.trees.merge import build_tree
from trajtree.trees.tree import TrajectoryTree

WORDS = ("go north", "open the door", "look around", "pick up key")
ZOOM = """async () => {
  const stage = document.getElementById('stage');
  const box = stage.getBoundingClientRect();
  const at = { clientX: box.left + 300, clientY: box.top + 300, cancelable: true };
  const frame = () => new Promise(requestAnimationFrame);
  const times = [];
  let last = await frame();
  for (let i = 0; i < 30; i++) {
    stage.dispatchEvent(new WheelEvent('wheel', { ...at, deltaY: i < 15 ? -40 : 40 }));
    const now = await frame();
    times.push(now - last);
    last = now;
  }
  return times;
}"""


def tree_of(nodes: int, task: str, rng: random.Random) -> TrajectoryTree:
    """A tree of about so many nodes: runs of 5 to 20 steps, with four actions to choose from."""
    runs: list[Trajectory] = []
    steps = 0
    while steps < nodes * 2:
        taken = tuple(Step(f"after {depth}", rng.choice(WORDS)) for depth in range(rng.randint(5, 20)))
        runs.append(
            Trajectory(task, len(runs), "weak", "toy", "1", 0, None, (), taken, rng.random(), Outcome.COMPLETED)
        )
        steps += len(taken)
    return build_tree(runs)


def trees_of(tasks: int, nodes: int) -> Iterator[TrajectoryTree]:
    """So many trees, made one at a time."""
    rng = random.Random(0)
    return (tree_of(nodes, f"task/{number}", rng) for number in range(tasks))


def measure(browser: Browser, path: Path, tasks: int, nodes: int) -> dict[str, Any]:
    """One page."""
    began = time.perf_counter()
    sizes: list[int] = []

    def counted() -> Iterator[TrajectoryTree]:
        for tree in trees_of(tasks, nodes):
            sizes.append(len(tree))
            yield tree

    write_viewer(counted(), path, title="Trees")
    written = time.perf_counter() - began
    page = browser.new_page(viewport={"width": 1300, "height": 800})
    page.set_default_timeout(600_000)
    page.goto(path.as_uri())
    page.wait_for_function("performance.getEntriesByName('trajtree-drawn').length")
    drawn = page.evaluate("performance.getEntriesByName('trajtree-drawn')[0].startTime")
    frames = page.evaluate(ZOOM)
    page.close()
    return {
        "tasks": tasks,
        "largest_tree_nodes": max(sizes),
        "page_mb": round(path.stat().st_size / 2**20, 2),
        "seconds_to_make_and_write": round(written, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "drawn_ms": round(drawn),
        "median_frame_ms": round(statistics.median(frames), 1),
        "longest_frame_ms": round(max(frames), 1),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="*", default=[5_000, 30_000, 100_000], help="of a single tree")
    parser.add_argument("--tasks", type=int, nargs="*", default=[2_000, 20_000], help="of 20 nodes each")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    # Many small trees first: the peak memory of a process only grows.
    pages = [*((tasks, 20) for tasks in args.tasks), *((1, nodes) for nodes in args.nodes)]
    found = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for tasks, nodes in pages:
            found.append(measure(browser, Path(folder) / "page.html", tasks, nodes))
            print(json.dumps(found[-1]), flush=True)
        browser.close()
    if args.out:
        made = {"cores": os.cpu_count(), "load": [round(x, 2) for x in os.getloadavg()]}
        args.out.write_text(json.dumps({**made, "pages": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
