"""Your own rule for what counts as the same: here, the numbers in what the agent sees do not matter.

    python examples/own_merge_rule.py

Ten runs of one task see a clock that always shows another time. Compared as they are, they share nothing after their
first decision; with the clock ignored, they make one tree. What is stored and exported keeps the clock.
"""

import random
import re

import trajtree
from trajtree import Outcome, Step, Trajectory


def run(sample: int) -> Trajectory:
    """A run that looks at the clock, then takes the left or the right door; the left one is right."""
    chance = random.Random(sample)
    door = chance.choice(["left", "right"])
    steps = (
        Step("A hall with two doors.", "look at the clock"),
        Step(f"It is {chance.randrange(24)}:{chance.randrange(10, 60)}.", f"open the {door} door"),
    )
    return Trajectory(
        task="hall",
        sample=sample,
        policy="coin",
        env="hall",
        env_version="1",
        seed=sample,
        sampling=None,
        messages=(),
        steps=steps,
        score=float(door == "left"),
        outcome=Outcome.COMPLETED,
    )


def without_numbers(text: str) -> str:
    """What an observation is compared by."""
    return re.sub(r"\d+", "#", text.strip())


runs = [run(sample) for sample in range(10)]
for name, tree in (
    ("as they are", trajtree.build_tree(runs)),
    ("numbers ignored", trajtree.build_tree(runs, canonical_observation=without_numbers)),
):
    forks = list(tree.forks())
    print(f"{name}: {len(tree)} nodes, {len(forks)} forks, {sum(1 for _ in trajtree.pairs(tree))} pairs")
    for _, options in forks:
        print("  ", {tree.action[option]: round(float(tree.mean[option]), 2) for option in options})
