"""Uploading to the hub, with the hub's side played here."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

huggingface_hub = pytest.importorskip("huggingface_hub")

from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError  # noqa: E402

from trajtree.errors import PolicyError  # noqa: E402
from trajtree.models.hub import push  # noqa: E402


def test_the_folder_is_uploaded_to_a_private_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []

    class Api:
        def create_repo(self, name: str, **settings: Any) -> Any:
            asked.append((name, settings))
            return SimpleNamespace(repo_id=f"me/{name}")

        def upload_folder(self, **settings: Any) -> None:
            asked.append(("upload", settings))

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    push(tmp_path, "tuned")
    assert asked == [
        ("tuned", {"private": True, "exist_ok": True}),
        ("upload", {"folder_path": tmp_path, "repo_id": "me/tuned"}),
    ]


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (LocalTokenNotFoundError("no token"), "hf auth login"),
        (HFValidationError("two slashes"), "OWNER/NAME"),
        (ConnectionError("no route"), "does not answer .* upload it later"),
    ],
)
def test_what_the_hub_refuses_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, message: str
) -> None:
    class Api:
        def create_repo(self, *_: Any, **__: Any) -> Any:
            raise raised

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    with pytest.raises(PolicyError, match=message):
        push(tmp_path, "tuned")
