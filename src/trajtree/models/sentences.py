"""Semantic merging with a sentence model, which may be one of the hub."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec

from trajtree.errors import PolicyError
from trajtree.models.hub import where_to_load
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


def check_available(how: MergeSettings) -> None:
    """Raise PolicyError if the settings need a package or a model that is not there."""
    if how.merge == "exact":
        return
    if find_spec("sentence_transformers") is None:
        raise PolicyError("trees.merge: semantic needs sentence-transformers: pip install 'trajtree[semantic]'")
    where_to_load(whole_name(how.model), file=_LISTED)


__all__ = ["check_available", "merge_options"]
