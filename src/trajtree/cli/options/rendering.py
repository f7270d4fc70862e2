"""The options --render-calls and --render-thoughts, and what is said of what they wrote as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from trajtree.formats.write.rendering import TAGS, Part

RenderCallsOption = Annotated[
    bool,
    typer.Option("--render-calls", help="Write tools, tool calls and results as text, within tags as Qwen2.5's."),
]
RenderThoughtsOption = Annotated[
    bool, typer.Option("--render-thoughts", help="Write thoughts as text before the reply, within think tags.")
]


def parts_of(render_calls: bool, render_thoughts: bool) -> tuple[Part, ...]:
    """What --render-calls and --render-thoughts ask to write as text."""
    asked: dict[Part, bool] = {"calls": render_calls, "thoughts": render_thoughts}
    return tuple(part for part, given in asked.items() if given)


def as_text_fact(parts: Sequence[Part]) -> Mapping[str, str]:
    """What a card says about parts that are written as text."""
    return {"written as text": ", ".join(f"{part} ({TAGS[part]})" for part in parts)} if parts else {}


def said_as_text(parts: Sequence[Part]) -> str:
    """The same for the end of what a command says."""
    return f"; written as text: {', '.join(parts)}" if parts else ""


__all__ = ["RenderCallsOption", "RenderThoughtsOption", "as_text_fact", "parts_of", "said_as_text"]
