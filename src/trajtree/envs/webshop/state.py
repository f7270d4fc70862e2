"""The state of a shopping episode, and what a search or a click does: pure functions from one state to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from trajtree.envs.webshop.products import Product

PER_PAGE = 10

SUB_PAGES = ("Description", "Features", "Reviews", "Attributes")

BACK, PREVIOUS, NEXT, BUY = "back to search", "< prev", "next >", "buy now"


class Page(StrEnum):
    """Kinds of pages."""

    SEARCH = "search"
    RESULTS = "results"
    ITEM = "item"
    SUB = "sub"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class State:
    """The whole state of an episode except its goal; immutable, so it serves as a snapshot.

    Attributes:
        page: kind of the page shown.
        query: words of the last search, lower case.
        number: page of the results, from 1.
        product: index of the product shown, or None.
        options: chosen (name, value) pairs, in the order of their first choice.
        sub: which of `SUB_PAGES` is shown.
    """

    page: Page = Page.SEARCH
    query: str = ""
    number: int = 1
    product: int | None = None
    options: tuple[tuple[str, str], ...] = ()
    sub: str = ""


class Catalogue(Protocol):
    """What the pages need from the shop."""

    show_attributes: bool

    def product(self, index: int) -> Product:
        """The product with this index."""

    def search(self, query: str) -> tuple[int, ...]:
        """Indices of the products found, best first."""


Target = str | int | None
"""What a clickable text refers to: an option's name, a product's index, or None for a button."""


def targets(shop: Catalogue, state: State) -> Mapping[str, Target]:
    """Clickable texts of the page, lower case, in the original's order: buttons, links, options.

    If two options have the same text, a click chooses the later one; an option named like a button takes the button's
    place in the list, but a click still means the button.
    """
    found: dict[str, Target] = {}
    if state.page is Page.SEARCH:
        return {"search": None}
    if state.page is Page.RESULTS:
        buttons = [BACK, PREVIOUS, NEXT] if state.number > 1 else [BACK, NEXT]
        found = dict.fromkeys(buttons)
        found |= {shop.product(index).asin.lower(): index for index in shown(shop, state)}
    elif state.page is Page.SUB:
        found = dict.fromkeys([BACK, PREVIOUS])
    elif state.page is Page.ITEM and state.product is not None:
        subs = [name.lower() for name in SUB_PAGES if shop.show_attributes or name != "Attributes"]
        found = dict.fromkeys([BACK, PREVIOUS, *subs, BUY])
        for name, values in shop.product(state.product).options.items():
            found |= dict.fromkeys(values, name)
    return found


def shown(shop: Catalogue, state: State) -> tuple[int, ...]:
    """Indices of the products on the current page of results."""
    return shop.search(state.query)[(state.number - 1) * PER_PAGE : state.number * PER_PAGE]


def search(query: str) -> State:
    """The first page of results; a search is possible from every page, as in the original."""
    return State(Page.RESULTS, query)


def click(shop: Catalogue, state: State, text: str) -> State:
    """The state after clicking the text; unchanged if the text is not clickable."""
    clickable = targets(shop, state)
    if text not in clickable or text == "search":
        return state
    target = clickable[text]
    if text == BUY:
        return replace(state, page=Page.DONE)
    if text == BACK:
        return State()
    if state.page is Page.RESULTS and text in (NEXT, PREVIOUS):
        return replace(state, number=state.number + (1 if text == NEXT else -1))
    if state.page is Page.SUB and text == PREVIOUS:
        return replace(state, page=Page.ITEM, sub="")
    if state.page is Page.ITEM and text == PREVIOUS:
        return State(Page.RESULTS, state.query, state.number)
    for name in SUB_PAGES:
        if text == name.lower():
            return replace(state, page=Page.SUB, sub=name)
    if isinstance(target, int):
        return replace(state, page=Page.ITEM, product=target, options=())
    if isinstance(target, str):
        return replace(state, options=tuple({**dict(state.options), target: text}.items()))
    return state


__all__ = [
    "BACK",
    "BUY",
    "NEXT",
    "PER_PAGE",
    "PREVIOUS",
    "SUB_PAGES",
    "Catalogue",
    "Page",
    "State",
    "Target",
    "click",
    "search",
    "shown",
    "targets",
]
