"""WebShop as an environment: search and click over text, and a score when something is bought."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.resources import files
from typing import ClassVar

from trajtree.envs.base import Environment, StepResult
from trajtree.envs.webshop.goals import Goal
from trajtree.envs.webshop.pages import page_text, short_page_text
from trajtree.envs.webshop.reward import Reward, reward
from trajtree.envs.webshop.shop import Shop, open_shop
from trajtree.envs.webshop.state import Page, State, click, search, targets

MAX_STEPS = 10
"""Actions per episode, as in the paper's code."""


@dataclass(frozen=True, slots=True)
class Actions:
    """What can be done on a page: whether it has a search field, and its clickable texts."""

    has_search_bar: bool
    clickables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An episode at one moment; pass it to `WebShop.restore` of any instance over the same shop."""

    task: str
    goal: Goal
    state: State
    steps: int
    terminated: bool
    truncated: bool
    result: Reward | None


class WebShop(Environment):
    """WebShop over text; tasks are written "synthetic/17" or "human/3" (kind of goal / its number).

    Actions are `search[words]`, possible on every page, and `click[text]` with a text of the page; case does not matter
    inside the brackets. Anything else leaves the page unchanged and costs a step. There is a score only after
    `click[Buy Now]`, which ends the episode whatever was bought: a completed episode is a success only if it scores
    1. At the step limit, the episode is truncated with score 0.

    Unlike the original, debugging queries (`<r>`, `<a>`, `<c>`, `<q>`) are searched as plain words.
    """

    name: ClassVar[str] = "webshop"
    version: ClassVar[str] = "native-1"
    instruction: ClassVar[str] = (files("trajtree.envs.webshop") / "instruction.txt").read_text("utf-8").strip()
    _page_text = staticmethod(page_text)

    def __init__(self, *, max_steps: int | None = None, shop: Shop | None = None) -> None:
        """Make an idle environment over `shop`, or over the imported products, opened by the first `reset`."""
        self._max_steps = max_steps or MAX_STEPS
        self._shop = shop
        self._now: Snapshot | None = None

    @property
    def shop(self) -> Shop:
        """The shop in use.

        Raises:
            DataError: no products were imported.
        """
        self._shop = self._shop or open_shop()
        return self._shop

    def max_steps(self, task: str) -> int:
        """Number of actions after which an episode of the task is truncated."""
        return self._max_steps

    def goal(self, task: str) -> Goal:
        """The goal behind a task.

        Raises:
            KeyError: the task does not exist.
        """
        return self.shop.goal(task)

    def reset(self, task: str) -> str:
        """Start the task; the observation is the search page, which states it.

        Raises:
            KeyError: the task does not exist.
            DataError: no products were imported.
        """
        self._now = Snapshot(task, self.goal(task), State(), 0, False, False, None)
        return self._text(self._now)

    def step(self, action: str) -> StepResult:
        """Perform the action.

        Raises:
            RuntimeError: there was no `reset`.
        """
        before = self.snapshot()
        if before.terminated or before.truncated:
            return StepResult("The episode is over.", 0.0, before.terminated, before.truncated)
        state = self._after(before.state, action)
        now = replace(before, state=state, steps=before.steps + 1)
        if state.page is Page.DONE:
            now = replace(now, terminated=True, result=self._bought(before.goal, state))
        elif now.steps >= self._max_steps:
            now = replace(now, truncated=True)
        self._now = now
        return StepResult(self._text(now), now.result.score if now.result else 0.0, now.terminated, now.truncated)

    def available_actions(self) -> Actions:
        """What the page offers.

        Raises:
            RuntimeError: there was no `reset`.
        """
        state = self.snapshot().state
        return Actions(state.page is Page.SEARCH, tuple(targets(self.shop, state)))

    def snapshot(self) -> Snapshot:
        """The episode as it is now.

        Raises:
            RuntimeError: there was no `reset`.
        """
        if self._now is None:
            raise RuntimeError("step before reset")
        return self._now

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from where the snapshot was taken."""
        self._now = snapshot

    def close(self) -> None:
        """Leave the episode; the shop stays open for other instances."""
        self._now = None

    def _after(self, state: State, action: str) -> State:
        name, argument = parse_action(action)
        if name == "search" and argument:
            return search(argument.lower())
        if name == "click":
            return click(self.shop, state, argument.lower())
        return state

    def _bought(self, goal: Goal, state: State) -> Reward:
        assert state.product is not None
        return reward(self.shop.product(state.product), dict(state.options), goal, self.shop.product(goal.product))

    def _text(self, now: Snapshot) -> str:
        return self._page_text(self.shop, now.state, now.goal.instruction, now.result.score if now.result else 0.0)

    @staticmethod
    def canonical_action(action: str) -> str:
        """The action as the shop reads it: lower case inside the brackets, single spaces between search words."""
        name, argument = parse_action(action)
        if name == "search" and argument:
            return f"search[{' '.join(argument.lower().split()) or ' '}]"
        if name == "click" and argument:
            return f"click[{argument.lower()}]"
        return action


class ShortWebShop(WebShop):
    """WebShop with pages in about a third of the tokens, for models with short contexts.

    Goals, clicks and scores are WebShop's. It has a name of its own because the observations differ.
    """

    name: ClassVar[str] = "webshop-short"

    _page_text = staticmethod(short_page_text)


def parse_action(action: str) -> tuple[str, str]:
    """Name and argument of `name[argument]` at the beginning of the action; ("", "") if it has another form.

    Brackets match as in the original's pattern `(.+)\\[(.+)\\]`: the last "]" of the first line, and the last "[" that
    leaves a non-empty argument.
    """
    line = action.partition("\n")[0]
    end = line.rfind("]")
    start = line.rfind("[", 1, max(end - 1, 0))
    return (line[:start], line[start + 1 : end]) if start > 0 else ("", "")


__all__ = ["MAX_STEPS", "Actions", "ShortWebShop", "Snapshot", "WebShop", "parse_action"]
