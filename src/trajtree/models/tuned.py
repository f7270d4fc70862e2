"""A tuned model by the name of its folder: what `trajtree train` wrote, or a folder with a peft adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trajtree.errors import PolicyError
from trajtree.models.weights import ADAPTER_CONFIG, ModelRef

RECORD, MODEL = "train.json", "model"
"""What `trajtree train` writes into its folder: how the model was made, and the model or its adapter."""
_WHOLE = "config.json"


def model_named(name: str) -> ModelRef:
    """The model that a name means: an adapter's folder stands for its base with the adapter.

    Args:
        name: a hub id, a folder with a model, the folder of a training (`trajtree train --out`), or an adapter's.

    Raises:
        PolicyError: the folder of a training holds no finished model, or an adapter does not say what it belongs to.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir() or (folder / _WHOLE).exists():
        return ModelRef(name)
    if (folder / RECORD).exists():
        if not _fields(folder / RECORD).get("done"):
            raise PolicyError(f"{folder}: its training is not finished; run trajtree train again to finish it")
        folder = folder / MODEL
        if (folder / _WHOLE).exists():
            return ModelRef(str(folder))
    if not (folder / ADAPTER_CONFIG).exists():
        return ModelRef(name)
    record = _fields(folder.parent / RECORD) if (folder.parent / RECORD).exists() else {}
    base = record.get("model") or _fields(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise PolicyError(f"{folder / ADAPTER_CONFIG}: base_model_name_or_path does not name the model it belongs to")
    beneath = record.get("adapters", ())
    return ModelRef(base, (*map(str, beneath), str(folder)))


def _fields(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyError(f"{file}: cannot be read ({error})") from None
    if not isinstance(found, dict):
        raise PolicyError(f"{file}: must hold an object, holds {type(found).__name__}")
    return found


__all__ = ["MODEL", "RECORD", "model_named"]
