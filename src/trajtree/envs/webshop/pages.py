"""Texts of the pages: as in the original's text mode, all visible texts joined by [SEP], or the same in fewer words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from trajtree.envs.webshop.products import Product
from trajtree.envs.webshop.state import SUB_PAGES, Catalogue, Page, State, shown

SEPARATOR = " [SEP] "

TITLE_WORDS = 8
"""Words of a product's title on short pages."""

_BLANK = " \n\t\f\r"
_IN_JSON = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "'": "\\u0027"})


def page_text(shop: Catalogue, state: State, instruction: str, score: float) -> str:
    """The observation: the text of the page in `state`; `score` is shown on the last page."""
    match state.page:
        case Page.SEARCH:
            texts: Iterable[str] = ("WebShop", "Instruction:", instruction, "Search")
        case Page.RESULTS:
            texts = _results(shop, state, instruction)
        case Page.DONE:
            texts = _done(shop, state, score)
        case _:
            texts = _item(shop, state, instruction)
    return SEPARATOR.join(text.strip() for text in texts if _is_seen(text))


def short_page_text(shop: Catalogue, state: State, instruction: str, score: float) -> str:
    """The page in about a third of the tokens: names, prices and options.

    The instruction stands on the search page alone, titles end after TITLE_WORDS words, and a product's options are
    listed until one is chosen; then those that are chosen are. Of the buttons that the agent's instruction names, each
    page has the one that goes on from it. Whatever can be clicked on the full page can be clicked here.
    """
    match state.page:
        case Page.SEARCH:
            lines: Iterable[str] = (f"Instruction: {instruction}", "Search")
        case Page.RESULTS:
            lines = _short_results(shop, state)
        case Page.DONE:
            lines = (f"Your score (min 0.0, max 1.0): {score}",)
        case _:
            lines = _short_item(shop, state)
    return "\n".join(lines)


def _short_results(shop: Catalogue, state: State) -> Iterator[str]:
    for index in shown(shop, state):
        product = shop.product(index)
        yield f"{product.asin} {_short_title(product)}, {product.price_tag}"
    yield f"Page {state.number} (Total results: {len(shop.search(state.query))})"
    yield "Next >"


def _short_item(shop: Catalogue, state: State) -> Iterator[str]:
    assert state.product is not None
    product = shop.product(state.product)
    yield f"{_short_title(product)}, {product.price_tag}"
    if state.page is Page.SUB:
        yield from filter(None, (" ".join(text.split()) for text in _sub_page(product, state.sub)))
        yield "< Prev"
        return
    # Options stand as they are clicked, white space included.
    if state.options:
        yield "; ".join(f"{name}: {value}" for name, value in state.options)
    else:
        yield from (f"{name}: {'; '.join(values)}" for name, values in product.options.items())
    yield "Buy Now"


def _short_title(product: Product) -> str:
    return " ".join(product.title.split()[:TITLE_WORDS])


def _is_seen(text: str) -> bool:
    # The original's HTML parser turns blank text containing a newline into a single newline, and those are dropped.
    return text != "" and not ("\n" in text and not text.strip(_BLANK))


def _results(shop: Catalogue, state: State, instruction: str) -> Iterator[str]:
    yield from ("Instruction:", instruction, "Back to Search")
    yield f"Page {state.number} (Total results: {len(shop.search(state.query))})"
    if state.number > 1:
        yield "< Prev"
    yield "Next >"
    for index in shown(shop, state):
        product = shop.product(index)
        yield from (product.asin, product.title, product.price_tag)


def _item(shop: Catalogue, state: State, instruction: str) -> Iterator[str]:
    assert state.product is not None
    product = shop.product(state.product)
    yield from ("Instruction:", instruction, "Back to Search", "< Prev")
    if state.page is Page.SUB:
        yield from _sub_page(product, state.sub)
        return
    for name, values in product.options.items():
        yield name
        yield from values
    yield from (product.title, f"Price: {product.price_tag}", "Rating: N.A.")
    yield from (name for name in SUB_PAGES if shop.show_attributes or name != "Attributes")
    yield "Buy Now"


def _sub_page(product: Product, name: str) -> Iterator[str]:
    """Reviews are not in the product files, and the original shows none."""
    if name == "Description":
        yield product.description
    elif name == "Features":
        yield from (f" {bullet}" for bullet in product.bullets)
    elif name == "Attributes":
        yield from (f" {attribute}" for attribute in product.attributes)
        yield from (product.category, product.query, product.product_category)


def _done(shop: Catalogue, state: State, score: float) -> Iterator[str]:
    assert state.product is not None
    options = json.dumps(dict(state.options), sort_keys=True).translate(_IN_JSON)
    yield from ("Thank you for shopping with us!", "Your code:", "None", "(Paste it in your MTurk interface.)")
    yield from ("Purchased", "asin", shop.product(state.product).asin, "options", options, "attrs", "None")
    yield from ("category", "None", "query", "None", "product category", "None", "Target", "asin", "options", "attrs")
    yield from ("price upper", "instuction text", "category", "product category", "query", "Goal", "None", "Reward")
    yield from ("Your score (min 0.0, max 1.0)", str(score), "Reward Details", "None")


__all__ = ["SEPARATOR", "TITLE_WORDS", "page_text", "short_page_text"]
