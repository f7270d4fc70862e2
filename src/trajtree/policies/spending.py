"""What a command asks of model servers, in tokens and in money, and the limit at which it stops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from trajtree.errors import LimitError

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens, of prompts and of replies."""

    prompt: float = 0.0
    reply: float = 0.0


@dataclass(slots=True)
class Charge:
    """Tokens of one request: what it may come to while it is under way, then what the server counted."""

    prompt: int
    reply: int


@dataclass(slots=True)
class Spending:
    """All requests of one command.

    A request that is under way counts as what it may come to, so that many at once do not pass the limit together. How
    many tokens a prompt has is only estimated before the server says so, and by that much a limit may be passed.

    Attributes:
        limit_tokens: most tokens, of prompts and replies together.
        limit_cost: most dollars.
        price: what a token costs; prompt tokens that a server had in its cache count as any other.
        requests, prompt, reply: requests that were answered, and their tokens.
    """

    limit_tokens: int | None = None
    limit_cost: float | None = None
    price: Price = Price()
    requests: int = 0
    prompt: int = 0
    reply: int = 0
    _open: list[Charge] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Tokens of all answered requests."""
        return self.prompt + self.reply

    @property
    def cost(self) -> float:
        """Their price in dollars."""
        return self.cost_of(self.prompt, self.reply)

    def cost_of(self, prompt: int, reply: int) -> float:
        """Dollars that so many tokens of prompts and replies cost."""
        return (prompt * self.price.prompt + reply * self.price.reply) / _MILLION

    @contextmanager
    def request(self, prompt: int, reply: int) -> Iterator[Charge]:
        """One request, which may come to so many tokens; the caller corrects the charge once the server has counted.

        Raises:
            LimitError: a limit would be passed, so the request must not be made.
        """
        charge = Charge(prompt, reply)
        under_way = [*self._open, charge]
        prompts = self.prompt + sum(c.prompt for c in under_way)
        replies = self.reply + sum(c.reply for c in under_way)
        if self.limit_tokens is not None and prompts + replies > self.limit_tokens:
            self._stop(f"{self.limit_tokens:,} tokens (--limit-tokens)")
        if self.limit_cost is not None and self.cost_of(prompts, replies) > self.limit_cost:
            self._stop(f"${self.limit_cost:,.2f} (--limit-cost)")
        self._open.append(charge)
        try:
            yield charge
        finally:
            # By identity: two requests may be charged the same.
            self._open = [c for c in self._open if c is not charge]
            self.requests += 1
            self.prompt += charge.prompt
            self.reply += charge.reply

    def __str__(self) -> str:
        """For people: `12 requests, 3,400 tokens (3,000 read, 400 said), $0.02`."""
        cost = f", ${self.cost:,.2f}" if self.price != Price() else ""
        return f"{self.requests:,} requests, {self.tokens:,} tokens ({self.prompt:,} read, {self.reply:,} said){cost}"

    def _stop(self, limit: str) -> None:
        raise LimitError(
            f"stopped before the limit of {limit} was passed, after {self}; every finished episode is stored: run the "
            "same command again to go on, which counts anew, or raise the limit"
        )


__all__ = ["Charge", "Price", "Spending"]
