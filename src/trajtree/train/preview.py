"""An example as the model will read it, in colour: what is trained, what is only read, where a pair's sides part."""

from __future__ import annotations

from rich.text import Text

from trajtree.models.transcript import ChatFormat
from trajtree.train.examples import Example, PairExample
from trajtree.trajectory import Tokens

TRAINED = {"chosen": "bold green", "rejected": "bold red", "trained": "bold green"}
READ = "dim"


def preview(example: Example, chat: ChatFormat) -> Text:
    """The sides one below the other; what a pair shares is shown once."""
    text = Text()
    if example.name:
        text.append(f"{example.name}, weight {example.weight:g}\n", style="underline")
    if not isinstance(example, PairExample):
        return text.append_text(_side(example.sides[0], 0, "trained", chat))
    start = example.chosen.agent[0][0]
    text.append(chat.decode(example.chosen.ids[:start]), style=READ)
    for name, side in (("chosen", example.chosen), ("rejected", example.rejected)):
        text.append(f"\n--- {name}, from the fork at token {start} ---\n", style="yellow")
        text.append_text(_side(side, start, name, chat))
    return text


def _side(side: Tokens, start: int, name: str, chat: ChatFormat) -> Text:
    text, at = Text(), start
    for begin, end in side.agent:
        text.append(chat.decode(side.ids[at:begin]), style=READ)
        text.append(chat.decode(side.ids[begin:end]), style=TRAINED[name])
        at = end
    return text.append(chat.decode(side.ids[at:]), style=READ)


__all__ = ["preview"]
