"""WebShop over made-up products: pages against recordings of the original, the reward against its rules, and abuse."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.envs.made_up_shop import write_packed

pytest.importorskip("bm25s", reason="needs the extra webshop")
pytest.importorskip("Stemmer", reason="needs the extra webshop")

from trajtree.envs.check import HOSTILE_ACTIONS, check_env
from trajtree.envs.domain import NoDemonstration, load_domain
from trajtree.envs.replay import replay
from trajtree.envs.webshop import DOMAIN, SHORT, Shop, ShortWebShop, WebShop, open_shop
from trajtree.envs.webshop.domain import situation_of, split_range, tasks_of
from trajtree.envs.webshop.env import parse_action
from trajtree.envs.webshop.expert import demonstrate, plans
from trajtree.errors import DataError
from trajtree.trajectory import Outcome, Trajectory

RECORDED = json.loads(Path(__file__).with_name("webshop_original.json").read_text("utf-8"))
TASKS = [f"synthetic/{number}" for number in range(14)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("webshop")
    write_packed(folder)
    return open_shop(folder)


@pytest.fixture
def env(shop: Shop) -> WebShop:
    return WebShop(shop=shop)


def gold(shop: Shop, task: str) -> list[str]:
    return next(plans(shop, shop.goal(task)))


def test_goals_are_those_of_the_original(shop: Shop) -> None:
    for kind, texts in RECORDED["goals"].items():
        assert [goal.instruction for goal in shop.goals[kind]] == texts


@pytest.mark.parametrize("number", range(len(RECORDED["episodes"])))
def test_pages_and_scores_are_those_of_the_original(shop: Shop, number: int) -> None:
    """Observations, clickable texts and scores that the original gave, on the same made-up products."""
    episode: dict[str, Any] = RECORDED["episodes"][number]
    over = Shop(shop.products, _search(shop), shop.goals, show_attributes=episode["attributes_shown"])
    env = WebShop(shop=over, max_steps=1000)
    for action, text, clickables, score in episode["steps"]:
        if action is None:
            observation, reward = env.reset(episode["task"]), 0.0
        else:
            observation, reward, *_ = env.step(action)
        assert observation == RECORDED["texts"][text]
        assert list(env.available_actions().clickables) == RECORDED["clickables"][clickables]
        assert reward == score
    result = env.snapshot().result
    assert (result.type if result else None) == episode["type"]


def _search(shop: Shop) -> Any:
    class Same:
        best = staticmethod(shop.search)

    return Same()


def test_it_keeps_the_contract(shop: Shop) -> None:
    report = check_env(lambda: WebShop(shop=shop), TASKS[:6], actions=lambda task: gold(shop, task))
    assert report.name == "webshop" and report.terminated >= 15


def test_short_pages_keep_the_contract_under_a_name_of_their_own(shop: Shop) -> None:
    report = check_env(lambda: ShortWebShop(shop=shop), TASKS[:6], actions=lambda task: gold(shop, task))
    assert report.name == "webshop-short" == SHORT.make(3).name and report.terminated >= 15
    assert SHORT.make(3).max_steps(TASKS[0]) == 3


@pytest.mark.parametrize("number", range(len(RECORDED["episodes"])))
def test_short_pages_offer_and_score_what_the_original_does(shop: Shop, number: int) -> None:
    episode: dict[str, Any] = RECORDED["episodes"][number]
    over = Shop(shop.products, _search(shop), shop.goals, show_attributes=episode["attributes_shown"])
    env = ShortWebShop(shop=over, max_steps=1000)
    texts: list[str] = []
    for action, _, clickables, score in episode["steps"]:
        if action is None:
            texts, reward = [env.reset(episode["task"])], 0.0
        else:
            observation, reward, *_ = env.step(action)
            texts.append(observation)
        assert list(env.available_actions().clickables) == RECORDED["clickables"][clickables]
        assert reward == score
    originals = [RECORDED["texts"][text] for _, text, _, _ in episode["steps"]]
    assert sum(map(len, texts)) < sum(map(len, originals))


def test_short_pages_show_names_prices_and_options(shop: Shop) -> None:
    env, product = ShortWebShop(shop=shop), shop.product(0)
    first = env.reset("synthetic/1")
    assert first == f"Instruction: {env.goal('synthetic/1').instruction}\nSearch"
    found = env.step(f"search[{product.title}]").observation.splitlines()
    assert f"{product.asin} Fernwood Mug with Lid <Deluxe> & Spoon, {product.price_tag}" in found
    assert found[-2:] == [f"Page 1 (Total results: {len(shop.search(product.title.lower()))})", "Next >"]
    assert env.step(f"click[{product.asin}]").observation.splitlines() == [
        f"{product.title}, {product.price_tag}",
        "color: deep red; teal | white; 2005grey",
        "size: small; large",
        "Buy Now",
    ]
    title = f"{product.title}, {product.price_tag}"
    assert env.step("click[small]").observation.splitlines() == [title, "size: small", "Buy Now"]
    assert env.step("click[Deep Red]").observation.splitlines() == [title, "size: small; color: deep red", "Buy Now"]
    assert env.step("click[Reviews]").observation.splitlines() == [title, "< Prev"]
    assert env.step("click[< Prev]").observation.splitlines() == [title, "size: small; color: deep red", "Buy Now"]
    end = env.step("click[Buy Now]")
    assert end.terminated and end.observation == f"Your score (min 0.0, max 1.0): {end.reward}"


def test_short_titles_end_and_descriptions_stay(shop: Shop) -> None:
    env = ShortWebShop(shop=shop)
    for number, product in enumerate(shop.products):
        env.reset("synthetic/1")
        page = env.step(f"search[{product.title}]").observation
        if number not in shop.search(product.title.lower())[:10]:
            continue
        words = product.title.split()[:8]
        assert f"{product.asin} {' '.join(words)}, {product.price_tag}" in page.splitlines()
        env.step(f"click[{product.asin}]")
        described = filter(None, [" ".join(product.description.split())])
        _, *said = env.step("click[Description]").observation.splitlines()
        assert said == [*described, "< Prev"]
        assert env.step("click[< Prev]").observation.splitlines()[-1] == "Buy Now"


def test_options_of_short_pages_are_clicked_as_they_are_shown(shop: Shop) -> None:
    odd = replace(shop.product(0), options={"size": ("8.4 ounce  |  250 ml", "1\xa0l")})
    env = ShortWebShop(shop=Shop([odd, *shop.products[1:]], _search(shop), shop.goals))
    env.reset("synthetic/1")
    env.step(f"search[{odd.title}]")
    _, shown, _ = env.step(f"click[{odd.asin}]").observation.split("\n")
    for value in shown.removeprefix("size: ").split("; "):
        assert f"size: {value}" in env.step(f"click[{value}]").observation.split("\n")


def test_the_first_page_states_the_task(env: WebShop) -> None:
    first = env.reset("synthetic/1")
    assert first == f"WebShop [SEP] Instruction: [SEP] {env.goal('synthetic/1').instruction} [SEP] Search"
    assert env.available_actions().has_search_bar and env.available_actions().clickables == ("search",)


def test_buying_completes_and_only_the_full_score_is_success(env: WebShop) -> None:
    task = "synthetic/1"
    bought = replay(env, task, gold(env.shop, task), policy="expert")
    assert bought.success and bought.score == 1.0
    careless = [*gold(env.shop, task)[:2], "click[Buy Now]"]
    poor = replay(env, task, careless, policy="weak")
    assert poor.outcome is Outcome.COMPLETED and 0 < poor.score < 1 and not poor.success


def test_nothing_bought_within_the_limit_is_truncated_with_nothing(env: WebShop) -> None:
    env.reset("synthetic/1")
    results = [env.step("search[mug]") for _ in range(10)]
    assert [result.truncated for result in results] == [False] * 9 + [True]
    assert not any(result.terminated or result.reward for result in results)
    assert env.step("click[Buy Now]").observation == "The episode is over."


def test_buying_with_the_last_action_counts(shop: Shop) -> None:
    actions = gold(shop, "synthetic/1")
    env = WebShop(shop=shop, max_steps=len(actions))
    env.reset("synthetic/1")
    last = [env.step(action) for action in actions][-1]
    assert last.terminated and not last.truncated and last.reward == 1.0


def test_capitals_do_not_matter_inside_brackets(env: WebShop) -> None:
    env.reset("synthetic/1")
    page = env.step("search[ENAMEL Mug]").observation
    assert page == env.step("search[enamel mug]").observation
    assert env.step("Click[Next >]").observation == page
    assert env.step("click[nExT >]").observation != page


@pytest.mark.parametrize("nothing", ["search[]", "search", "buy now", "click[no such text]", "click[search]", ""])
def test_what_is_no_action_leaves_the_page(env: WebShop, nothing: str) -> None:
    first = env.reset("synthetic/0")
    assert env.step(nothing) == (first, 0.0, False, False)


def test_a_search_without_words_finds_nothing(env: WebShop) -> None:
    env.reset("synthetic/0")
    for query in (" ", "the", "?!", "zzzzqx", "\ud800"):
        page = env.step(f"search[{query}]").observation
        assert "Page 1 (Total results: 0) [SEP] Next >" in page


def test_ten_thousand_characters_of_noise(env: WebShop) -> None:
    rng = random.Random(0)
    noise = "".join(chr(rng.randrange(32, 0x3000)) for _ in range(10_000))
    env.reset("synthetic/0")
    for action in (
        noise,
        f"search[{noise}]",
        f"click[{noise}]",
        "[" * 10_000,
        "]" * 10_000,
        "search[" + "mug " * 2500 + "]",
    ):
        assert env.step(action).observation


def test_ten_thousand_random_strings(shop: Shop) -> None:
    rng = random.Random(1)
    env = WebShop(shop=shop, max_steps=30)
    pieces = [
        "search[",
        "click[",
        "]",
        "[",
        "\n",
        "mug",
        "b0test0001",
        "Buy Now",
        "< prev",
        "é",
        "\ud800",
        "\x00",
        "1,5",
    ]
    steps = 0
    while steps < 10_000:
        env.reset(rng.choice(TASKS))
        over = False
        while not over:
            clickables = env.available_actions().clickables
            text = "".join(rng.choice(pieces) for _ in range(rng.randrange(8)))
            action = rng.choice(
                [text, f"search[{text}]", f"click[{text}]", *(f"click[{one}]" for one in clickables[:6])]
            )
            canonical = env.canonical_action(action)
            assert env.canonical_action(canonical) == canonical
            before = env.snapshot()
            result = env.step(canonical)
            env.restore(before)
            assert env.step(action) == result
            over = result.terminated or result.truncated
            steps += 1


def test_a_snapshot_equals_a_replay(shop: Shop) -> None:
    rng = random.Random(2)
    for task in TASKS:
        env, actions = WebShop(shop=shop), []
        env.reset(task)
        for _ in range(6):
            texts = env.available_actions().clickables
            actions.append(rng.choice([f"click[{rng.choice(texts)}]" if texts else "x", "search[enamel mug]"]))
            if any(env.step(actions[-1])[2:]):
                break
        kept = env.snapshot()
        other = WebShop(shop=shop)
        other.reset(task)
        for action in actions:
            other.step(action)
        assert other.snapshot() == kept
        further = [
            env.step(action) for action in ("search[lamp]", "click[b0test0003]", "click[black]", "click[buy now]")
        ]
        env.restore(kept)
        again = [env.step(action) for action in ("search[lamp]", "click[b0test0003]", "click[black]", "click[buy now]")]
        assert further == again


def test_a_thousand_instances_in_turns(shop: Shop) -> None:
    tasks = [TASKS[number % len(TASKS)] for number in range(1000)]
    envs = [WebShop(shop=shop) for _ in tasks]
    alone = {task: replay(WebShop(shop=shop), task, gold(shop, task), policy="e") for task in TASKS}
    for env, task in zip(envs, tasks, strict=True):
        env.reset(task)
    for turn in range(max(len(one.steps) for one in alone.values())):
        for env, task in zip(envs, tasks, strict=True):
            if turn < len(alone[task].steps):
                assert env.step(alone[task].steps[turn].action).reward == alone[task].steps[turn].reward


@pytest.mark.parametrize(
    ("action", "parsed"),
    [
        ("search[red shoes]", ("search", "red shoes")),
        ("click[Buy Now] please", ("click", "Buy Now")),
        ("search[a [b] c]", ("search[a ", "b] c")),
        ("click[a[]", ("click", "a[")),
        ("click[]]", ("click", "]")),
        ("[x]", ("", "")),
        ("search[]", ("", "")),
        ("search[a\nb]", ("", "")),
        ("]a[", ("", "")),
    ],
)
def test_brackets_pair_as_in_the_original(action: str, parsed: tuple[str, str]) -> None:
    import re

    assert parse_action(action) == parsed
    pattern = re.match(r"(.+)\[(.+)\]", action)
    assert parsed == (pattern.groups() if pattern else ("", ""))


def test_brackets_pair_as_in_the_original_for_random_strings() -> None:
    import re

    rng = random.Random(4)
    for _ in range(5000):
        action = "".join(rng.choice("[]ab \n") for _ in range(rng.randrange(12)))
        pattern = re.match(r"(.+)\[(.+)\]", action)
        assert parse_action(action) == (pattern.groups() if pattern else ("", ""))


def test_hostile_actions_have_canonical_forms(env: WebShop) -> None:
    for action in (*HOSTILE_ACTIONS, "search[ A  b]", "click[A  b]", "search[ ]", "search[ [x] ]"):
        once = env.canonical_action(action)
        assert env.canonical_action(once) == once and parse_action(once)[0] == parse_action(action)[0]


def test_unknown_tasks_are_named(env: WebShop) -> None:
    for task in ("synthetic/14", "human/2", "synthetic/-1", "synthetic/٣", "x/0", "synthetic"):
        with pytest.raises(KeyError, match="synthetic/0 to synthetic/13, human/0 to human/1"):
            env.reset(task)


def test_a_step_needs_a_reset(env: WebShop) -> None:
    with pytest.raises(RuntimeError, match="before reset"):
        env.step("search[mug]")


def test_splits_are_disjoint_and_cover_all() -> None:
    for goals in (0, 3, 14, 4999, 6910, 12_087):
        ranges = [split_range(goals, split) for split in ("test", "dev", "train")]
        assert [number for one in ranges for number in one] == list(range(goals))
    assert split_range(6910, "test") == range(500) and split_range(6910, "dev") == range(500, 1500)


def test_task_types_are_categories(shop: Shop) -> None:
    every = [task for split in ("test", "dev", "train") for task in tasks_of(shop, "all", split)]
    assert every == TASKS
    by_type = [tasks_of(shop, kind, "train") for kind in ("garden", "electronics", "fashion")]
    assert sorted(task for one in by_type for task in one) == sorted(tasks_of(shop, "all", "train"))
    assert tasks_of(shop, "human:all", "train") == ["human/0", "human/1"]
    for wrong in ("toys", "human:toys", "other:all"):
        with pytest.raises(KeyError, match=r"use all, .*fashion, garden, with human:"):
            tasks_of(shop, wrong, "train")


def test_the_shopper_buys_what_was_asked_for(env: WebShop) -> None:
    for task in ("synthetic/1", "human/0"):
        shown = demonstrate(env, task)
        assert isinstance(shown, Trajectory) and shown.success and shown.policy == "expert"
        assert shown.steps[0].action.startswith("search[") and shown.steps[-1].action == "click[Buy Now]"


def test_the_shopper_says_why_it_cannot(shop: Shop) -> None:
    # The reward takes "2005grey" for grey, then misses it in the goal, as the original does.
    odd = next(
        f"synthetic/{n}" for n, goal in enumerate(shop.goals["synthetic"]) if ("color", "2005grey") in goal.options
    )
    rejected = demonstrate(WebShop(shop=shop), odd)
    assert isinstance(rejected, NoDemonstration) and "scores 0.80" in rejected.reason
    rejected = demonstrate(WebShop(shop=shop, max_steps=2), "synthetic/1")
    assert isinstance(rejected, NoDemonstration) and "the limit is 2" in rejected.reason


def test_it_is_a_domain_by_name() -> None:
    assert load_domain("webshop").environment is DOMAIN.environment
    assert DOMAIN.make(3).max_steps("synthetic/0") == 3  # type: ignore[attr-defined]


def test_without_products_the_way_to_bring_them_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAJTREE_DATA", str(tmp_path / "none"))
    with pytest.raises(DataError, match="trajtree data webshop --from PATH"):
        WebShop().reset("synthetic/0")


def test_goals_of_one_product_are_one_situation(shop: Shop) -> None:
    for task in tasks_of(shop, "all", "train"):
        product = shop.product(shop.goal(task).product)
        assert situation_of(shop, task) == f"product {product.asin}"
    assert len({situation_of(shop, task) for task in tasks_of(shop, "all", "train")}) < len(
        tasks_of(shop, "all", "train")
    )
    with pytest.raises(KeyError, match="not a task of this shop"):
        situation_of(shop, "synthetic/99999")
