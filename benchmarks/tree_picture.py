"""The picture in README.md and docs/concepts.md: the tree of one chore of `trajtree demo`, with its forks and values.

python benchmarks/tree_picture.py --task make-tea --out docs/tree.svg
"""

from __future__ import annotations

import argparse
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

import trajtree

matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "tree", "font.size": 9})
_GREY, _EDGE = "#777777", "#bbbbbb"


def places(tree: trajtree.TrajectoryTree) -> list[float]:
    """[N] height of each node: leaves one below the other, every other node in the middle of its children."""
    height = [0.0] * len(tree)
    children = tree.children
    leaves = 0
    for node in reversed(range(len(tree))):
        if children[node]:
            height[node] = sum(height[child] for child in children[node]) / len(children[node])
        else:
            height[node], leaves = float(leaves), leaves + 1
    return height


def draw(tree: trajtree.TrajectoryTree) -> Figure:
    """The tree from left to right: a node's colour is the mean score of the runs through it, its number how many."""
    height, colours = places(tree), matplotlib.colormaps["RdYlGn"]
    forks = {option for _, options in tree.forks() for option in options}
    figure = Figure(figsize=(1.55 * (int(tree.depth.max()) + 1), 0.62 * (max(height) + 1.4)))
    axes = figure.subplots()
    axes.set_axis_off()
    for node in range(1, len(tree)):
        parent = int(tree.parent[node])
        x, y = [tree.depth[parent], tree.depth[node]], [height[parent], height[node]]
        axes.plot(x, y, color=_EDGE, linewidth=0.8 + 0.5 * int(tree.visits[node]), zorder=1, solid_capstyle="round")
    for node in range(len(tree)):
        mean = float(tree.mean[node])
        axes.scatter(
            *(tree.depth[node], height[node]),
            s=150,
            color=colours(0.08 + 0.84 * mean),
            edgecolors="black" if node in forks else _GREY,
            linewidths=1.6 if node in forks else 0.6,
            zorder=2,
        )
        axes.annotate(str(int(tree.visits[node])), (tree.depth[node], height[node]), ha="center", va="center", zorder=3)
        label = tree.action[node] or "start"
        said = f"{label}\n{mean:.2f}" if node in forks else label
        axes.annotate(
            *(said, (tree.depth[node], height[node]), (0, 9)),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=7.5,
            linespacing=0.95,
        )
    axes.margins(0.06, 0.09)
    return figure


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="make-tea")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, as_file(files("trajtree.cli") / "demo_runs.jsonl") as logged:
        store = Path(folder) / "runs.jsonl"
        trajtree.import_files(logged, store)
        trees = {tree.task: tree for tree in trajtree.build(trajtree.TrajectoryStore(store))}
    draw(trees[args.task]).savefig(args.out, bbox_inches="tight", facecolor="white", metadata={"Date": None})


if __name__ == "__main__":
    main()
