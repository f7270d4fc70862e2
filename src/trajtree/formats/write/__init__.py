"""Pairs and runs for other people's trainers.

A target is a function from a pair or a run to one row of JSON. What the target cannot hold (a turn, a tool call, a
thought, a tool's definition, a flag that says what is trained) is a DataError that says why and what to do instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trajtree.formats.pairs import PairMessages
from trajtree.formats.write.atif import atif_run
from trajtree.formats.write.openai import openai_pair, openai_run
from trajtree.formats.write.sharegpt import llamafactory_pair, sharegpt_run
from trajtree.formats.write.swift import swift_pair, swift_run
from trajtree.formats.write.trl import axolotl_pair, axolotl_run, trl_completion, trl_pair, trl_run
from trajtree.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class PairTarget:
    """How a pair is written for one trainer, and a line about it."""

    row: Callable[[PairMessages], dict[str, Any]]
    about: str


@dataclass(frozen=True, slots=True)
class RunTarget:
    """How a run is written for one trainer, and a line about it."""

    row: Callable[[Trajectory], dict[str, Any]]
    about: str


PAIR_TARGETS = {
    "trl": PairTarget(trl_pair, "TRL: prompt, chosen, rejected, tools; several turns a side"),
    "ms-swift": PairTarget(swift_pair, "ms-swift: messages, rejected_messages with loss flags; several turns a side"),
    "llamafactory": PairTarget(llamafactory_pair, "LLaMA-Factory: ShareGPT preference; one reply a side"),
    "axolotl": PairTarget(axolotl_pair, "axolotl: chat_template.default; one reply a side, text only"),
    "openai": PairTarget(openai_pair, "OpenAI: preference fine-tuning; one reply a side, no thoughts"),
}

RUN_TARGETS = {
    "trl": RunTarget(trl_run, "TRL: messages, tools; no context turns"),
    "trl-completion": RunTarget(trl_completion, "TRL: prompt, completion, tools; context turns go into the prompt"),
    "ms-swift": RunTarget(swift_run, "ms-swift: messages with loss flags, tools"),
    "sharegpt": RunTarget(sharegpt_run, "ShareGPT: conversations, tools; no context turns"),
    "llamafactory": RunTarget(sharegpt_run, "LLaMA-Factory: the same as sharegpt"),
    "axolotl": RunTarget(axolotl_run, "axolotl: messages with train flags, tools"),
    "openai": RunTarget(openai_run, "OpenAI: messages with weights, tools; no thoughts"),
    "atif": RunTarget(atif_run, "ATIF v1.8 documents, with score and task"),
}

__all__ = ["PAIR_TARGETS", "RUN_TARGETS", "PairTarget", "RunTarget"]
