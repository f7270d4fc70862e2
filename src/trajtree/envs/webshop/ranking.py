"""The shop's search: BM25 (k1 0.9, b 0.4) over stemmed words, as pyserini configures Lucene for the original.

Texts are tokenised like in Lucene's English analyser: Unicode word boundaries, possessives and 33 common words
dropped, Porter's stemmer. Scores come from the package bm25s. Documents with equal scores keep the file's order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from trajtree.errors import EnvError

K1, B = 0.9, 0.4
MOST_RESULTS = 50
MOST_TERMS = 1024
"""Number of words of a query that count; the original refuses longer queries."""

_WORD = re.compile(r"\w+(?:(?:(?<=[^\W\d_])['’.:](?=[^\W\d_])|(?<=\d)['’.,;](?=\d))\w+)*")
_COMMON = set(
    """
    a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to
    was will with
    """.split()  # noqa: SIM905 - easier to read than a list
)


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise EnvError(f"WebShop's search needs {name}: pip install 'trajtree[webshop]'") from error


@cache
def _analyser() -> Callable[[str], str]:
    """Maps a lower-case word to its stem, or to "" if the search ignores it."""
    stem: Callable[[str], str] = _package("Stemmer").Stemmer("porter").stemWord

    @lru_cache(maxsize=1 << 17)
    def analysed(word: str) -> str:
        plain = word.removesuffix("'s").removesuffix("’s")
        return "" if plain in _COMMON else stem(plain)

    return analysed


def terms(text: str) -> list[str]:
    """Stems of the words of `text` that the search uses, in order.

    Raises:
        EnvError: the stemmer is not installed.
    """
    analysed = _analyser()
    return [term for word in _WORD.findall(text.lower()) if (term := analysed(word))]


class Search:
    """A searchable index, held by `bm25s.BM25` in memory or memory-mapped from disk."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def over(cls, documents: Iterable[str]) -> Search:
        """Index the documents in memory (0.2 s and 1 MB for 1,000 products).

        Raises:
            EnvError: a package is missing.
        """
        index = _package("bm25s").BM25(k1=K1, b=B, method="lucene")
        index.index([terms(document) for document in documents], show_progress=False)
        return cls(index)

    @classmethod
    def load(cls, folder: Path) -> Search:
        """The index written by `IndexWriter` or bm25s, memory-mapped.

        Raises:
            EnvError: a package is missing.
        """
        return cls(_package("bm25s").BM25.load(folder, mmap=True, show_progress=False))

    def scores(self, query: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        """[documents] BM25 score of every document; zeros if no word of the query is known."""
        known = self._index.get_tokens_ids(terms(query)[:MOST_TERMS])
        if not known:
            return np.zeros(self._index.scores["num_docs"], np.float32)
        scores: np.ndarray[Any, np.dtype[np.float32]] = self._index.get_scores_from_ids(known)
        return scores

    def best(self, query: str) -> tuple[int, ...]:
        """Indices of at most 50 documents that share a word with the query, best first."""
        scores = self.scores(query)
        hits = np.flatnonzero(scores > 0)
        if len(hits) > MOST_RESULTS:
            least = np.partition(scores[hits], -MOST_RESULTS)[-MOST_RESULTS]
            hits = hits[scores[hits] >= least]
        return tuple(hits[np.argsort(-scores[hits], kind="stable")][:MOST_RESULTS].tolist())


__all__ = ["MOST_RESULTS", "Search", "terms"]
