"""A scripted shopper that sees the goal's record: it searches, opens the product, chooses its options and buys it.

It first searches with the words of the instruction, because an agent can see those, and with the product's title only
if the first page of results does not show the product. Its actions are played, and kept if they score 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from trajtree.envs.domain import NoDemonstration
from trajtree.envs.replay import replay
from trajtree.envs.webshop.env import WebShop
from trajtree.envs.webshop.fuzzy import token_set_ratio
from trajtree.envs.webshop.goals import Goal
from trajtree.envs.webshop.products import Product
from trajtree.envs.webshop.reward import ALIKE
from trajtree.envs.webshop.shop import Shop
from trajtree.envs.webshop.state import PER_PAGE
from trajtree.trajectory import Trajectory

_PRICE = re.compile(r", and price lower than [\d.]+ dollars$")
_REQUEST = re.compile(r"^(?:find me|i am looking for|i need|i want|looking for)(?: an?| some)? ", re.IGNORECASE)


def demonstrate(env: WebShop, task: str) -> Trajectory | NoDemonstration:
    """The most imitable purchase of what the task asks for.

    Raises:
        KeyError: the task does not exist.
        DataError: no products were imported.
    """
    limit = env.max_steps(task)
    best, shortest = -1.0, 0
    for actions in plans(env.shop, env.goal(task)):
        if len(actions) > limit:
            shortest = min(shortest or len(actions), len(actions))
            continue
        trajectory = replay(env, task, actions, policy="expert")
        if trajectory.success:
            return trajectory
        best = max(best, trajectory.score)
    if best >= 0:
        return NoDemonstration(task, f"even the right product with its options scores {best:.2f}")
    if shortest:
        return NoDemonstration(task, f"buying it takes {shortest} actions, the limit is {limit}")
    return NoDemonstration(task, "the search does not find the product, even by its title")


def plans(shop: Shop, goal: Goal) -> Iterator[list[str]]:
    """Ways to buy the goal's product, the most imitable first."""
    product = shop.product(goal.product)
    choices = [f"click[{value}]" for value in chosen_options(product, goal)]
    for query in dict.fromkeys([_wish(goal), _typed(product.title)]):
        found = shop.search(query.lower())
        if goal.product in found:
            pages = found.index(goal.product) // PER_PAGE
            following = ["click[Next >]"] * pages
            yield [f"search[{query}]", *following, f"click[{product.asin}]", *choices, "click[Buy Now]"]


def chosen_options(product: Product, goal: Goal) -> list[str]:
    """Options of the product that the goal asks for, at most one per name, in the page's order."""
    asked = dict(goal.options)
    values = [value for _, value in goal.options]
    chosen = []
    for name, offered in product.options.items():
        if asked.get(name) in offered:
            chosen.append(asked[name])
            continue
        liked = max(offered, key=lambda one: max((token_set_ratio(one, value) for value in values), default=0))
        if any(token_set_ratio(liked, value) > ALIKE for value in values):
            chosen.append(liked)
    return chosen


def _wish(goal: Goal) -> str:
    """The instruction without its price, options and polite phrases."""
    text = _PRICE.sub("", goal.instruction)
    named = [(name, value) for name, value in goal.options if name is not None]
    text = text.removesuffix(" with " + ", and ".join(f"{name}: {value}" for name, value in named))
    return _typed(_REQUEST.sub("", text))


def _typed(text: str) -> str:
    """The text in a form allowed between the brackets of a search."""
    return " ".join(re.sub(r"[\[\]]", " ", text).split())


__all__ = ["chosen_options", "demonstrate", "plans"]
