"""Semantic merging with a sentence model, which may be one of the hub."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec

from trajtree.errors import PolicyError
from trajtree.models.hub import where_to_load
from trajtree.models.weights import fingerprint
from trajtree.trees.embeddings import SentenceEmbeddings, whole_name
from trajtree.trees.merge import MergeOptions, MergeSettings

_LISTED = "modules.json"
"""What every sentence-transformers model on the hub has."""


def merge_options(how: MergeSettings) -> MergeOptions:
    """The arguments of `Merger` that the settings stand for; with `semantic`, the model is loaded.

    Raises:
        TrajtreeError: sentence-transformers is not installed, or the model cannot be loaded.
    """
    if how.merge == "exact":
        return {}
    embed = SentenceEmbeddings(how.model, find=partial(where_to_load, file=_LISTED))
    return {"embed": embed, "similarity": how.similarity}


def key_of_merging(how: MergeSettings, *, checked: bool) -> dict[str, str | float]:
    """What identifies semantic merging: settings, and the model's weights where they are here; {} for exact merging.

    Raises:
        PolicyError: with `checked`, the package or the model is not there.
    """
    if how.merge == "exact":
        return {}
    model = whole_name(how.model)
    if checked:
        if find_spec("sentence_transformers") is None:
            raise PolicyError("trees.merge: semantic needs sentence-transformers: pip install 'trajtree[semantic]'")
        where_to_load(model, file=_LISTED)
    return {"merge": how.merge, "similarity": how.similarity, "weights": fingerprint(model)}


__all__ = ["key_of_merging", "merge_options"]
