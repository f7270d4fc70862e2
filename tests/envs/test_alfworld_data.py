"""A user's games come in checked and whole, or not at all."""

from __future__ import annotations

import json
import lzma
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.builders import Told
from tests.envs.alfworld_data import GOLDEN, packed, task

from trajtree.envs import alfworld
from trajtree.envs.alfworld import TASK_TYPES, ALFWorld, data_folder, import_data, tasks
from trajtree.envs.alfworld.game_files import Games, games_in, scene_of
from trajtree.envs.alfworld.packed import PackedFile
from trajtree.errors import DataError

DOMAIN = "".join(
    f"(:action {name} :parameters ())"
    for name in (
        *("look", "inventory", "help", "examineReceptacle", "examineObject", "GotoLocation"),
        *(f"{verb}Object" for verb in ("Open", "Close", "Pickup", "Put", "Clean", "Heat", "Cool", "Toggle", "Slice")),
    )
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's data folder, empty at first."""
    monkeypatch.setenv("TRAJTREE_DATA", str(tmp_path / "data"))
    games_in.cache_clear()
    scene_of.cache_clear()
    return tmp_path / "data" / "alfworld"


def release(folder: Path, games: list[dict[str, Any]], split: str = "valid_seen", **changes: Any) -> Path:
    """A folder as alfworld-download leaves it."""
    for game in games:
        at = folder / split / game["id"].split("/", 1)[1]
        at.mkdir(parents=True)
        grammar = f'"rhs": "Your task is to: {game["goal"].rstrip(".")}."'
        tw = {"pddl_domain": DOMAIN, "grammar": grammar, "pddl_problem": game["pddl_problem"], "solvable": True}
        (at / "game.tw-pddl").write_text(json.dumps({**tw, "walkthrough": ["look", "move a 1 to b 2"], **changes}))
        (at / "traj_data.json").write_text(json.dumps({"task_type": game["task_type"]}))
    return folder


def test_packed_files_come_in_whole(home: Path) -> None:
    done = Told()
    report = import_data(GOLDEN, done)
    assert report.folder == home and sum(done.amounts) == 12
    assert [(file.path.name, file.games, file.left_out) for file in report.files] == [
        ("valid_seen.jsonl.xz", 6, 0),
        ("train.jsonl.xz", 6, 0),
    ]
    for file in report.files:
        index = json.loads((home / file.path.name.replace(".jsonl.xz", ".index.json")).read_text())
        assert (index["sha256"], index["size"], index["count"]) == (file.sha256, file.path.stat().st_size, 6)
        assert lzma.decompress(file.path.read_bytes()).count(b"\n") == 6
    for game in packed("train").values():
        stored = games_in(home).game(task(game))
        assert (stored.pddl_problem, stored.gt_actions) == (game["pddl_problem"], tuple(game["gt_actions"]))
    assert sorted(path.name for path in home.iterdir()) == sorted(
        f"{split}.{end}" for split in ("train", "valid_seen") for end in ("index.json", "jsonl.xz")
    )


def test_a_release_folder_comes_in(tmp_path: Path) -> None:
    games = list(packed("valid_seen").values())
    source = release(tmp_path / "release" / "json_2.1.1", games[:3])
    release(source, games[3:4], solvable=False)
    release(source, games[4:5], "train")
    sliced = source / "valid_seen" / "pick_Sliced" / "trial"
    sliced.mkdir(parents=True)
    (sliced / "traj_data.json").write_text("{}")
    report = import_data(tmp_path / "release")
    assert [(file.games, file.left_out) for file in report.files] == [(3, 2), (1, 0)]
    for game in games[:3]:
        assert games_in(report.folder).game(task(game)).gt_actions == ("look", "put a 1 in/on b 2")
        assert ALFWorld().reset(task(game)) == ALFWorld(folder=GOLDEN).reset(task(game))


def test_splits_are_disjoint_and_stable() -> None:
    import_data(GOLDEN)
    for kind in TASK_TYPES:
        dev, test = tasks(kind, "dev"), tasks(kind, "test")
        assert not set(dev) & set(test) and len(dev) + len(test) == 1
        assert len(tasks(kind, "train")) == 1 and all(name.startswith(kind) for name in tasks(kind, "train"))
    for wrong in (("fly", "train"), (TASK_TYPES[0], "valid")):
        with pytest.raises(KeyError):
            tasks(*wrong)


def test_unseen_rooms_are_the_test_where_they_are_there(home: Path) -> None:
    home.mkdir(parents=True)
    shutil.copy(GOLDEN / "valid_seen.jsonl.xz", home)
    shutil.copy(GOLDEN / "train.jsonl.xz", home / "valid_unseen.jsonl.xz")
    for kind in TASK_TYPES:
        assert [len(tasks(kind, split)) for split in ("dev", "test")] == [1, 1]
    with pytest.raises(DataError, match=r"train\.jsonl\.xz: missing"):
        tasks(TASK_TYPES[0], "train")


def test_no_games_says_how_to_get_them(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for ask in (lambda: tasks(TASK_TYPES[0], "train"), lambda: ALFWorld().reset("x/y")):
        with pytest.raises(DataError, match="trajtree data alfworld --from PATH"):
            ask()
    monkeypatch.delenv("TRAJTREE_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", str(home))
    assert data_folder() == home / "trajtree" / "alfworld"
    with pytest.raises(DataError, match=r"json_2\.1\.1"):
        import_data(home.parent.parent)
    with pytest.raises(DataError, match="does not exist"):
        import_data(home / "nowhere")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id": "a/b"', "line 2: not JSON"),
        (b"[]", "line 2: must be an object"),
        (b'{"id": "a/b", "task_type": "fly", "goal": "x", "pddl_problem": "x"}', "line 2, field task_type"),
        (b'{"id": "a/b", "task_type": "pick_and_place_simple", "goal": 1}', "line 2, field goal"),
        (b'{"id": "a/b", "task_type": "pick_and_place_simple", "goal": "x", "pddl_problem": "("}', "line 2.*cut off"),
        (None, "line 2, field id: .* also occurs at"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_written(
    home: Path, tmp_path: Path, line: bytes | None, message: str
) -> None:
    good = lzma.decompress((GOLDEN / "train.jsonl.xz").read_bytes()).splitlines()[0]
    source = tmp_path / "train.jsonl.xz"
    source.write_bytes(lzma.compress(good + b"\n" + (line or good) + b"\n"))
    with pytest.raises(DataError, match=message):
        import_data(source)
    assert not list(home.iterdir())


def test_a_truncated_file_is_named(tmp_path: Path, home: Path) -> None:
    whole = (GOLDEN / "train.jsonl.xz").read_bytes()
    cut = tmp_path / "train.jsonl.xz"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"train\.jsonl\.xz, after line .*cut off or damaged"):
        import_data(cut)
    cut.write_bytes(b"no xz at all")
    with pytest.raises(DataError, match="cut off or damaged"):
        PackedFile(cut)


def test_a_changed_file_or_index_is_noticed(home: Path) -> None:
    import_data(GOLDEN)
    name = task(next(iter(packed("train").values())))
    path, index = home / "train.jsonl.xz", home / "train.index.json"
    told = json.loads(index.read_text())
    for change, message in (
        ({"version": 9}, "field version"),
        ({"format": "x"}, "field format"),
        ({"sha256": "0"}, "is not the file"),
    ):
        index.write_text(json.dumps({**told, **change}))
        with pytest.raises(DataError, match=message):
            Games(home).game(name)
    index.write_text("{")
    with pytest.raises(DataError, match="import it again"):
        Games(home).game(name)
    index.write_text(json.dumps(told))
    games = Games(home)
    assert games.game(name).task == name
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(DataError, match="damaged"):
        games.game(name)


def test_another_version_is_refused(tmp_path: Path) -> None:
    game = next(iter(packed("valid_seen").values()))
    for number, (change, message) in enumerate(
        (
            (
                {"pddl_domain": DOMAIN.replace("SliceObject", "FryObject")},
                "field pddl_domain: .*fryobject, sliceobject",
            ),
            ({"grammar": "{}"}, "field grammar"),
            ({"pddl_problem": 3}, "field pddl_problem"),
        )
    ):
        source = release(tmp_path / f"release{number}", [game], **change)
        with pytest.raises(DataError, match=message):
            import_data(source)
    with pytest.raises(DataError, match="is the download complete"):
        import_data(release(tmp_path / "none", [game], solvable=False))


def test_unknown_tasks_are_key_errors() -> None:
    import_data(GOLDEN)
    for name in ("", "x", "pick_and_place_simple/trial_0", "\ud800/0"):
        with pytest.raises(KeyError):
            ALFWorld().reset(name)
    assert "import_data" in alfworld.__all__


def test_a_situation_is_object_and_room_whatever_the_trial(home: Path) -> None:
    game = next(iter(packed("valid_seen").values()))
    ids = (
        "a/x-Mug-None-Desk-308/trial_1",
        "a/x-Mug-None-Shelf-308/trial_2",
        "a/x-Mug-None-Desk-309/trial_3",
        "trial_4",
    )
    games = [{**game, "id": name} for name in ids]
    home.mkdir(parents=True)
    (home / "valid_seen.jsonl.xz").write_bytes(lzma.compress("\n".join(map(json.dumps, games)).encode()))
    kind, unnamed = game["task_type"], f"{game['task_type']}/trial_4"
    situations = alfworld.DOMAIN.situations([f"{kind}/{name.rsplit('/', 1)[-1]}" for name in ids])
    room = f"{kind}: Mug in room 308"
    assert list(situations.values()) == [room, room, f"{kind}: Mug in room 309", unnamed]
