"""The model card beside saved weights: how, and from what, they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from trajtree.models.weights import ADAPTER_CONFIG
from trajtree.store.files import write_atomically

_RENDERED = (
    "Trained with {} as text, because the chat template has no place for them, in the form of Qwen2.5's template: "
    "`<tools>`, `<tool_call>` and `<tool_response>`, and thoughts within `<think>`.\n\n"
)


def write_card(
    folder: Path,
    *,
    base: str,
    settings: Mapping[str, object],
    metrics: Mapping[str, float],
    beneath: Sequence[str] = (),
) -> None:
    """Write README.md in a model's folder, with the metadata that hubs read.

    Args:
        folder: where the weights are.
        base: the model that was tuned.
        settings: method, options, data and its hash, versions.
        metrics: metrics of the last training step.
        beneath: adapters that must be merged into the base before applying the one in this folder.
    """
    library = "peft" if (folder / ADAPTER_CONFIG).exists() else "transformers"
    described = {
        "base_model": base,
        "library_name": library,
        "pipeline_tag": "text-generation",
        "tags": ["trajtree", str(settings["method"])],
    }
    head = yaml.safe_dump(described, sort_keys=False)
    rows = "".join(f"| {name} | {value} |\n" for name, value in settings.items())
    figures = "".join(f"| {name} | {value:.4g} |\n" for name, value in metrics.items())
    first = f"On top of {base} **with these adapters merged in first**: {', '.join(beneath)}.\n\n" if beneath else ""
    written = settings.get("render")
    first += _RENDERED.format(" and ".join(written)) if isinstance(written, list) and written else ""
    write_atomically(
        folder / "README.md",
        f"---\n{head}---\n\n# {base}, tuned on trajectory trees\n\n{first}| setting | value |\n|---|---|\n{rows}\n"
        f"## Last step of training\n\n| figure | value |\n|---|---|\n{figures}\n"
        "Not evaluated: the figures above are for the training data. Measure it on tasks that it was not trained on.\n",
    )


__all__ = ["write_card"]
