"""Packed preference training in your own loop: your model, your optimiser, our batches, attention and loss.

    python examples/own_training_loop.py MODEL     # a hub id or folder of any decoder; needs trajtree[train]

Shared beginnings are computed once, and only the agent's own tokens are trained.
"""

import sys
from importlib.resources import files
from pathlib import Path

import torch

import trajtree
from trajtree.models.transcript import ChatFormat
from trajtree.models.weights import ModelRef, context_length, load_model, load_tokenizer
from trajtree.train.batch import collate
from trajtree.train.losses import dpo
from trajtree.train.material import Taking, Trees, examples_of
from trajtree.train.reference import with_reference
from trajtree.train.scoring import scores_of
from trajtree.train.tree_attention import use_tree_attention
from trajtree.trees.forks import PairSettings
from trajtree.trees.search import PathSettings

name = sys.argv[1]
trajtree.import_files(str(files("trajtree.cli") / "demo_runs.jsonl"), "runs.jsonl")
trajtree.write_trees(trajtree.build(trajtree.TrajectoryStore("runs.jsonl")), "trees.jsonl")

model = load_model(ModelRef(name), dtype="float32", device="cpu")
chat = ChatFormat(load_tokenizer(name), name)
taking = Taking(chat, context_length(model), PairSettings(min_gap=0.2), PathSettings(), weigh="equal")
examples = examples_of(Trees("the demo", Path("trees.jsonl")), "dpo", taking)
# The reference is the model before training, so its log-probabilities are computed once, now.
examples = with_reference(examples, model, fingerprint=name, cache=Path("reference"), dtype="float32")

use_tree_attention(model)
objective = dpo(beta=0.1, anchor=0.5)
optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
batch = collate(examples, packed=True)
print(f"{len(examples)} pairs, {batch.tokens} tokens, {batch.ids.numel()} of them computed")
for step in range(3):
    losses, figures = objective.loss(scores_of(model, batch, objective), batch)
    losses.mean().backward()
    optimiser.step()
    optimiser.zero_grad()
    print(f"step {step}: loss {float(losses.detach().mean()):.3f}, {figures}")
