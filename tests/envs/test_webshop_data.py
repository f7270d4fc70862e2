"""Bringing product files: what is read, what is kept, and what is said of broken ones."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.builders import Told
from tests.envs.made_up_shop import content, write_original, write_packed

pytest.importorskip("bm25s", reason="needs the extra webshop")
pytest.importorskip("Stemmer", reason="needs the extra webshop")

import bm25s

from trajtree.envs.webshop import Shop, import_data, index_file, json_stream, open_shop, sources
from trajtree.envs.webshop import ranking as search_module
from trajtree.envs.webshop.index_file import IndexWriter
from trajtree.envs.webshop.json_stream import array_items, object_items
from trajtree.envs.webshop.ranking import Search, terms
from trajtree.envs.webshop.shop import data_folder
from trajtree.errors import DataError, EnvError


def same_shop(one: Shop, two: Shop) -> None:
    assert list(one.products) == list(two.products)
    assert one.goals == two.goals
    for query in ("enamel mug", "brass lamp", "linen shirts", "nothing"):
        assert one.search(query) == two.search(query)


@pytest.mark.parametrize("write", [write_packed, write_original])
def test_an_import_equals_the_files_in_memory(tmp_path: Path, write: Any) -> None:
    source = write(tmp_path)
    told = Told()
    report = import_data(source, told, folder=tmp_path / "data")
    assert (report.products, report.synthetic, report.human) == (17, 3, 2)
    assert report.sources[0].sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert report.sources[0].bytes == source.stat().st_size and sum(told.amounts) == 17
    same_shop(open_shop(tmp_path / "data"), Shop.read(sources.find_files(source)))
    assert {file.name for file in tmp_path.iterdir() if file.name.startswith(".")} == set()


def test_another_hash_is_refused(tmp_path: Path) -> None:
    source = write_packed(tmp_path)
    right = hashlib.sha256(source.read_bytes()).hexdigest()
    assert import_data(source, folder=tmp_path / "data", sha256=right.upper()).products == 17
    with pytest.raises(DataError, match=f"has sha256 {right}, not 00: it is a different file"):
        import_data(source, folder=tmp_path / "other", sha256="00")
    assert not (tmp_path / "other").exists()


def test_a_folder_is_searched_for_the_files(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_original(tmp_path / "in")
    assert import_data(tmp_path / "in", folder=tmp_path / "data").products == 17
    write_packed(tmp_path / "in")
    with pytest.raises(DataError, match="name the one to import"):
        import_data(tmp_path / "in", folder=tmp_path / "data")


def test_large_files_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks and blocks of a few bytes: every piece is cut somewhere, attributes lie on disk."""
    source = write_original(tmp_path)
    whole = Shop.read(sources.find_files(source))
    monkeypatch.setattr(json_stream, "CHUNK", 7)
    monkeypatch.setattr(sources, "SMALL", 100)
    monkeypatch.setattr(index_file, "BLOCK", 5)
    import_data(source, folder=tmp_path / "data")
    same_shop(open_shop(tmp_path / "data"), whole)


def test_an_import_replaces_the_last_one_and_nothing_else(tmp_path: Path) -> None:
    source = write_packed(tmp_path)
    for _ in range(2):
        import_data(source, folder=tmp_path / "data")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="contains something else"):
        import_data(source, folder=tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_a_failed_import_leaves_the_last_one(tmp_path: Path) -> None:
    import_data(write_packed(tmp_path), folder=tmp_path / "data")
    broken = tmp_path / "items_shuffle_1.json"
    broken.write_text("[{}]")
    (tmp_path / "items_ins_v2_1.json").write_text("{}")
    with pytest.raises(DataError):
        import_data(broken, folder=tmp_path / "data")
    open_shop.__globals__["_opened"].cache_clear()
    assert len(open_shop(tmp_path / "data").products) == 17


def test_the_index_is_the_one_that_bm25s_makes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = [f"word{number}" for number in range(60)]
    documents = [list(rng.choice(words, size=rng.integers(1, 40))) for _ in range(200)]
    writer = IndexWriter(tmp_path / "index")
    for document in documents:
        writer.add(document)
    writer.finish()
    theirs = bm25s.BM25(k1=0.9, b=0.4, method="lucene")
    theirs.index(documents, show_progress=False)
    ours = bm25s.BM25.load(tmp_path / "index", mmap=True, show_progress=False)
    for query in (["word1"], ["word3", "word59", "word3"], words):
        np.testing.assert_allclose(ours.get_scores(query), theirs.get_scores(query), rtol=1e-5)


def test_words_are_cut_as_lucene_cuts_them() -> None:
    assert terms("The Men's running shoes, 3.5oz U.S.A don't 1,000 16x16") == [
        "men",
        "run",
        "shoe",
        "3.5oz",
        "u.s.a",
        "don't",
        "1,000",
        "16x16",
    ]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(search_module, "import_module", missing)
    search_module._analyser.cache_clear()
    for call in (lambda: terms("red mug"), lambda: Search.over(["red mug"])):
        with pytest.raises(EnvError, match=r"pip install 'trajtree\[webshop\]'"):
            call()


def test_the_search_keeps_the_order_of_equal_documents() -> None:
    search = Search.over(["red mug", "blue mug", "mug", "red mug", *["tall mug"] * 60])
    assert search.best("red") == (0, 3)
    assert len(search.best("mug")) == 50 and search.best("tall")[:3] == (4, 5, 6)
    assert search.best("") == search.best("the") == ()


def broken(tmp_path: Path, change: Any, part: str = "products") -> DataError:
    """The error that the packed file gives after a change to one part of it."""
    made = content()
    change(made[part])
    path = tmp_path / "products_broken.json.xz"
    path.write_bytes(lzma.compress(json.dumps(made).encode()))
    with pytest.raises(DataError) as caught:
        import_data(path, folder=tmp_path / "data")
    assert str(path) in str(caught.value) and not (tmp_path / "data").exists()
    return caught.value


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", None, "row 2: name must be text, got None"),
        ("category", 3, "row 2: category must be text, got 3"),
        ("pricing", "free", "row 2: pricing is 'free', which contains no price"),
        ("pricing", "$", "row 2: pricing is '\\$', which contains no price"),
        ("pricing", 5, "row 2: pricing must be text"),
        ("small_description", [1], "row 2: small_description must be a list of texts"),
        ("customization_options", "x", "row 2: customization_options must be an object"),
        ("customization_options", {"Color": [{"v": 1}]}, "row 2: customization_options.Color must be a list"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, field: str, value: object, words: str) -> None:
    def change(products: list[dict[str, Any]]) -> None:
        products[2][field] = value

    with pytest.raises(DataError, match=words):
        raise broken(tmp_path, change)


def test_broken_instructions_are_named(tmp_path: Path) -> None:
    def no_attributes(attrs: dict[str, Any]) -> None:
        attrs["B0TEST0003"]["instruction_attributes"] = []

    def no_options(human: dict[str, Any]) -> None:
        del human["B0TEST0004"][0]["instruction_options"]

    assert "attrs: B0TEST0003: instruction_attributes" in str(broken(tmp_path, no_attributes, "attrs"))
    assert "human: B0TEST0004, instruction 0: instruction_options" in str(broken(tmp_path, no_options, "human"))


def test_a_row_that_is_no_object_is_named(tmp_path: Path) -> None:
    assert "row 0: must be an object, got int" in str(broken(tmp_path, lambda rows: rows.__setitem__(0, 7)))


@pytest.mark.parametrize("kept", [0, 1, 40, 0.5, 0.99])
def test_a_cut_off_packed_file(tmp_path: Path, kept: float) -> None:
    path = write_packed(tmp_path)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(kept * len(raw)) if kept < 1 else int(kept)])
    with pytest.raises(DataError, match=r"damaged or cut off|is not JSON"):
        import_data(path, folder=tmp_path / "data")


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.7, 0.999])
def test_a_cut_off_file_of_products(tmp_path: Path, kept: float) -> None:
    path = write_original(tmp_path)
    text = path.read_bytes()
    path.write_bytes(text[: int(kept * len(text))])
    with pytest.raises(DataError, match=r"row|JSON array"):
        import_data(path, folder=tmp_path / "data")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    path = write_original(tmp_path)
    (tmp_path / "items_ins_v2_1000.json").unlink()
    with pytest.raises(DataError, match=r"items_ins_v2_1000.json: is missing; items_shuffle_1000.json needs it"):
        import_data(path, folder=tmp_path / "data")
    with pytest.raises(DataError, match="no such file"):
        import_data(tmp_path / "none.json.xz", folder=tmp_path / "data")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="contains neither"):
        import_data(tmp_path / "empty", folder=tmp_path / "data")


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("[]", []),
        (" [ ] ", []),
        ("[1, 23,\n456]", [1, 23, 456]),
        ('[{"a": "]"}, "x,y", null]', [{"a": "]"}, "x,y", None]),
        ("\ufeff[true]", [True]),
    ],
)
def test_arrays_are_read_in_pieces_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, items: list[object]
) -> None:
    path = tmp_path / "array.json"
    path.write_text(text, "utf-8")
    for chunk in (1, 2, 3, 1000):
        monkeypatch.setattr(json_stream, "CHUNK", chunk)
        assert list(array_items(path)) == items


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a JSON array, got the end of the file"),
        ("{}", "expected a JSON array, got '{'"),
        ("[1 2]", "',' or ']' after row 0, got '2'"),
        ("[1, ]", "row 1 is not JSON"),
        ('[1, {"a"', "row 1 is not JSON: the file ends in the middle"),
        ("[1", "',' or ']' after row 0, got the end of the file"),
    ],
)
def test_broken_arrays_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "array.json"
    path.write_text(text, "utf-8")
    with pytest.raises(DataError, match=words):
        list(array_items(path))


def test_broken_objects_are_named(tmp_path: Path) -> None:
    path = tmp_path / "object.json"
    for text, words in (
        ("[]", "a JSON object"),
        ('{"a" 1}', "':' after 'a'"),
        ("{1: 2}", "key of entry 0 must be text"),
        ('{"a": }', "entry 'a' is not JSON"),
    ):
        path.write_text(text, "utf-8")
        with pytest.raises(DataError, match=words):
            list(object_items(path))
    path.write_bytes(b'{"a": "\xff\xff"}')
    with pytest.raises(DataError, match="not UTF-8"):
        list(object_items(path))


def test_a_damaged_import_is_not_opened(tmp_path: Path) -> None:
    source = write_packed(tmp_path)
    for number, (name, change, words) in enumerate(
        (
            ("manifest.json", lambda raw: raw.replace(b'"format": 1', b'"format": 0'), "another version"),
            ("manifest.json", lambda raw: raw[:20], "import the products again"),
            ("products.jsonl", lambda raw: raw[:-10], "import the products again"),
            ("manifest.json", lambda raw: raw.replace(b'"products": 17', b'"products": 18'), "not 18"),
        )
    ):
        folder = tmp_path / str(number)
        import_data(source, folder=folder)
        (folder / name).write_bytes(change((folder / name).read_bytes()))
        with pytest.raises(DataError, match=words):
            open_shop(folder)


def test_where_data_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAJTREE_DATA", str(tmp_path / "a"))
    assert data_folder() == tmp_path / "a" / "webshop"
    monkeypatch.delenv("TRAJTREE_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "b"))
    assert data_folder() == tmp_path / "b" / "trajtree" / "webshop"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert data_folder().parts[-4:] == (".local", "share", "trajtree", "webshop")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    source = write_packed(tmp_path)
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(DataError, match="cannot be written"):
        import_data(source, folder=tmp_path / "locked" / "data")
