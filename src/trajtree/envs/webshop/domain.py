"""WebShop for recipes: its tasks by type and split, and its expert."""

from __future__ import annotations

from dataclasses import replace

from trajtree.envs.domain import Domain
from trajtree.envs.webshop.env import ShortWebShop, WebShop
from trajtree.envs.webshop.expert import demonstrate
from trajtree.envs.webshop.goals import Kind
from trajtree.envs.webshop.shop import Shop, data_digest, open_shop

TEST, DEV = 500, 1000
"""Goals per split: the first 500 of the shuffled list are test, the next 1,000 dev (as upstream), the rest train."""

EVERY = "all"
"""The task type of all products; the others are the shop's categories, such as `beauty`."""


def split_range(goals: int, split: str) -> range:
    """Numbers of a split's goals. If there are fewer than 5,000 goals, a fifth is test and a fifth dev.

    Raises:
        KeyError: the split is not train, dev or test.
    """
    test = min(TEST, goals // 5)
    dev = min(DEV, goals // 5)
    return {"test": range(test), "dev": range(test, test + dev), "train": range(test + dev, goals)}[split]


def tasks_of(shop: Shop, task_type: str, split: str) -> list[str]:
    """Task ids of a type and split, in the order of their numbers.

    A type is `all` or a category; `human:all` and `synthetic:beauty` also choose the kind of goal, which is otherwise
    the shop's default. Goals of one product that differ in their options may be in different splits, as upstream.

    Raises:
        KeyError: there is no such type or split; the message lists those that exist.
    """
    kind, category = _parsed(shop, task_type)
    goals = shop.goals[kind]
    return [
        f"{kind}/{number}"
        for number in split_range(len(goals), split)
        if category == EVERY or shop.product(goals[number].product).category == category
    ]


def situation_of(shop: Shop, task: str) -> str:
    """The product that the task is about, shared by goals that differ only in its options.

    Raises:
        KeyError: there is no such task.
    """
    return f"product {shop.product(shop.goal(task).product).asin}"


def _parsed(shop: Shop, task_type: str) -> tuple[Kind, str]:
    named, colon, category = task_type.rpartition(":")
    kind: Kind = shop.kind
    if colon:
        kind = "human" if named == "human" else "synthetic"
    categories = sorted({shop.product(goal.product).category for goal in shop.goals[kind]})
    if (colon and named not in shop.goals) or category not in (EVERY, *categories):
        raise KeyError(
            f"WebShop has no task type {task_type!r}: use {', '.join([EVERY, *categories])}, "
            "with human: or synthetic: before it to choose the kind of goal"
        )
    return kind, category


DOMAIN = Domain(
    environment=WebShop,
    make=lambda max_steps: WebShop(max_steps=max_steps),
    tasks=lambda task_type, split: tasks_of(open_shop(), task_type, split),
    demonstrate=demonstrate,
    types=(EVERY, "beauty", "electronics", "fashion", "garden", "grocery"),
    data=data_digest,
    situation=lambda task: situation_of(open_shop(), task),
)
"""WebShop for recipes; the products come from `trajtree data webshop`."""

SHORT = replace(DOMAIN, environment=ShortWebShop, make=lambda max_steps: ShortWebShop(max_steps=max_steps))
"""The same with short pages."""

__all__ = ["DOMAIN", "SHORT", "situation_of", "split_range", "tasks_of"]
