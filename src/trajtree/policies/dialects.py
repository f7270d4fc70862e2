"""How servers want to be asked: all speak OpenAI's chat completions, and each knows other fields besides.

A request says all of the sampling, because what it leaves out a server fills in with defaults of its own: llama.cpp's
are temperature 0.8, top_k 40, top_p 0.95 and min_p 0.05; vLLM's come from the model's `generation_config.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trajtree.trajectory import Sampling

_NEUTRAL: Mapping[str, Any] = {
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "samplers": ["temperature", "top_p"],
    "mirostat": 0,
}
"""Samplers of vLLM, SGLang and llama.cpp beside temperature and top_p, each switched off; they ignore one another's.

`samplers` is llama.cpp's, which otherwise cuts the nucleus before it applies the temperature, unlike all others: at
temperature 0.6 and top_p 0.8 that moved a fifth of SmolLM2's first tokens.
"""
_TOKENS: Mapping[str, Any] = {"return_token_ids": True, "logprobs": True, "top_logprobs": 1}
"""Asks for token ids: vLLM gives those of prompt and reply, llama.cpp one with each log-probability."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Fields that a server takes.

    Attributes:
        length: the field with the longest reply, in tokens.
        seed: whether it takes a seed.
        more: fields that every request has.
        about: which servers these are.
    """

    length: str
    seed: bool
    more: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""

    def sampled(self, sampling: Sampling, seed: int, most: int) -> dict[str, Any]:
        """How a reply of at most `most` tokens is to be drawn."""
        asked = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            self.length: most,
            **self.more,
        }
        return {**asked, "seed": seed} if self.seed else asked


DIALECTS: dict[str, Dialect] = {
    "engine with tokens": Dialect("max_tokens", True, {**_NEUTRAL, **_TOKENS}, "vLLM, SGLang and llama.cpp's server"),
    "engine": Dialect("max_tokens", True, _NEUTRAL, "the same where they give no log-probabilities"),
    "openai": Dialect("max_completion_tokens", True, {}, "OpenAI's own servers"),
    "plain": Dialect("max_tokens", False, {}, "hosts that refuse what they do not know"),
}
"""From the most telling to the plainest; a server is spoken to in the first that it accepts."""

__all__ = ["DIALECTS", "Dialect"]
