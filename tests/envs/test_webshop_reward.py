"""The reward against a slow re-statement of its published rules, on random purchases and on the goals' own products.

With TRAJTREE_DATA the purchases are also made in the 1,000-product set, and its goals are counted.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from tests.envs.made_up_shop import write_packed

pytest.importorskip("bm25s", reason="needs the extra webshop")
pytest.importorskip("Stemmer", reason="needs the extra webshop")

from trajtree.envs.webshop import Goal, Shop, open_shop, reward
from trajtree.envs.webshop.expert import chosen_options
from trajtree.envs.webshop.fuzzy import token_set_ratio
from trajtree.envs.webshop.products import Product
from trajtree.envs.webshop.reward import nouns
from trajtree.envs.webshop.words import COLOURS


def real_folder() -> Path | None:
    folder = Path(os.environ.get("TRAJTREE_DATA", "")) / "webshop"
    return folder if os.environ.get("TRAJTREE_DATA") and folder.is_dir() else None


real = pytest.mark.skipif(real_folder() is None, reason="TRAJTREE_DATA names no folder with webshop/")


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("webshop")
    write_packed(folder)
    return open_shop(folder)


@pytest.fixture(scope="module")
def thousand() -> Shop:
    return open_shop(real_folder())


@cache
def slow_ratio(one: str, two: str) -> float:
    """2 x longest common subsequence / both lengths, by the textbook's table."""
    row = [0] * (len(two) + 1)
    for a in one:
        before = 0
        for place, b in enumerate(two, 1):
            before, row[place] = row[place], before + 1 if a == b else max(row[place], row[place - 1])
    return 200 * row[-1] / (len(one) + len(two)) if one or two else 0.0


@cache
def slow_token_set(one: str, two: str) -> int:
    """Best ratio among the common words alone, and with the rest of either text behind them."""
    sides = []
    for text in (one, two):
        kept = "".join(c for c in text if not 128 <= ord(c) < 256)
        sides.append({word for word in re.split(r"\W+", kept.lower()) if word})
    if not sides[0] or not sides[1]:
        return 0
    common = " ".join(sorted(sides[0] & sides[1]))
    full = [(common + " " + " ".join(sorted(side - (sides[0] & sides[1])))).strip() for side in sides]
    pairs = [(full[0], full[1])] + ([(common, full[0]), (common, full[1])] if common else [])
    return round(max(slow_ratio(*pair) for pair in pairs))


def slow_reward(bought: Product, options: dict[str, str], goal: Goal, wanted: Product) -> float:
    def colour(where: str | tuple[str, str], text: str) -> str:
        named = [c for c in COLOURS if c in where]
        return named[0] if named else text

    points = 0
    for attribute in goal.attributes:
        everywhere = [bought.title.lower(), " ".join(bought.bullets).lower(), bought.description.lower()]
        alike = [slow_token_set(own, attribute) for own in bought.attributes]
        points += max([0, *alike]) > 85 or any(attribute in text for text in everywhere)
    for name, value in goal.options:
        asked = colour(value, value) if name is None else colour((name, value), str((name, value)))
        points += any(slow_token_set(colour(v, v), asked) > 85 for v in options.values())
    points += bought.price <= goal.price_upper
    whole = points / (len(goal.attributes) + len(goal.options) + 1)
    mine, theirs = nouns(bought.title), nouns(wanted.title)
    shared = len({*mine} & {*theirs}) / len(theirs) if theirs else 0.2
    paths = [{part.strip() for part in product.product_category.split("›")} for product in (bought, wanted)]
    related = bought.query == wanted.query or len(paths[0] & paths[1]) > 1 or shared > 0.2
    if shared == 0:
        return 0.0
    return whole * (0.1 if shared < 0.1 else 1.0 if related else 0.5)


def random_purchases(shop: Shop, number: int) -> Counter[float]:
    """Compare; how often each score came."""
    rng = random.Random(5)
    goals = [*shop.goals["synthetic"], *shop.goals["human"]]
    by_query: dict[str, list[Product]] = {}
    for product in shop.products:
        by_query.setdefault(product.query, []).append(product)
    scores: Counter[float] = Counter()
    for turn in range(number):
        goal = rng.choice(goals)
        wanted = shop.product(goal.product)
        bought = [rng.choice(shop.products), rng.choice(by_query[wanted.query]), wanted][turn % 3]
        options = {name: rng.choice(values) for name, values in bought.options.items() if rng.random() < 0.8}
        result = reward(bought, options, goal, wanted)
        assert result.score == pytest.approx(slow_reward(bought, options, goal, wanted), abs=1e-12)
        assert 0.0 <= result.score <= 1.0
        found = result.attributes + result.options + result.price
        total = result.wanted_attributes + result.wanted_options + 1
        assert result.score == pytest.approx(result.type * found / total)
        scores[round(result.score, 6)] += 1
    return scores


def own_options(product: Product, goal: Goal) -> dict[str, str]:
    return {name: one for one in chosen_options(product, goal) for name, all_ in product.options.items() if one in all_}


def test_a_thousand_random_purchases(made_up: Shop) -> None:
    scores = random_purchases(made_up, 1000)
    assert len(scores) > 5 and scores[1.0] > 10 and scores[0.0] > 10


@real
def test_a_thousand_random_purchases_in_the_real_set(thousand: Shop) -> None:
    scores = random_purchases(thousand, 1000)
    assert len(scores) > 15 and scores[1.0] > 10


@real
def test_the_real_set_has_its_goals(thousand: Shop) -> None:
    assert len(thousand.products) == 1000
    assert len(thousand.goals["synthetic"]) == 6910 and len(thousand.goals["human"]) == 13
    assert len({goal.product for goal in thousand.goals["synthetic"]}) == 415


@real
def test_the_goals_own_products_in_the_real_set(thousand: Shop) -> None:
    """Mean of what the goal's product with the goal's options scores; 1 is out of reach for some (see the docs)."""
    for kind, least in (("synthetic", 0.99), ("human", 1.0)):
        scores = []
        for goal in thousand.goals[kind][:500]:  # type: ignore[index]
            product = thousand.product(goal.product)
            options = own_options(product, goal)
            result = reward(product, options, goal, product)
            assert result.score == pytest.approx(slow_reward(product, options, goal, product), abs=1e-12)
            assert result.type == 1.0 and result.price and result.attributes == result.wanted_attributes
            scores.append(result.score)
        assert math.fsum(scores) / len(scores) >= least


def test_the_ratio_is_that_of_the_textbook() -> None:
    rng = random.Random(6)
    words = [
        "red",
        "large",
        "x-large",
        "2 pack",
        "café",
        "size_9",
        "Valentine’s",
        '12"',
        "",
        "ash",
        "navy blue",
        "10x12",
    ]
    for _ in range(3000):
        one, two = (" ".join(rng.choices(words, k=rng.randrange(4))) for _ in range(2))
        assert token_set_ratio(one, two) == slow_token_set(one, two)


@pytest.mark.parametrize(
    ("one", "two", "ratio"),
    [("red", "dark red", 100), ("", "red", 0), ("!?", "red", 0), ("abc", "xyz", 0), ("small", "smell", 80)],
)
def test_ratios_by_hand(one: str, two: str, ratio: int) -> None:
    assert token_set_ratio(one, two) == token_set_ratio(two, one) == ratio


def test_a_wrong_kind_of_product_is_worth_nothing(made_up: Shop) -> None:
    mug, shirt = made_up.products[0], made_up.products[3]
    goal = next(goal for goal in made_up.goals["synthetic"] if goal.product == 0)
    result = reward(shirt, {}, goal, mug)
    assert (result.score, result.type, result.title) == (0.0, 0.0, 0.0)


def test_too_dear_costs_a_point(made_up: Shop) -> None:
    lamp = made_up.products[2]
    goal = Goal(2, "cheap", ("easy clean",), 10.0, ())
    assert lamp.price == 1250.0 and reward(lamp, {}, goal, lamp).score == 0.5


def test_a_reward_can_be_written_down(made_up: Shop) -> None:
    from dataclasses import asdict

    goal = made_up.goals["synthetic"][1]
    product = made_up.product(goal.product)
    assert json.loads(json.dumps(asdict(reward(product, own_options(product, goal), goal, product))))["score"] == 1.0
