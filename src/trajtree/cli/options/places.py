"""The option --on: where episodes are played and a recipe's other stages are done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from trajtree.cluster.place import Cluster

OnOption = Annotated[
    str | None,
    typer.Option("--on", help="Play on a Ray cluster: ray, or ray://HOST:PORT; here by default.", metavar="PLACE"),
]


@contextmanager
def cluster_named(
    on: str | None, terminal: Console, *, environment: str, models: Iterable[str], needs: Mapping[str, float]
) -> Iterator[Cluster | None]:
    """The cluster that --on names, connected and checked; None without the option.

    Raises:
        RunError: it cannot be used for this; see `trajtree.cluster.connection.connected`.
    """
    if on is None:
        yield None
        return
    from trajtree.cluster.connection import connected

    def say(sentence: str) -> None:
        terminal.print(sentence, soft_wrap=True, highlight=False)

    with connected(on, environment=environment, models=models, needs=needs, say=say) as cluster:
        yield cluster


__all__ = ["OnOption", "cluster_named"]
