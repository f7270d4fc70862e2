"""What a store of trajectories was made with, in a file beside it, so that nothing else is added to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trajtree.errors import RunError
from trajtree.store.files import write_atomically


def settings_file(store: Path) -> Path:
    """The file beside a store that says what it was made with."""
    return store.with_name(f"{store.name}.settings.json")


def claim(store: Path, settings: Mapping[str, Any], way_out: str) -> None:
    """Write down what a new store is made with, or check that an existing one was made with the same.

    Args:
        store: the store's file.
        settings: anything that JSON can hold.
        way_out: what to do when it was made with something else.

    Raises:
        RunError: it was made with other settings, or nobody knows with which.
        OSError: the file cannot be written.
    """
    file = settings_file(store)
    now: dict[str, Any] = json.loads(json.dumps(settings))
    if not file.exists():
        if store.exists() and store.stat().st_size:
            raise RunError(
                f"{store}: holds runs, but {file.name} is not beside it to say how they were made; {way_out}"
            )
        write_atomically(file, json.dumps(now, indent=1) + "\n")
        return
    try:
        then = json.loads(file.read_text())
    except ValueError as error:
        raise RunError(f"{file}: damaged ({error}); {way_out}") from None
    if changed := list(_differences("", then, now)):
        raise RunError(f"{store}: was made with other settings: {'; '.join(changed)}; {way_out}")


def _differences(name: str, then: Any, now: Any) -> list[str]:
    if isinstance(then, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*then, *now])
        below = (_differences(f"{name}.{key}".lstrip("."), then.get(key), now.get(key)) for key in keys)
        return [difference for found in below for difference in found]
    return [] if then == now else [f"{name} {json.dumps(then)} then, {json.dumps(now)} now"]


__all__ = ["claim", "settings_file"]
