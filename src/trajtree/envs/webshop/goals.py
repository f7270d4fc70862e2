"""Goals: what a shopper should buy, generated from the product files by WebShop's own rules.

There are two kinds. `synthetic`: a product's instruction, once for every combination of its options. `human`:
instructions written by people. Both state a highest price, drawn from the next multiples of ten dollars above the
product's price.

The original draws from the global generator before it is seeded; here `Random(PRICE_SEED)` is used: first for the
price of every product with a price range, in file order, then for the highest prices, product by product. The goals are
then shuffled with seed 233, as in the original; a goal's number is its place afterwards, WebShop's session number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import product as combinations
from random import Random
from typing import Literal

from trajtree.envs.webshop.products import Product
from trajtree.errors import DataError
from trajtree.store.lines import JsonObject

Kind = Literal["synthetic", "human"]

PRICE_SEED = 233
SHUFFLE_SEED = 233
UNLIMITED = 1_000_000.0
"""In dollars; the highest price of a goal that states none."""

_STEPS = [10.0 * step for step in range(1, 100)]


@dataclass(frozen=True, slots=True)
class Goal:
    """A task of the shop: `product` is the index of the product that it was generated from.

    `options` are (name, value) pairs; a name is None if only the value is known (human goals).
    """

    product: int
    instruction: str
    attributes: tuple[str, ...]
    price_upper: float
    options: tuple[tuple[str | None, str], ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A goal's data from the files, before its highest price is drawn; a synthetic one has no options yet."""

    product: int
    price: float
    instruction: str
    attributes: tuple[str, ...]
    options: tuple[str, ...] = ()

    def to_row(self) -> JsonObject:
        """The draft as a JSON object."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: JsonObject) -> Draft:
        """The draft written by `to_row`."""
        return cls(**{**row, "attributes": tuple(row["attributes"]), "options": tuple(row["options"])})


def synthetic_draft(index: int, price: float, entry: object, where: str) -> Draft | None:
    """The goal in a product's entry of `items_ins_v2*.json`, if it has one.

    Raises:
        DataError: it has an instruction without attributes.
    """
    if not isinstance(entry, dict) or entry.get("instruction") is None:
        return None
    return Draft(index, price, *_asked(entry, where))


def human_drafts(index: int, price: float, entries: object, where: str) -> Iterator[Draft]:
    """The goals in a product's entry of `items_human_ins.json`; instructions without attributes are left out.

    Raises:
        DataError: a field is missing or of the wrong type.
    """
    if not isinstance(entries, list):
        raise DataError(f"{where}: must be a list of instructions, got {type(entries).__name__}")
    for number, entry in enumerate(entries):
        here = f"{where}, instruction {number}"
        if not isinstance(entry, dict):
            raise DataError(f"{here}: must be an object, got {type(entry).__name__}")
        if entry.get("instruction_attributes") == []:
            continue
        options = entry.get("instruction_options")
        if not isinstance(options, list) or not all(isinstance(one, str) for one in options):
            raise DataError(f"{here}: instruction_options must be a list of texts, got {options!r:.60}")
        text, attributes = _asked(entry, here)
        yield Draft(index, price, text.strip("."), attributes, tuple(options))


def _asked(entry: JsonObject, where: str) -> tuple[str, tuple[str, ...]]:
    text, attributes = entry.get("instruction"), entry.get("instruction_attributes")
    if not isinstance(text, str):
        raise DataError(f"{where}: instruction must be text, got {text!r:.60}")
    if not isinstance(attributes, list) or not attributes or not all(isinstance(one, str) for one in attributes):
        raise DataError(f"{where}: instruction_attributes must be a list of texts, got {attributes!r:.60}")
    return text, tuple(attributes)


def goals_of(
    drafts: Iterable[Draft], kind: Kind, prices: Random, product_at: Callable[[int], Product]
) -> tuple[Goal, ...]:
    """All goals of one kind, shuffled; `prices` is the generator after all product prices have been drawn."""
    goals: list[Goal] = []
    for draft in drafts:
        upper = _upper(draft.price, prices)
        ending = "" if upper == UNLIMITED else f", and price lower than {upper:.2f} dollars"
        if kind == "human":
            chosen = tuple((None, option) for option in draft.options)
            goals.append(Goal(draft.product, draft.instruction + ending, draft.attributes, upper, chosen))
            continue
        options = product_at(draft.product).options
        names = sorted(options)
        for values in combinations(*(options[name] for name in names)):
            pairs = tuple(zip(names, values, strict=True))
            wish = " with " + ", and ".join(f"{name}: {value}" for name, value in pairs) if pairs else ""
            goals.append(Goal(draft.product, draft.instruction + wish + ending, draft.attributes, upper, pairs))
    Random(SHUFFLE_SEED).shuffle(goals)
    return tuple(goals)


def _upper(price: float, prices: Random) -> float:
    above = [step for step in _STEPS if step > price][:4]
    return max(prices.sample(above, 2)) if len(above) >= 2 else UNLIMITED


__all__ = [
    "PRICE_SEED",
    "SHUFFLE_SEED",
    "UNLIMITED",
    "Draft",
    "Goal",
    "Kind",
    "goals_of",
    "human_drafts",
    "synthetic_draft",
]
