"""The rejected side of a pair: the worse run's continuation behind the better run's past."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from msgspec import structs

from trajtree.errors import DataError
from trajtree.trajectory import Message, ToolCall, Trajectory

_Place = tuple[int, int]
"""A call's place in a conversation: the number of its reply, and its number in it."""


class Ungraftable(DataError):
    """The worse run's continuation relies on tool calls that the better run's past does not have."""


def grafted(better: Trajectory, worse: Trajectory, depth: int) -> tuple[Message, ...]:
    """Messages of the rejected side: `better` up to its reply at `depth`, `worse` from there on.

    The tool calls of the two pasts may have different ids, also where the pasts are equal otherwise. A result in the
    continuation that answers a call of the past then names the better run's call, and a call in it whose id the better
    run has used gets another id.

    Raises:
        Ungraftable: different calls of the pasts are still open, or a result answers a call that the better run's past
            does not have.
    """
    past, tail = better.messages[: better.replies[depth]], worse.messages[worse.replies[depth] :]
    own_past = worse.messages[: worse.replies[depth]]
    if past == own_past:
        return past + tail
    here, there = _calls(past), _calls(own_past)
    if _open(past) != _open(own_past):
        raise _refused(better, worse, depth, "their pasts have different tool calls that no result has answered yet")
    taken = {call.id for call in here.values()}
    # ids: what each id of the worse run becomes; at first those of its past, by their places.
    ids = {call.id: here[place].id for place, call in there.items() if place in here}
    own = {call.id for call in there.values()}
    renamed = []
    for message in tail:
        if message.tool_calls:
            for call in message.tool_calls:
                ids[call.id] = _free(call.id, taken) if call.id in taken and call.id not in own else call.id
                taken.add(ids[call.id])
            calls = tuple(structs.replace(call, id=ids[call.id]) for call in message.tool_calls)
            message = structs.replace(message, tool_calls=calls)
        answers = message.tool_call_id
        if answers in ids:
            message = structs.replace(message, tool_call_id=ids[answers])
        elif answers in own or answers in taken:
            raise _refused(better, worse, depth, f"a result answers call {answers!r}, which only one of them made")
        renamed.append(message)
    return (*past, *renamed)


def _calls(messages: Sequence[Message]) -> dict[_Place, ToolCall]:
    """The tool calls of a conversation by their places."""
    replies = [message for message in messages if message.role == "assistant"]
    return {(turn, n): call for turn, reply in enumerate(replies) for n, call in enumerate(reply.tool_calls)}


def _open(messages: Sequence[Message]) -> list[_Place]:
    """The places of the calls that no result answers."""
    waiting: dict[_Place, ToolCall] = {}
    turn = 0
    for message in messages:
        if message.role == "assistant":
            waiting |= {(turn, number): call for number, call in enumerate(message.tool_calls)}
            turn += 1
        elif message.role == "tool":
            # Without an id it answers all that are open.
            answered = message.tool_call_id
            waiting = {place: c for place, c in waiting.items() if answered is not None and c.id != answered}
    return list(waiting)


def _free(id: str, taken: set[str]) -> str:
    return next(name for number in count(2) if (name := f"{id}_{number}") not in taken)


def _refused(better: Trajectory, worse: Trajectory, depth: int, reason: str) -> Ungraftable:
    return Ungraftable(
        f"task {better.task}, step {depth + 1}: sample {worse.sample} cannot go on from the past of sample "
        f"{better.sample}: {reason}; take only pairs with equal pasts (--past equal), or leave one of the runs out"
    )


__all__ = ["Ungraftable", "grafted"]
