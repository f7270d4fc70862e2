"""Many connections to a model server at once.

A pool of connections looks through all of them at every request, so a thousand episodes on one pool spend most of the
processor's time there. Here they are spread over pools of a few each.
"""

from __future__ import annotations

from urllib.request import getproxies

import httpx2
import openai

_IN_A_POOL = 32
"""Requests that are under way in a pool before another pool is opened."""


def client() -> httpx2.AsyncClient:
    """A client without a limit on connections: how many requests there are at once is the caller's choice.

    The proxies of the environment variables are still used, with one pool each.
    """
    # Passing a transport would switch the proxies off; one mounted for all addresses comes after theirs.
    ours = {} if "all" in getproxies() else {"all://": _Spread()}
    return openai.DefaultAsyncHttpxClient(limits=httpx2.Limits(), mounts=ours)


class _Spread(httpx2.AsyncBaseTransport):
    """A transport of several pools."""

    def __init__(self) -> None:
        self._certificates = httpx2.create_ssl_context()
        self._pools: list[httpx2.AsyncHTTPTransport] = []
        self._under_way: list[int] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request on the first pool that has room."""
        number = next((n for n, busy in enumerate(self._under_way) if busy < _IN_A_POOL), len(self._pools))
        if number == len(self._pools):
            self._pools.append(httpx2.AsyncHTTPTransport(verify=self._certificates, limits=httpx2.Limits()))
            self._under_way.append(0)
        self._under_way[number] += 1
        try:
            return await self._pools[number].handle_async_request(request)
        finally:
            self._under_way[number] -= 1

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools:
            await pool.aclose()


__all__ = ["client"]
