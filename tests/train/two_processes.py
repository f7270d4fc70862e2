"""Trainings that `test_trainer` runs by itself and in two processes, each of which leaves what came of it."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from tests.train.branching import adapt, branches, branching_pairs, build, moved
from torch import Tensor

from trajtree.train.losses import dpo, sft
from trajtree.train.settings import Optimisation
from trajtree.train.trainer import train

HOW = Optimisation(epochs=2, lr=0.05, optimiser="sgd", schedule="constant")


def trainings(folder: Path) -> dict[str, tuple[dict[str, Tensor], dict[str, float]]]:
    """By DPO with KL over pairs, then over paths in packs: how far each parameter moved, and the last metrics."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    pairs = branching_pairs(8, seed=2)
    found = {}
    for name, examples, objective, how in (
        ("pairs", pairs, dpo(0.3, kl=0.2), replace(HOW, batch=4 // world)),
        ("packs", branches(pairs), sft(), replace(HOW, pack_tokens=45, accumulate=4 // world)),
    ):
        model = adapt(build("llama"))
        before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
        last = train(model, examples, objective, how, folder / name, seed=1, dtype="float32")
        found[name] = moved(model, before), last
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = trainings(Path(sys.argv[1]))
    assert torch.distributed.get_world_size() == 2
    torch.save(found, Path(sys.argv[1]) / f"{torch.distributed.get_rank()}.pt")
    torch.distributed.destroy_process_group()
