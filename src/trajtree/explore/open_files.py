"""The limit of open files: every episode on a model server has a connection."""

from __future__ import annotations

import sys

from trajtree.errors import RunError

if sys.platform != "win32":
    import resource

_OTHERS = 128
"""Files that are open beside the connections: the store, pipes to worker processes, libraries."""


def make_room_for(episodes: int) -> None:
    """Raise the limit of open files, for this process and those it starts, to what so many episodes at once need.

    Raises:
        RunError: the system does not allow that many.
    """
    if sys.platform == "win32":
        return
    needed = episodes + _OTHERS
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY or allowed >= needed:
        return
    if most != resource.RLIM_INFINITY and most < needed:
        raise RunError(
            f"{episodes:,} episodes at once (batch) need {needed:,} open files, and the system allows {most:,}: raise "
            f"its limit (ulimit -n {needed}), or have at most {max(1, most - _OTHERS):,} at once"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))


__all__ = ["make_room_for"]
