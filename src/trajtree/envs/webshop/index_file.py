"""Building the search index of any number of documents in bounded memory.

The result is what `bm25s.BM25.save` writes for the same documents (a test compares them): for each word the documents
that contain it, with their final scores. Only the words and a few numbers per document are kept in memory; the rest is
spooled to disk and then moved into place, one block at a time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trajtree.envs.webshop.ranking import K1, B

BLOCK = 1 << 22
"""Number of (word, document) pairs placed at a time (about 200 MB)."""

_PAIR = np.dtype([("word", np.int32), ("document", np.int32), ("times", np.int32)])


class IndexWriter:
    """Takes documents one at a time, then writes the index to its folder; use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._spool = (folder / "pairs.spool").open("wb")
        self._vocabulary: dict[str, int] = {}
        self._holders: list[int] = []
        self._lengths: list[int] = []

    def __enter__(self) -> IndexWriter:
        """Start taking documents."""
        return self

    def __exit__(self, *error: object) -> None:
        """Release the spool."""
        self._spool.close()

    def add(self, terms: Sequence[str]) -> None:
        """Index the next document, given its words as tokenised by `ranking.terms`."""
        document = len(self._lengths)
        counts = Counter(terms)
        pairs = np.empty(len(counts), _PAIR)
        for place, (term, times) in enumerate(counts.items()):
            word = self._vocabulary.setdefault(term, len(self._vocabulary))
            if word == len(self._holders):
                self._holders.append(0)
            self._holders[word] += 1
            pairs[place] = (word, document, times)
        pairs.tofile(self._spool)
        self._lengths.append(len(terms))

    def finish(self) -> None:
        """Write the index; the writer cannot be used again."""
        self._spool.close()
        holders = np.array(self._holders, np.int64)
        starts = np.concatenate([[0], np.cumsum(holders)])
        documents = len(self._lengths)
        rarity = np.log(1 + (documents - holders + 0.5) / (holders + 0.5))
        lengths = np.array(self._lengths, np.float64)
        damping = K1 * (1 - B + B * lengths / max(lengths.mean(), 1e-9))
        scores = _column(self._folder / "data.csc.index.npy", np.float32, int(starts[-1]))
        indices = _column(self._folder / "indices.csc.index.npy", np.int32, int(starts[-1]))
        free = starts[:-1].copy()
        spool = self._folder / "pairs.spool"
        for first in range(0, int(starts[-1]), BLOCK):
            pairs = np.fromfile(spool, _PAIR, BLOCK, offset=first * _PAIR.itemsize)
            pairs = pairs[np.argsort(pairs["word"], kind="stable")]
            words, begins, sizes = np.unique(pairs["word"], return_index=True, return_counts=True)
            places = np.arange(len(pairs)) + np.repeat(free[words] - begins, sizes)
            free[words] += sizes
            indices[places] = pairs["document"]
            scores[places] = rarity[pairs["word"]] * pairs["times"] / (pairs["times"] + damping[pairs["document"]])
        spool.unlink()
        np.save(self._folder / "indptr.csc.index.npy", starts)
        (self._folder / "vocab.index.json").write_text(json.dumps(self._vocabulary), "utf-8")
        parameters = {"k1": K1, "b": B, "method": "lucene", "num_docs": documents}
        (self._folder / "params.index.json").write_text(json.dumps(parameters), "utf-8")


def _column(path: Path, kind: type, length: int) -> Any:
    if length == 0:
        np.save(path, np.empty(0, kind))
        return np.empty(0, kind)
    return np.lib.format.open_memmap(path, "w+", kind, (length,))


__all__ = ["IndexWriter"]
