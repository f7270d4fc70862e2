"""The actions possible in a state, and their results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from trajtree.envs.alfworld.dialects import Dialect
from trajtree.envs.alfworld.scene import Scene
from trajtree.envs.alfworld.state import State, with_, without


class Action(NamedTuple):
    """A verb and the ids of its object and tool; empty if the verb needs none."""

    verb: str
    what: str = ""
    other: str = ""


def possible(scene: Scene, state: State, dialect: Dialect) -> dict[str, Action]:
    """Every action possible in the state, by its command."""
    names, held = scene.names, state.held
    commands = {"look": Action("look"), "inventory": Action("inventory")}
    if dialect.help is not None:
        commands["help"] = Action("help")
    for receptacle, place in scene.location.items():
        if place != state.place:
            commands[f"go to {names[receptacle]}"] = Action("go", receptacle)
    for receptacle in scene.reached.get(state.place, ()):
        commands |= _at(scene, state, dialect, receptacle)
    if held is not None:
        commands[f"examine {names[held]}"] = Action("examine", held)
        if held in scene.knives:
            for id in state.at.get(state.place, ()):
                if id in scene.sliceable:
                    commands[f"slice {names[id]} with {names[held]}"] = Action("slice", id, held)
    return commands


def _at(scene: Scene, state: State, dialect: Dialect, receptacle: str) -> Iterator[tuple[str, Action]]:
    """The actions possible with one receptacle within reach."""
    names, held = scene.names, state.held
    name = names[receptacle]
    inside = state.inside.get(receptacle, ())
    yield f"examine {name}", Action("examine", receptacle)
    for id in inside:
        # A lamp in a closed drawer can be used, though it cannot be seen.
        if id in scene.toggleable:
            yield f"use {names[id]}", Action("use", id)
    if receptacle in scene.openable:
        is_open = receptacle in state.opened
        verb = "close" if is_open else "open"
        yield f"{verb} {name}", Action(verb, receptacle)
    else:
        is_open = True
    if is_open:
        for id in inside:
            # Only what is in hand can be examined: the domain's rule for other objects has a mistake that disables it.
            if held is None and id in scene.pickupable:
                yield f"take {names[id]} from {name}", Action("take", id, receptacle)
    if held is None:
        return
    kind = scene.receptacle_type.get(receptacle, "")
    if is_open and kind in scene.fits.get(held, ()):
        yield dialect.put.format(names[held], name), Action("put", held, receptacle)
    for verb, where, can in (
        ("clean", "sinkbasintype", scene.cleanable),
        ("heat", "microwavetype", scene.heatable),
        ("cool", "fridgetype", scene.coolable),
    ):
        if kind == where and held in can:
            yield f"{verb} {names[held]} with {name}", Action(verb, held, receptacle)


def result(scene: Scene, state: State, action: Action) -> State:
    """The state after a possible action."""
    verb, what, other = action
    one = frozenset({what})
    match verb:
        case "go":
            return replace(state, place=scene.location[what])
        case "open":
            return replace(state, opened=state.opened | one)
        case "close":
            return replace(state, opened=state.opened - one)
        case "take":
            return replace(
                state,
                held=what,
                inside=without(state.inside, other, what),
                at=without(state.at, state.place, what),
                removed=state.removed | {(what, other)},
            )
        case "put":
            return replace(
                state,
                held=None,
                inside=with_(state.inside, other, what),
                at=with_(state.at, state.place, what),
                removed=state.removed - {(what, other)},
            )
        case "clean":
            return replace(state, clean=state.clean | one)
        case "heat":
            return replace(state, hot=state.hot | one, cool=state.cool - one)
        case "cool":
            return replace(state, cool=state.cool | one, hot=state.hot - one)
        case "use":
            return replace(state, toggled=state.toggled | one)
        case "slice":
            return replace(state, sliced=state.sliced | one)
    return state


__all__ = ["Action", "possible", "result"]
