"""Nothing outside the cluster's package knows Ray, and without it all else works."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "src" / "trajtree"


def imported_at_once(source: str) -> set[str]:
    """What a module imports when it is imported itself: not inside functions, and not for types only."""
    found: set[str] = set()

    def walk(nodes: list[ast.stmt]) -> None:
        for node in nodes:
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module or "")
            elif isinstance(node, ast.ClassDef | ast.Try | ast.With):
                walk(node.body)
            elif isinstance(node, ast.If) and ast.unparse(node.test) != "TYPE_CHECKING":
                walk([*node.body, *node.orelse])

    walk(ast.parse(source).body)
    return found


def test_only_the_cluster_imports_ray() -> None:
    for path in SOURCES.rglob("*.py"):
        if path.parent.name != "cluster":
            source = path.read_text()
            names = imported_at_once(source)
            assert not {name for name in names if name.split(".")[0] == "ray" or name.startswith("trajtree.cluster")}, (
                path
            )
            assert "import ray" not in source, path


def test_without_ray_only_its_option_is_missing(tmp_path: Path) -> None:
    words = ["explore", "--env", "tests.toy:DOMAIN", "--policy", "hat:x", "--tasks", "toy", "--first", "1"]
    words += ["--workers", "0", "--out", str(tmp_path / "runs.jsonl")]
    script = (
        "import sys; sys.modules['ray'] = None; import tests.soak.player; from trajtree.cli.start import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([sys.executable, "-c", script, *words, "--on", "ray"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "trajtree: this needs the package ray: pip install 'trajtree[ray]'\n"
