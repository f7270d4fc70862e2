"""Names of models on servers, `openai:MODEL@URL`, and where the key to a server comes from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from trajtree.errors import PolicyError

SCHEME = "openai"
KEY, OPENAI_KEY = "TRAJTREE_API_KEY", "OPENAI_API_KEY"
"""Environment variables with a server's key; the second is for OpenAI's own servers alone."""

_HOW = f"write {SCHEME}:MODEL@URL, for example {SCHEME}:Qwen/Qwen3-8B@http://localhost:8000/v1"


@dataclass(frozen=True, slots=True)
class ServerName:
    """A model and the addresses of the servers that have it.

    Attributes:
        model: what requests call it.
        addresses: where the API begins, for example `http://localhost:8000/v1`; any number of equal servers.
    """

    model: str
    addresses: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name without addresses, under which results are kept: a server may move."""
        return f"{SCHEME}:{self.model}"


def parse_name(text: str) -> ServerName:
    """Read `openai:MODEL@URL` or `openai:MODEL@URL,URL`.

    Raises:
        PolicyError: a part is missing, or an address holds something secret, which would be written to files.
    """
    model, separator, addresses = text.removeprefix(f"{SCHEME}:").partition("@http")
    if not separator or not model:
        raise PolicyError(f"{_without_secrets(text)}: names no model on a server; {_HOW}")
    return ServerName(model, tuple(_address(address) for address in f"http{addresses}".split(",")))


def key_for(address: str) -> str | None:
    """The key for a server, from the environment; None where there is none, as most local servers have it."""
    openai = (urlsplit(address).hostname or "").endswith("api.openai.com")
    return os.environ.get(KEY) or (os.environ.get(OPENAI_KEY) if openai else None) or None


def _address(address: str) -> str:
    where = urlsplit(address)
    shown = _without_secrets(address)
    if where.scheme not in ("http", "https") or not where.hostname:
        raise PolicyError(f"{shown!r} is no address of a server; {_HOW}")
    if where.username or where.password or where.query or where.fragment:
        raise PolicyError(f"{shown}: an address holds no key, user or query; put the key into {KEY}")
    return address.rstrip("/") if where.path.strip("/") else f"{address.rstrip('/')}/v1"


def _without_secrets(text: str) -> str:
    """The text up to a query, without a user and a password before the host."""
    before, separator, address = text.partition("?")[0].partition("://")
    host, slash, path = address.partition("/")
    return f"{before}{separator}{host.rpartition('@')[2]}{slash}{path}"


__all__ = ["KEY", "OPENAI_KEY", "SCHEME", "ServerName", "key_for", "parse_name"]
