"""A folder is what it was, or the first difference is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from trajtree.store.manifest import as_json, digest_of, from_json, manifest_of, verified


def test_digest_depends_on_names_and_contents(tmp_path: Path) -> None:
    def digest() -> str:
        return digest_of(manifest_of(tmp_path, without=["stage.json"]))

    (tmp_path / "a").write_text("1")
    digests = [digest()]
    (tmp_path / "a").write_text("2")
    digests.append(digest())
    (tmp_path / "a").rename(tmp_path / "b")
    digests.append(digest())
    (tmp_path / "sub").mkdir()
    (tmp_path / "b").rename(tmp_path / "sub" / "b")
    digests.append(digest())
    assert len(set(digests)) == 4
    for name in ("stage.json", ".b.lock", ".b.17.tmp"):
        (tmp_path / name).write_text("{}")
    assert digest() == digests[-1]


def test_a_digest_is_what_it_was(tmp_path: Path) -> None:
    """Stages' keys hang on it, so one that changed would have every run redone."""
    for name in ("a-b", "a/c", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert digest_of(manifest_of(tmp_path)) == "d5eea82d349cfb599f2fe41f3a377cfbdd64b9e240a34834c962b65c729370ff"


def test_a_manifest_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    manifest = manifest_of(tmp_path)
    assert verified(tmp_path, from_json(as_json(manifest))) == manifest
    for damaged in (None, [], {"a": 1}, {"a": {"size": "1"}}):
        with pytest.raises(ValueError, match="no list of files"):
            from_json(damaged)
