"""What is said of a cluster that cannot be reached; the clusters themselves are in test_cluster.py."""

from __future__ import annotations

import pytest

from trajtree.errors import RunError

ray = pytest.importorskip("ray")


@pytest.mark.parametrize(("mode", "hint"), [(None, "set RAY_AUTH_MODE=token"), ("token", "auth_token here the one of")])
def test_a_cluster_that_may_ask_for_a_token_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, mode: str | None, hint: str
) -> None:
    """Ray says only that it could not connect."""
    from trajtree.cluster.connection import connected

    def refused(*_: object, **__: object) -> None:
        raise ConnectionError("Failed to connect to Ray cluster")

    monkeypatch.setattr(ray, "init", refused)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if mode is None:
        monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    else:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    with (
        pytest.raises(RunError, match=f"cannot be used: Failed to connect.*{hint}"),
        connected("ray", environment="toy", models=[], needs={}, say=print),
    ):
        pass
