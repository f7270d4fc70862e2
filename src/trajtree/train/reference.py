"""The reference's log-probabilities, computed once and cached under a hash of model and data.

With them, a training step takes one forward pass instead of two, and the reference need not be in memory. An explicit
KL needs the whole distribution and cannot use them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from trajtree.models.weights import pick_dtype
from trajtree.store.files import atomically
from trajtree.train.batch import collate
from trajtree.train.dropout import without_dropout
from trajtree.train.examples import Example
from trajtree.train.packing import packs
from trajtree.train.scoring import logits_of, token_logprobs, without_adapter
from trajtree.train.tree_attention import tree_attention_where_possible


def with_reference(
    examples: Sequence[Example],
    model: Any,
    *,
    fingerprint: str,
    cache: Path,
    pack_tokens: int = 4096,
    dtype: str = "auto",
    packed: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Example]:
    """The examples with the log-probabilities of their trained tokens under a reference.

    Args:
        examples: the training examples.
        model: the reference; a peft model is used with its adapter switched off.
        fingerprint: fingerprint of its weights (`trajtree.models.weights.fingerprint`) and any merged adapters.
        cache: folder of files named after the hash of `fingerprint`, dtype and tokens.
        pack_tokens: tokens per forward pass, after sharing.
        dtype: dtype of the arithmetic, the same as in training (see `pick_dtype`).
        packed: False for padded batches, as in training.
        progress: called with (finished packs, all packs).
    """
    kind = pick_dtype(dtype)
    file = cache / f"{_digest(examples, f'{fingerprint} {kind}')}.npz"
    flat = _cached(file)
    if flat is None:
        flat = np.concatenate(
            logprobs_of(examples, model, pack_tokens=pack_tokens, dtype=kind, packed=packed, progress=progress)
        )
        cache.mkdir(parents=True, exist_ok=True)
        with atomically(file) as out:
            np.savez(out, logprobs=flat)
    # flat: the trained tokens of all sides of all examples, one after another.
    found, begin = [], 0
    for example in examples:
        sides = []
        for side in example.sides:
            # Nothing predicts a sequence's first token, so it is never trained.
            end = begin + sum(stop - max(start, 1) for start, stop in side.agent)
            sides.append(flat[begin:end])
            begin = end
        found.append(replace(example, reference=tuple(sides)))
    return found


def _cached(file: Path) -> NDArray[np.float32] | None:
    """What was computed before; None where nothing was, or where the file is torn and must be computed again."""
    try:
        with file.open("rb") as opened, np.load(opened) as saved:
            logprobs: NDArray[np.float32] = saved["logprobs"]
            return logprobs
    except (OSError, EOFError, ValueError, KeyError, BadZipFile):
        return None


def logprobs_of(
    examples: Sequence[Example],
    model: Any,
    *,
    pack_tokens: int = 4096,
    dtype: str = "auto",
    packed: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[NDArray[np.float32]]:
    """For each example, log-probabilities of its trained tokens, one side after another; see `with_reference`."""
    kind = getattr(torch, pick_dtype(dtype))
    device = next(model.parameters()).device
    found: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(examples)
    adapter_off: AbstractContextManager[Any] = without_adapter(model)
    attention = tree_attention_where_possible([model], packed)
    with without_dropout([model]), attention as packed, torch.no_grad(), adapter_off:
        sequences = [[side.ids for side in example.sides] for example in examples]
        numbers = packs(range(len(examples)), sequences.__getitem__, pack_tokens, share=packed)
        for done, members in enumerate(numbers, start=1):
            batch = collate([examples[i] for i in members], packed=packed).to(device)
            with torch.autocast(device.type, kind, enabled=kind is torch.bfloat16):
                # [M] one value for each trained token of each branch; shared tokens are repeated.
                logprobs = token_logprobs(logits_of(model, batch), batch)[batch.token].cpu().numpy()
            # branches [B][trained tokens]. Example i has branch i and, for a pair's rejected side, branch n + i.
            branches = np.split(logprobs, np.cumsum(batch.lengths.cpu().numpy())[:-1])
            for i, index in enumerate(members):
                found[index] = np.concatenate(branches[i :: len(members)]).astype(np.float32)
            progress(done, len(numbers))
    return found


def _digest(examples: Sequence[Example], what: str) -> str:
    digest = hashlib.sha256(what.encode())
    for example in examples:
        digest.update(json.dumps([[side.ids, side.agent] for side in example.sides]).encode())
    return digest.hexdigest()[:24]


__all__ = ["logprobs_of", "with_reference"]
