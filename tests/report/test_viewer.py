"""The viewer shows the tree that it was given, responds to keys and mouse, and executes nothing that it shows."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.builders import anything, quick, trajectories, trajectory

from trajtree.errors import DataError, RunError
from trajtree.report.viewer import write_viewer
from trajtree.report.viewer.record import figures, record
from trajtree.trajectory import Outcome, Step, Trajectory
from trajtree.trees.merge import build, build_tree
from trajtree.trees.quality import quality
from trajtree.trees.search import exact
from trajtree.trees.tree import TrajectoryTree
from trajtree.visible import visible

HOSTILE = (
    "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 2'><svg onload=\"window.ran = 3\">"
    '" onclick="window.ran = 4" \' --><!-- ]]> javascript:window.ran=5 &lt;b&gt; \u202egnp \u2028 \x00 \ud800 $title '
) + "w" * 3000


# ---- what is in the file


class Page(HTMLParser):
    """Elements of a page, and the text of its scripts by id."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.style = ""
        self._inside: str | None = None
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = str(dict(attrs).get("id", "")) if tag == "script" else tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.style += data
        elif self._inside is not None and self.tags[-1][0] == "script":
            self.scripts[self._inside] = self.scripts.get(self._inside, "") + data


def page_of(*trees: TrajectoryTree, title: str = "Trees") -> tuple[str, Page]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "viewer.html"
        write_viewer(iter(trees), path, title=title)
        source = path.read_text(encoding="utf-8")
    return source, Page(source)


@quick
@given(trajectories())
def test_figures_are_those_of_the_tree(members: list[Trajectory]) -> None:
    tree = build_tree(members)
    row, expected = figures(tree), quality(tree)
    assert row["trajectories"] == expected.trajectories
    assert row["successes"] == sum(t.success for t in members)
    assert (row["forks"], row["informative"]) == (expected.forks, expected.informative_forks)
    assert (row["best"], row["mean"]) == pytest.approx((expected.best, expected.mean), abs=1e-6)


@quick
@given(trajectories())
def test_record_holds_the_tree(members: list[Trajectory]) -> None:
    members[0] = replace(
        members[0], steps=tuple(structs.replace(s, thought="hm", reward=0.5) for s in members[0].steps)
    )
    tree = build_tree(members)
    made = json.loads(json.dumps(record(tree), allow_nan=False))
    strings = made["strings"]
    assert len(set(strings)) == len(strings)
    assert [strings[i] for i in made["action"]] == list(tree.action)
    assert [strings[i] for i in made["observation"]] == list(tree.observation)
    assert made["parent"] == tree.parent.tolist()
    assert made["mean"] == pytest.approx(tree.mean.tolist(), abs=1e-6)
    assert made["target"] == exact(tree).end
    assert made["forks"] == [[node, list(children)] for node, children in tree.forks()]
    assert all(parent < node for node, parent in enumerate(made["parent"])), "the page decodes in this order"
    for index, member in enumerate(tree.trajectories):
        assert made["sample"][index] == member.sample
        assert strings[made["outcome"][index]] == member.outcome.value.replace("_", " ")
        assert made["thought"][index] == [strings.index("hm") for s in member.steps if s.thought]
        assert made["reward"][index] == [s.reward for s in member.steps if s.reward]


@quick
@given(st.lists(anything, min_size=1, max_size=3), st.text(max_size=20))
def test_any_text_stays_text(members: list[Trajectory], title: str) -> None:
    members = [
        replace(
            t,
            task=t.task + HOSTILE,
            sample=n,
            steps=(*t.steps, Step(HOSTILE, HOSTILE, HOSTILE)),
            tokens=(),
            origin=None,
        )
        for n, t in enumerate(members)
    ]
    trees = build(members)
    if not trees:
        return
    _, page = page_of(*trees, title=title + HOSTILE)
    _, plain = page_of(build_tree([trajectory("a")]))
    scripts = [name for name in page.scripts if name]
    assert scripts == [*(f"tree-{number}" for number in range(len(trees))), "index"], "written tree by tree"
    assert [row["task"] for row in json.loads(page.scripts["index"])] == [visible(tree.task) for tree in trees]
    for number, tree in enumerate(trees):
        made = json.loads(page.scripts[f"tree-{number}"])
        assert [made["strings"][i] for i in made["action"]] == [visible(action) for action in tree.action]
        assert not re.search("[<>&\u2028\u2029]", page.scripts[f"tree-{number}"])
    others = [tag for tag in page.tags if tag[1].get("type") != "application/json"]
    assert others == [tag for tag in plain.tags if tag[1].get("type") != "application/json"]
    assert page.scripts[""] == plain.scripts[""]


def test_the_policy_lets_in_the_page_and_nothing_else() -> None:
    _, page = page_of(build_tree([trajectory("a")]))
    policy = next(str(attrs["content"]) for _, attrs in page.tags if attrs.get("http-equiv"))
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for name, source in (("script-src", page.scripts[""]), ("style-src", page.style)):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    for tag, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on") or name == "style"], tag
        assert not re.match("https?:|//", str(attrs.get("src") or attrs.get("href") or "")), tag
    assert "innerHTML" not in page.scripts[""]


def test_nothing_to_show(tmp_path: Path) -> None:
    path = tmp_path / "viewer.html"
    path.write_text("old")
    with pytest.raises(DataError, match="no trees to show"):
        write_viewer([], path, title="Trees")
    assert path.read_text() == "old"
    with pytest.raises(RunError, match="cannot write"):
        write_viewer([build_tree([trajectory("a")])], tmp_path / "none" / "viewer.html", title="Trees")


# ---- what a browser makes of it


def wait_until(page: Any, expression: str) -> None:
    """As Playwright's wait_for_function, whose polling evaluates text in the page, which the page's policy forbids."""
    end = time.monotonic() + 30
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.01)


Open = Callable[..., Any]


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens the page of some trees; fails when it logs, throws or fetches anything."""
    context = browser.new_context(viewport={"width": 1300, "height": 800})
    troubles: list[str] = []

    def opened(*trees: TrajectoryTree, title: str = "Trees", address: str = "") -> Any:
        path = tmp_path / "viewer.html"
        write_viewer(trees, path, title=title)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("dialog", lambda dialog: troubles.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: requested(request.url))
        page.goto(path.as_uri() + address)
        wait_until(page, "performance.getEntriesByName('trajtree-drawn').length")
        return page

    def requested(url: str) -> None:
        if not url.startswith("data:") and url.split("#")[0] != (tmp_path / "viewer.html").as_uri():
            troubles.append(f"request: {url}")

    yield opened
    context.close()
    assert troubles == []


def kitchen() -> list[TrajectoryTree]:
    """Two tasks; the first parts after "look" into take (fails), wait (mixed) and open (succeeds)."""
    seen = ["You are in the kitchen.", "You see a cup and a cupboard.", "The cup is yours.", "Tea is made."]
    runs = [
        (["look", "open cupboard", "make tea", "drink"], 1.0, Outcome.COMPLETED),
        (["look", "open cupboard", "make tea"], 0.75, Outcome.TRUNCATED),
        (["look", "take cup", "throw cup"], 0.0, Outcome.COMPLETED),
        (["look", "take cup"], 0.25, Outcome.AGENT_ERROR),
        (["look", "wait", "make tea"], 0.5, Outcome.COMPLETED),
    ]
    members = []
    for sample, (actions, score, outcome) in enumerate(runs):
        made = trajectory(actions, score, sample=sample, outcome=outcome, seen=seen[: len(actions)], task="tea")
        steps = tuple(structs.replace(s, thought=f"thought {sample} of {s.action}", reward=0.25) for s in made.steps)
        error = "no action in the reply" if outcome is Outcome.AGENT_ERROR else None
        members.append(replace(made, steps=steps, error=error))
    return build([*members, trajectory(["go"], 0.7, task="walk 10"), trajectory(["run"], 0.1, task="walk 9")])


def node_of(tree: TrajectoryTree, *actions: str) -> int:
    node = TrajectoryTree.ROOT
    for action in actions:
        node = next(child for child in tree.children[node] if tree.action[child] == action)
    return node


def selected(page: Any) -> int:
    return int(str(page.get_attribute("#stage", "aria-activedescendant")).removeprefix("node-"))


def press(page: Any, *keys: str) -> None:
    """Press keys, each after what the one before has done."""
    for key in keys:
        page.keyboard.press(key)
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")


def test_arrow_keys_walk_the_tree(show: Open) -> None:
    trees = kitchen()
    tea = trees[0]
    page = show(*trees)
    page.focus("#stage")
    walk = [
        ("ArrowLeft", ()),
        ("ArrowRight", ("look",)),
        ("ArrowUp", ("look",)),
        ("ArrowRight", ("look", "open cupboard")),
        ("ArrowDown", ("look", "wait")),
        ("ArrowDown", ("look", "take cup")),
        ("ArrowDown", ("look", "take cup")),
        ("ArrowUp", ("look", "wait")),
        ("ArrowRight", ("look", "wait", "make tea")),
        ("ArrowUp", ("look", "open cupboard", "make tea")),
        ("ArrowLeft", ("look", "open cupboard")),
        ("End", ("look", "open cupboard", "make tea", "drink")),
        ("Home", ()),
        ("f", ("look",)),
    ]
    for key, actions in walk:
        press(page, key)
        assert selected(page) == node_of(tea, *actions), (key, actions)
        said = page.get_attribute(".item", "aria-label")
        assert said.startswith(actions[-1] if actions else "start")
        assert page.evaluate("document.activeElement.id") == "stage"
    assert "fork" in said and "on the best path" in said


def test_arrow_keys_work_before_anything_is_clicked_and_after_help(show: Open) -> None:
    trees = kitchen()
    page = show(*trees)
    press(page, "ArrowRight")
    assert selected(page) == node_of(trees[0], "look")
    press(page, "?", "Escape", "ArrowLeft")
    assert selected(page) == 0


def test_the_tree_with_most_to_see_opens_first(show: Open) -> None:
    dull = build_tree([trajectory(["look"], task="a dull one")])
    assert show(dull, *kitchen()).inner_text("#name") == "tea"


def test_a_node_is_described(show: Open) -> None:
    trees = kitchen()
    node = node_of(trees[0], "look", "take cup")
    page = show(*trees, address=f"#task=tea&node={node}")
    assert selected(page) == node
    details = page.inner_text("#details")
    for words in (
        "take cup",
        "You see a cup and a cupboard.",
        "thought 2 of take cup",
        "thought 3 of take cup",
        "2 of 5",
        "0.13",
        "+0.25",
        "agent error",
        "no action in the reply",
    ):
        assert words in details
    assert "best path" not in details
    rows = page.locator("#details .rows li")
    assert [row.split("\n")[0] for row in rows.all_inner_texts()] == ["sample 3", "sample 2"]
    rows.nth(1).locator("button").click()
    assert selected(page) == node_of(trees[0], "look", "take cup", "throw cup")


def test_runs_without_a_score_have_no_value_anywhere(show: Open) -> None:
    runs = [replace(run, unscored=run.sample == 2) for tree in kitchen() for run in tree.trajectories]
    trees = build(runs, keep_unscored=True)
    tea = next(tree for tree in trees if tree.task == "tea")
    page = show(*trees)
    page.click(f"#task-{trees.index(tea)}")
    page.focus("#stage")
    press(page, "Home", "End", "f", "c")
    assert page.locator("#compare").is_visible()
    shown = page.inner_text("body")
    assert "no score" in shown and "1 task without scores" in shown and "best path\n" not in page.inner_text("#details")
    assert not re.search(r"NaN|null|undefined", shown)
    for part in ("#details", "#compare"):
        assert not re.search(r"\b[01]\.\d\d\b", page.inner_text(part).replace("+0.25", "")), part
    assert "no score" in page.get_attribute(".item", "aria-label")


def test_a_click_selects_what_is_drawn_there(show: Open) -> None:
    trees = kitchen()
    page = show(*trees)
    page.focus("#stage")
    press(page, "ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown")
    target = selected(page)
    page.wait_for_timeout(100)
    box = page.locator(".item").bounding_box()
    press(page, "Home")
    page.mouse.click(box["x"], box["y"])
    assert selected(page) == target == node_of(trees[0], "look", "take cup")
    press(page, "Home")
    page.mouse.click(box["x"] - 40, box["y"] - 10)
    assert selected(page) == target, "the label selects too"
    assert page.evaluate("location.hash") == f"#task=tea&node={target}"


def test_dragging_and_zooming_move_the_picture(show: Open) -> None:
    page = show(*kitchen())
    stage = page.locator("#stage").bounding_box()
    middle = (stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2)

    def place() -> tuple[float, float]:
        page.wait_for_timeout(100)
        box = page.locator(".item").bounding_box()
        return box["x"], box["y"]

    start = place()
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 30, middle[1] + 20)
    page.mouse.move(middle[0] + 60, middle[1] + 40)
    page.mouse.up()
    assert place() == pytest.approx((start[0] + 60, start[1] + 40), abs=1)
    page.mouse.wheel(0, -200)
    assert place()[0] < start[0] + 60
    page.click("#fit")
    assert place() == pytest.approx(start, abs=1)


def test_continuations_side_by_side(show: Open) -> None:
    trees = kitchen()
    page = show(*trees)
    page.focus("#stage")
    press(page, "f", "c")
    assert page.is_visible("#compare")
    assert "You see a cup and a cupboard." in page.inner_text("#compare .shared")
    acts = page.locator("#compare tbody tr")
    left = [acts.nth(i).locator("td").nth(0).inner_text() for i in range(acts.count())]
    right = [acts.nth(i).locator("td").nth(1).inner_text() for i in range(acts.count())]
    assert "open cupboard" in left[0] and "drink" in left[2] and "1.00 · success" in left[3]
    assert "take cup" in right[0] and "throw cup" in right[1] and right[2] == "—" and "0.00 · completed" in right[3]
    assert page.locator("#compare tbody th").all_inner_texts() == ["2", "3", "4", "end"]
    page.select_option("#compare select >> nth=1", label="wait · sample 4 · 0.50 · completed")
    assert "wait" in acts.nth(0).locator("td").nth(1).inner_text()
    acts.nth(1).locator("td").nth(1).locator("button").click()
    assert selected(page) == node_of(trees[0], "look", "wait", "make tea")
    press(page, "Escape")
    assert page.is_hidden("#compare")
    assert page.evaluate("document.activeElement.id") == "stage"


def tasks_of(page: Any) -> list[str]:
    return list(page.locator("#tasks .task").all_text_contents())


def test_tasks_are_filtered_and_sorted(show: Open) -> None:
    page = show(*kitchen())
    assert tasks_of(page) == ["tea", "walk 9", "walk 10"]
    page.select_option("#sort", "mean")
    assert tasks_of(page) == ["walk 9", "tea", "walk 10"]
    page.click("#turn")
    assert tasks_of(page) == ["walk 10", "tea", "walk 9"]
    page.focus("#stage")
    press(page, "/")
    page.keyboard.type("10 wal")
    assert tasks_of(page) == ["walk 10"]
    assert page.inner_text("#shown") == "1 of 3 tasks"
    press(page, "Enter")
    assert page.inner_text("#name") == "walk 10"
    page.fill("#filter", "")
    page.focus("#tasks")
    press(page, "ArrowDown")
    assert page.inner_text("#name") == "tea"
    assert page.get_attribute("#tasks", "aria-activedescendant") == "task-0"
    press(page, "]")
    assert page.inner_text("#name") == "walk 9"
    page.fill("#filter", "nothing like it")
    assert tasks_of(page) == []
    press(page, "Enter")
    press(page, "]")
    assert page.inner_text("#name") == "walk 9"


def test_actions_are_searched(show: Open) -> None:
    tea = kitchen()[0]
    page = show(tea)
    press(page, "s")
    page.keyboard.type("TEA")
    assert page.inner_text("#hits") == "2 hits"
    press(page, "Enter")
    assert selected(page) == node_of(tea, "look", "open cupboard", "make tea")
    press(page, "Enter")
    assert selected(page) == node_of(tea, "look", "wait", "make tea")
    press(page, "Shift+Enter", "Escape", "n")
    assert selected(page) == node_of(tea, "look", "wait", "make tea")


def test_addresses_lead_to_nodes_and_bad_ones_to_the_start(show: Open) -> None:
    trees = kitchen()
    page = show(*trees, address="#task=walk+10&node=1")
    assert (page.inner_text("#name"), selected(page)) == ("walk 10", 1)
    page.evaluate("location.hash = '#task=tea&node=3'")
    wait_until(page, "document.getElementById('name').textContent === 'tea'")
    assert selected(page) == 3
    for address in ("#task=tea&node=999", "#task=%E0%A4%A", "#node=-1", "#task=none&node=2", "#task=tea&node=1e9"):
        page.evaluate("address => { location.hash = address; }", address)
        page.wait_for_timeout(50)
        assert (page.inner_text("#name"), selected(page)) == ("tea", 0), address


def test_hostile_text_is_shown_and_does_nothing(show: Open) -> None:
    steps = [Step(HOSTILE, HOSTILE, HOSTILE), Step(HOSTILE + "2", "stop", HOSTILE)]
    good = trajectory(["a"], 1.0)
    bad = replace(good, sample=1, score=0.0, outcome=Outcome.AGENT_ERROR, error=HOSTILE, policy=HOSTILE)
    members = [replace(good, steps=tuple(steps)), replace(bad, steps=(Step(HOSTILE, "other"),))]
    page = show(*build([replace(t, task=HOSTILE) for t in members]), title=HOSTILE)
    page.focus("#stage")
    press(page, "c", "ArrowRight")
    page.mouse.move(600, 300)
    shown = visible(HOSTILE)
    for part in ("<U+202E>", "<U+0000>", "<U+D800>", "</script><script>", "&lt;b&gt;"):
        assert part in shown
    for place in ("h1", "#name", "#tasks", "#details", "#compare"):
        assert shown.split("\u2028")[0] in page.text_content(place), place
    assert page.title().startswith("</script><script>window.ran = 1")
    page.click("#compare .act >> nth=0")
    assert page.evaluate("window.ran") is None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_nothing_else_can_run_or_be_fetched(browser: Any, tmp_path: Path) -> None:
    """A fault in the page's own script would still meet the policy."""
    path = tmp_path / "viewer.html"
    write_viewer(kitchen(), path, title="Trees")
    page = browser.new_page()
    page.goto(path.as_uri())
    blocked = page.evaluate(
        """async () => {
          const blocked = new Set();
          document.addEventListener('securitypolicyviolation', (event) => blocked.add(event.effectiveDirective));
          await fetch('http://127.0.0.1:9/').catch(() => 0);
          const image = document.createElement('img');
          image.src = 'http://127.0.0.1:9/';
          const refused = (attempt) => { try { attempt(); } catch (error) { blocked.add(error.name); } };
          refused(() => image.setAttribute('onerror', 'window.ran = 1'));
          const script = document.createElement('script');
          script.append('window.ran = 2');
          const style = document.createElement('style');
          style.append('body { display: none }');
          document.body.append(image, script, style);
          refused(() => { document.body.innerHTML = '<b>x</b>'; });
          await new Promise((done) => setTimeout(done, 200));
          return [...blocked];
        }"""
    )
    assert {"connect-src", "img-src", "style-src-elem", "TypeError"} <= set(blocked)
    assert page.evaluate("window.ran") is None
    page.close()


def test_controls_have_names_and_are_reached_by_keys(show: Open) -> None:
    page = show(*kitchen(), address="#task=tea&node=1")
    press(page, "c")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, [tabindex="0"]')]
          .filter((one) => !(one.ariaLabel || one.labels?.length || one.textContent.trim()))
          .map((one) => one.outerHTML)"""
    )
    assert nameless == []
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(40):
        press(page, "Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    for name in ("ask", "filter", "sort", "turn", "tasks", "search", "out", "in", "fit", "stage"):
        assert name in reached
    page.focus("#stage")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    press(page, "?")
    assert page.is_visible("#help")
    press(page, "Escape")
    assert page.is_hidden("#help")
    assert page.is_visible("#compare"), "closing the help closes nothing else"


def picture(page: Any) -> str:
    page.wait_for_timeout(100)
    return str(page.evaluate("document.querySelector('canvas').toDataURL()"))


def test_the_picture_shows_what_is_compared_and_follows_its_frame(show: Open) -> None:
    page = show(*kitchen(), address="#task=tea&node=1")
    page.set_viewport_size({"width": 600, "height": 900})
    plain = picture(page)
    page.focus("#stage")
    press(page, "c")
    best_and_worst = picture(page)
    page.select_option("#compare select >> nth=1", label="wait · sample 4 · 0.50 · completed")
    assert len({plain, best_and_worst, picture(page)}) == 3
    press(page, "Escape")
    page.set_viewport_size({"width": 100, "height": 200})
    page.wait_for_timeout(100)
    page.set_viewport_size({"width": 600, "height": 900})
    assert picture(page) == plain


def brightness(page: Any) -> int:
    page.wait_for_timeout(100)
    return int(
        page.evaluate(
            """() => {
              const copy = document.createElement('canvas').getContext('2d');
              copy.drawImage(document.querySelector('canvas'), 0, 0);
              return copy.getImageData(2, 2, 1, 1).data[0];
            }"""
        )
    )


def test_light_dark_wide_and_narrow(show: Open) -> None:
    page = show(*kitchen())
    page.emulate_media(color_scheme="dark")
    assert brightness(page) < 60
    page.emulate_media(color_scheme="light")
    assert brightness(page) > 200
    for width in (1000, 700, 360):
        page.set_viewport_size({"width": width, "height": 700})
        page.focus("#stage")
        press(page, "Home", "f", "c")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        assert page.locator("#stage").bounding_box()["height"] > 100
        assert brightness(page) > 200, "the canvas is drawn again after it changed its size"


def large(nodes: int) -> TrajectoryTree:
    rng = random.Random(0)
    words = ("go north", "open the door", "look around", "pick up key")
    members: list[Trajectory] = []
    steps = 0
    while steps < nodes * 1.5:
        actions = [rng.choice(words) for _ in range(rng.randint(5, 20))]
        seen = [f"after {depth}" for depth in range(len(actions))]
        members.append(trajectory(actions, rng.random(), sample=len(members), seen=seen))
        steps += len(actions)
    return build_tree(members)


def test_a_large_tree_is_fluent(show: Open) -> None:
    tree = large(5000)
    assert len(tree) >= 5000
    page = show(tree)
    drawn = page.evaluate("performance.getEntriesByName('trajtree-drawn')[0].startTime")
    frames = page.evaluate(
        """async () => {
          const stage = document.getElementById('stage');
          const box = stage.getBoundingClientRect();
          const at = (x, y) => ({ clientX: box.left + x, clientY: box.top + y, pointerId: 1, cancelable: true });
          const frame = () => new Promise(requestAnimationFrame);
          stage.setPointerCapture = () => 0;
          const times = [];
          let last = await frame();
          for (let i = 0; i < 60; i++) {
            if (i % 2) stage.dispatchEvent(new WheelEvent('wheel', { ...at(300, 300), deltaY: i < 30 ? -40 : 40 }));
            else {
              stage.dispatchEvent(new PointerEvent('pointerdown', at(300, 300)));
              stage.dispatchEvent(new PointerEvent('pointermove', at(310, 306)));
              stage.dispatchEvent(new PointerEvent('pointerup', at(310, 306)));
            }
            const now = await frame();
            times.push(now - last);
            last = now;
          }
          return times.sort((a, b) => a - b);
        }"""
    )
    print(f"{len(tree)} nodes: drawn after {drawn:.0f} ms, median frame {frames[30]:.1f} ms, worst {frames[-1]:.1f} ms")
    assert drawn < 3000
    assert frames[30] < 50
    page.focus("#stage")
    press(page, "End")
    assert selected(page) == exact(tree).end


def test_a_path_of_thousands_of_steps(show: Open) -> None:
    """Nothing that walks the tree may recurse."""
    steps = 5000
    tree = build_tree([trajectory(["on"] * steps, 1.0, seen=[str(i) for i in range(steps)])])
    page = show(tree)
    page.focus("#stage")
    press(page, "End", "ArrowLeft")
    assert selected(page) == tree.parent[exact(tree).end]


def test_rows_do_not_collide(show: Open) -> None:
    """Walking down a level visits its nodes from top to bottom, each below the one before."""
    tree = large(300)
    page = show(tree)
    page.focus("#stage")
    press(page, *["ArrowRight"] * 5)
    heights, nodes = [], []
    for _ in range(8):
        page.wait_for_timeout(60)
        nodes.append(selected(page))
        heights.append(page.locator(".item").bounding_box()["y"])
        press(page, "ArrowDown")
    assert len(set(nodes)) == len(nodes), "a level of more nodes than steps"
    assert all(above < below for above, below in pairwise(heights))
