"""A made-up set of products in WebShop's packed layout; every text is invented here."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

KITCHEN = "Home & Kitchen › Kitchen & Dining › Mugs"
LAMPS = "Home & Kitchen › Lighting › Desk Lamps"
SHIRTS = "Clothing › Men › Shirts"


def _product(number: int, name: str, category: str, query: str, where: str, **more: Any) -> dict[str, Any]:
    row = {
        "asin": f"B0TEST{number:04d}",
        "name": name,
        "full_description": f"A plain text about the {query}.",
        "small_description": [f"Good {query} ", "Easy to clean "],
        "pricing": "$12.5",
        "customization_options": "",
        "category": category,
        "query": query,
        "product_category": where,
        "images": ["none.jpg"],
    }
    return {**row, **more}


def _values(*values: str) -> list[dict[str, Any]]:
    return [{"value": value, "image": None} for value in values]


def content() -> dict[str, Any]:
    """Products, attributes and human instructions, as the packed file holds them."""
    products = [
        _product(
            1,
            "Fernwood Mug with Lid <Deluxe> & Spoon",
            "garden",
            "Mugs ",
            KITCHEN,
            customization_options={
                "Color": _values("Deep Red", "teal/white", "2005grey"),
                "Size": _values(" Small", "Large"),
                "Style": None,
            },
            pricing="$9.99 - $24.50",
            small_description=["Keeps tea hot ", "", " \n", 'Holds 12" spoons & more '],
        ),
        _product(2, "Fernwood Mug Tall Enamel", "garden", "mugs", KITCHEN, full_description="", pricing=""),
        _product(
            3,
            "Office Desk Lamp Brass",
            "electronics",
            "desk lamps",
            LAMPS,
            customization_options={"Color": _values("brass", "black"), "Finish": _values("matte", "black")},
            small_description="One text that is no list",
            pricing="$1,250.00",
        ),
        _product(
            4,
            "Linen Shirt Long Sleeve",
            "fashion",
            "shirts",
            SHIRTS,
            customization_options={"Size": _values("X-Large", "Small"), "Fit": _values("features", "slim")},
        ),
        _product(5, "Linen Shirt Short Sleeve 's Men's", "fashion", "shirts", SHIRTS),
        *(
            _product(
                number, f"Enamel Mug Number {number}", "garden", "mugs", KITCHEN, pricing=f"${number}.0 - ${number}5.5"
            )
            for number in range(6, 18)
        ),
        _product(1, "The same id again", "garden", "mugs", KITCHEN),
        {**_product(99, "Too long an id", "garden", "mugs", KITCHEN), "asin": "B0TESTTOOLONG"},
    ]
    attrs: dict[str, Any] = {row["asin"]: {"attributes": ["easy clean"]} for row in products[2:]}
    attrs["B0TEST0001"] = {
        "attributes": ["dishwasher safe", "lead free"],
        "instruction": "Find me dishwasher safe, lead free mugs with lid",
        "instruction_attributes": ["dishwasher safe", "lead free"],
    }
    attrs["B0TEST0003"] |= {"instruction": "Find me brass desk lamps", "instruction_attributes": ["easy clean"]}
    attrs["B0TEST0004"] = {
        "attributes": ["machine wash", "long sleeve"],
        "instruction": "Find me long sleeve shirts",
        "instruction_attributes": ["long sleeve", "machine wash"],
    }
    human = {
        "B0TEST0004": [
            {
                "instruction": "i need a linen shirt in x-large.",
                "instruction_attributes": ["long sleeve"],
                "instruction_options": ["x-large"],
            },
            {"instruction": "no attributes", "instruction_attributes": [], "instruction_options": []},
        ],
        "B0TEST0007": [
            {
                "instruction": "i want an enamel mug that is easy to clean",
                "instruction_attributes": ["easy clean"],
                "instruction_options": [],
            }
        ],
    }
    return {"products": products, "attrs": attrs, "human": human}


def write_packed(folder: Path) -> Path:
    """The packed file, written to the folder."""
    path = folder / "products_made_up.json.xz"
    path.write_bytes(lzma.compress(json.dumps(content()).encode()))
    return path


def write_original(folder: Path) -> Path:
    """The three files of the original layout; the first one's path."""
    made = content()
    names = {"products": "items_shuffle_1000", "attrs": "items_ins_v2_1000", "human": "items_human_ins"}
    for part, name in names.items():
        (folder / f"{name}.json").write_text(json.dumps(made[part], indent=1), "utf-8")
    return folder / "items_shuffle_1000.json"
