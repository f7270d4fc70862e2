"""WebShop: start-up, steps per second of a random policy and of the scripted shopper, memory of an instance.

    TRAJTREE_DATA=FOLDER python benchmarks/webshop_speed.py --out benchmarks/results/webshop-speed.json

FOLDER/webshop holds the products. The random policy draws from the available actions, or searches for three words of
a random title, which is what the original was measured with. Listing the available actions is part of its step.
Seconds are of the process's CPU; where several processes share a core, wall seconds say little.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import subprocess
import sys
import time
import tracemalloc
from importlib.metadata import version
from pathlib import Path

from trajtree.envs.replay import replay
from trajtree.envs.webshop import WebShop, open_shop
from trajtree.envs.webshop.expert import plans

START_UP = """
import time
cpu = time.process_time()
import trajtree
package, wall = time.process_time(), time.perf_counter()
from trajtree.envs.webshop import WebShop
env = WebShop()
env.reset("synthetic/0")
print(package - cpu, time.process_time() - package, time.perf_counter() - wall)
"""


def start_up(repeat: int) -> dict[str, float]:
    """Medians over fresh processes: CPU seconds of `import trajtree`, then CPU and wall seconds to the first page."""
    runs = []
    for _ in range(repeat):
        answer = subprocess.run([sys.executable, "-c", START_UP], capture_output=True, text=True, check=True)
        runs.append([float(word) for word in answer.stdout.split()])
    package, opening, wall = (statistics.median(column) for column in zip(*runs, strict=True))
    return {"import trajtree, CPU s": package, "to the first page, CPU s": opening, "to the first page, wall s": wall}


def random_policy(steps: int, seed: int) -> dict[str, float]:
    """Episodes of a random shopper until `steps` steps are done."""
    rng, env = random.Random(seed), WebShop()
    titles = [product.title.split() for product in env.shop.products]
    goals = len(env.shop.goals["synthetic"])
    scores, done = [], 0
    start = time.process_time()
    while done < steps:
        env.reset(f"synthetic/{rng.randrange(goals)}")
        score, over = 0.0, False
        while not over:
            actions = env.available_actions()
            if actions.has_search_bar:
                words = rng.choice(titles)
                action = f"search[{' '.join(rng.sample(words, min(3, len(words))))}]"
            else:
                action = f"click[{rng.choice(actions.clickables)}]"
            result = env.step(action)
            score += result.reward
            over = result.terminated or result.truncated
            done += 1
        scores.append(score)
    seconds = time.process_time() - start
    return {
        "steps": done,
        "episodes": len(scores),
        "steps per CPU s": done / seconds,
        "mean score": statistics.mean(scores),
        "success rate": statistics.mean(score >= 1.0 for score in scores),
    }


def shopper() -> dict[str, float]:
    """The scripted shopper on every goal of the shop: what it scores, and how fast its actions are played."""
    env = WebShop()
    every = [f"synthetic/{number}" for number in range(len(env.shop.goals["synthetic"]))]
    chosen = {task: next(plans(env.shop, env.goal(task))) for task in every}
    start = time.process_time()
    played = [replay(env, task, actions, policy="expert") for task, actions in chosen.items()]
    seconds = time.process_time() - start
    steps = sum(len(one.steps) for one in played)
    return {
        "goals": len(every),
        "steps": steps,
        "steps per CPU s": steps / seconds,
        "mean score": statistics.mean(one.score for one in played),
        "mean score of the test split": statistics.mean(one.score for one in played[:500]),
        "success rate": statistics.mean(one.success for one in played),
    }


def memory(instances: int) -> dict[str, float]:
    """KiB that each of many instances takes in the middle of an episode, the shared shop not counted."""
    WebShop().reset("synthetic/0")
    shared = open_shop()
    tracemalloc.start()
    envs = [WebShop() for _ in range(instances)]
    for number, env in enumerate(envs):
        task = f"synthetic/{number}"
        env.reset(task)
        for action in next(plans(shared, env.goal(task)))[:-1]:
            env.step(action)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return {"instances": instances, "KiB an instance, with what the search remembers": taken / 1024 / instances}


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--instances", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    figures: dict[str, object] = {
        "command": vars(args) | {"out": str(args.out)},
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("bm25s", "PyStemmer", "numpy")},
        "machine": f"{platform.system()} {platform.machine()}",
        "products": len(open_shop().products),
        "start-up": start_up(args.repeat),
        "random policy": random_policy(args.steps, args.seed),
        "shopper": shopper(),
        "memory": memory(args.instances),
    }
    print(json.dumps(figures, indent=1))
    if args.out:
        args.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
