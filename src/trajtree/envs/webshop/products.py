"""Products, made from the records of WebShop's product files, which are checked in the process."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from random import Random

from trajtree.errors import DataError
from trajtree.store.lines import JsonObject

NO_PRICE = 100.0
"""Price in dollars of a product that states none."""

LONGEST_ASIN = 10
"""In characters; records with longer ids are not products and are left out."""


@dataclass(frozen=True, slots=True)
class Product:
    """One product. `price` is what it costs in dollars, `price_tag` what its page shows (possibly a range).

    `options` maps names to values, both lower case, in the page's order; `attributes` are the hidden tags that the
    reward compares.
    """

    asin: str
    title: str
    description: str
    bullets: tuple[str, ...]
    price: float
    price_tag: str
    options: dict[str, tuple[str, ...]]
    category: str
    query: str
    product_category: str
    attributes: tuple[str, ...]

    def to_row(self) -> JsonObject:
        """The product as a JSON object."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: JsonObject) -> Product:
        """The product written by `to_row`."""
        options = {name: tuple(values) for name, values in row["options"].items()}
        return cls(
            **{**row, "bullets": tuple(row["bullets"]), "attributes": tuple(row["attributes"]), "options": options}
        )

    def document(self) -> str:
        """The text that the search indexes: title, description, first bullet and options, lower case."""
        options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in self.options.items())
        return " ".join([self.title, self.description, self.bullets[0], options]).lower()


def product_of(record: object, attributes: object, prices: Random, where: str) -> Product:
    """The product of a record of `items_shuffle*.json` and its entry in `items_ins_v2*.json`.

    A price that is a range is drawn from `prices`, as WebShop draws it.

    Raises:
        DataError: a field is missing or invalid; the message begins with `where`.
    """
    if not isinstance(record, dict):
        raise DataError(f"{where}: must be an object, got {type(record).__name__}")
    bullets = record.get("small_description") or [""]
    pricing = _pricing(record.get("pricing"), where)
    low_high = pricing or (NO_PRICE,)
    return Product(
        asin=_text(record, "asin", where),
        title=_text(record, "name", where),
        description=_text(record, "full_description", where, empty=True),
        bullets=tuple(_texts(bullets if isinstance(bullets, list) else [bullets], "small_description", where)),
        price=low_high[0] if len(low_high) == 1 else prices.uniform(*low_high),
        price_tag=" to ".join(f"${price}" for price in low_high),
        options=_options(record.get("customization_options"), where),
        category=_text(record, "category", where),
        query=_text(record, "query", where).lower().strip(),
        product_category=_text(record, "product_category", where),
        attributes=_attributes(attributes, where),
    )


def is_product(asin: str) -> bool:
    """Whether a record with this id is one of the shop's; others are left out, as WebShop does."""
    return asin != "nan" and len(asin) <= LONGEST_ASIN


def _text(record: JsonObject, field: str, where: str, *, empty: bool = False) -> str:
    value = record.get(field)
    if value is None and empty:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{where}: {field} must be text, got {value!r:.60}")
    return value


def _texts(value: object, field: str, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise DataError(f"{where}: {field} must be a list of texts, got {value!r:.60}")
    return value


def _pricing(value: object, where: str) -> tuple[float, ...]:
    """At most two prices; none if the field is empty."""
    if not value:
        return ()
    if not isinstance(value, str):
        raise DataError(f"{where}: pricing must be text, got {value!r:.60}")
    try:
        prices = tuple(float(Decimal(re.sub(r"[^\d.]", "", part))) for part in value.split("$")[1:])
    except InvalidOperation as error:
        raise DataError(f"{where}: pricing is {value!r:.60}, which contains no price") from error
    if not prices:
        raise DataError(f"{where}: pricing is {value!r:.60}, which contains no price in dollars")
    return prices[:2]


def _options(value: object, where: str) -> dict[str, tuple[str, ...]]:
    if not value:
        return {}
    if not isinstance(value, dict):
        raise DataError(f"{where}: customization_options must be an object, got {value!r:.60}")
    options = {}
    for name, contents in value.items():
        if contents is None:
            continue
        if not isinstance(contents, list) or not all(
            isinstance(one, dict) and isinstance(one.get("value"), str) for one in contents
        ):
            raise DataError(f"{where}: customization_options.{name} must be a list of objects with a text 'value'")
        options[name.lower()] = tuple(one["value"].strip().replace("/", " | ").lower() for one in contents)
    return options


def _attributes(value: object, where: str) -> tuple[str, ...]:
    """Tags of the product; products without any get one that matches nothing."""
    if value is None:
        return ("DUMMY_ATTR",)
    if not isinstance(value, dict):
        raise DataError(f"{where}: the attributes entry must be an object, got {type(value).__name__}")
    return tuple(_texts(value.get("attributes", ["DUMMY_ATTR"]), "attributes", where))


__all__ = ["NO_PRICE", "Product", "is_product", "product_of"]
