"""The texts that the agent sees, identical to textworld's."""

from __future__ import annotations

from collections.abc import Iterable

from trajtree.envs.alfworld.actions import Action
from trajtree.envs.alfworld.dialects import Dialect
from trajtree.envs.alfworld.scene import Scene
from trajtree.envs.alfworld.state import State

BANNER = "-= Welcome to TextWorld, ALFRED! =-"
NOTHING_HAPPENS = "Nothing happens."


def opening(scene: Scene, state: State) -> str:
    """The first observation: banner, room and task, separated by blank lines."""
    room = _middle(scene, scene.location) if state.place not in scene.reached else look(scene, state)
    return f"{BANNER}\n\n{room}\n\nYour task is to: {scene.task}."


def told(scene: Scene, state: State, action: Action, dialect: Dialect) -> str:
    """The observation after an action that led to `state`."""
    verb, what, other = action
    name, other_name = scene.names.get(what, ""), scene.names.get(other, "")
    match verb:
        case "go":
            return f"{dialect.arrival(scene, what)} {_receptacle(scene, state, what)}"
        case "open":
            return f"You open the {name}. {_receptacle(scene, state, what)}"
        case "close":
            return f"You close the {name}."
        case "take":
            return f"You pick up the {name} from the {other_name}."
        case "put":
            return dialect.was_put.format(name, other_name)
        case "clean" | "heat" | "cool":
            return f"You {verb} the {name} using the {other_name}."
        case "use":
            return f"You turn on the {name}."
        case "slice":
            return f"You sliced the {name} with the {other_name}."
        case "inventory":
            return "You are not carrying anything." if state.held is None else f"You are carrying: {_a(scene, state)}."
        case "examine":
            return _receptacle(scene, state, what) if what in scene.location else _object(scene, state, what)
        case "help":
            return dialect.help or NOTHING_HAPPENS
    return look(scene, state)


def look(scene: Scene, state: State) -> str:
    """The answer to `look`: the receptacles in front, and what was left beside them."""
    here = scene.reached.get(state.place)
    if here is None:
        return _middle(scene, ())
    # An object moved from one receptacle to another at the same place counts as beside the first.
    beside = [id for id in state.at.get(state.place, ()) for receptacle in here if (id, receptacle) in state.removed]
    return (
        f"You are facing the {_listed(scene.names[id] for id in here)}. "
        f"Next to it, you see {_listed(f'a {scene.names[id]}' for id in beside)}."
    )


def _middle(scene: Scene, receptacles: Iterable[str]) -> str:
    seen = _listed(f"a {scene.names[id]}" for id in receptacles)
    return f"You are in the middle of a room. Looking quickly around you, you see {seen}."


def _a(scene: Scene, state: State) -> str:
    return f"a {scene.names[state.held]}" if state.held is not None else ""


def _receptacle(scene: Scene, state: State, receptacle: str) -> str:
    name = scene.names[receptacle]
    seen = _listed(f"a {scene.names[id]}" for id in state.inside.get(receptacle, ()))
    if receptacle not in scene.openable:
        return f"On the {name}, you see {seen}."
    if receptacle not in state.opened:
        return f"The {name} is closed."
    return f"The {name} is open. In it, you see {seen}."


def _object(scene: Scene, state: State, id: str) -> str:
    name = scene.names[id]
    if id in scene.inner:
        return f"This is a normal {name}. In it, you see {_listed(f'a {scene.names[i]}' for i in scene.inner[id])}."
    clean, hot, cool, sliced = (id in those for those in (state.clean, state.hot, state.cool, state.sliced))
    how = "hot" if hot else "cool" if cool and (clean or sliced) else "cold" if cool else ""
    if sliced and not (clean or hot or cool):
        # Without "clean", "hot" or "cool", being switched on takes precedence over being sliced.
        words = [] if id in scene.toggleable and id in state.toggled else ["sliced"]
    else:
        words = [" and ".join(filter(None, (how, "clean" if clean else ""))), "sliced" if sliced else ""]
    described = " ".join(filter(None, (*words, name)))
    if described != name:
        return f"This is a {described}."
    if id in scene.toggleable and id in state.toggled:
        return f"This {name} is on."
    return f"There's nothing special about {name}."


def _listed(things: Iterable[str]) -> str:
    *most, last = list(things) or ["nothing"]
    return f"{', '.join(most)}, and {last}" if most else last


__all__ = ["BANNER", "NOTHING_HAPPENS", "look", "opening", "told"]
