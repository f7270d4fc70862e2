"""How a run ended, by the word that its tool has for it."""

from __future__ import annotations

from collections.abc import Mapping

from trajtree.errors import DataError
from trajtree.trajectory import Outcome


def ended(reason: object, where: str, known: Mapping[str, Outcome]) -> Outcome:
    """The outcome of a run.

    Args:
        reason: the tool's word for it.
        where: the field that holds it, for errors.
        known: the words for ends that are the agent's, with their outcomes.

    Raises:
        DataError: it is another word, such as an exception's name: the environment, the model's server or the user
            failed, which says nothing about the agent.
    """
    found = known.get(reason) if isinstance(reason, str) else None
    if found is None:
        said = str(reason)[:80]
        raise DataError(
            f"{where}: {said!r} says that something other than the agent failed; such a run says nothing about it"
        )
    return found


__all__ = ["ended"]
