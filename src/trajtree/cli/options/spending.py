"""What may be spent on model servers, and pairs of numbers as options take them."""

from __future__ import annotations

from math import isfinite
from typing import Annotated

import typer

from trajtree.errors import RunError
from trajtree.policies.spending import Price, Spending

TokensOption = Annotated[
    int | None, typer.Option("--limit-tokens", help="Stop before servers read and write more tokens.", min=1)
]
CostOption = Annotated[
    float | None, typer.Option("--limit-cost", help="Stop before it costs more than this many dollars.", min=0)
]
PriceOption = Annotated[
    str | None, typer.Option("--price", help="IN,OUT: dollars per million tokens read and written.")
]


def spending_of(limit_tokens: int | None, limit_cost: float | None, price: str | None) -> Spending:
    """The limit of a command.

    Raises:
        RunError: a price is not two numbers, or --limit-cost comes without a price.
    """
    if price is None:
        if limit_cost is not None:
            raise RunError("--limit-cost: add --price IN,OUT, the dollars per million tokens, for example 0.15,0.60")
        return Spending(limit_tokens)
    prompt, reply = two_numbers("--price", price)
    if min(prompt, reply) < 0:
        raise RunError(f"--price {price}: a price is not negative")
    return Spending(limit_tokens, limit_cost, Price(prompt, reply))


def two_numbers(option: str, said: str) -> tuple[float, float]:
    """The numbers that an option was given as `X,Y`; raises RunError if they are not that."""
    try:
        one, other = map(float, said.split(","))
        if not (isfinite(one) and isfinite(other)):
            raise ValueError
    except ValueError:
        raise RunError(f"{option} {said}: write two finite numbers with a comma between them") from None
    return one, other


__all__ = ["CostOption", "PriceOption", "TokensOption", "spending_of", "two_numbers"]
