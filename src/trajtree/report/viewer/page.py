"""Assembling the tree page: markup, style, script and data in one file that loads nothing else.

Actions and observations come from models and from the web. They are in the page only as JSON, in script elements that
browsers do not execute; the script shows them as text; and the page's security policy allows only that one script and
one style sheet, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from collections.abc import Iterable, Iterator
from importlib.resources import files
from itertools import chain
from string import Template

from trajtree.errors import DataError
from trajtree.report.viewer.record import figures, record
from trajtree.store.files import write_whole
from trajtree.trees.tree import TrajectoryTree
from trajtree.visible import visible

_SCRIPTS = ("tree.js", "canvas.js", "panels.js", "viewer.js")
_POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; img-src data:; base-uri 'none'; "
    "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
"""Characters that could end the script element around the JSON, or one of its lines."""
_DATA = "\0"
"""Stands for the trees in the page; nothing else in it is this character."""


def write_viewer(trees: Iterable[TrajectoryTree], path: str | os.PathLike[str], *, title: str) -> None:
    """Write a page that shows all trees; they are read one at a time.

    Adding `#task=NAME&node=NUMBER` to the page's address opens a task's tree at a node.

    Args:
        trees: the trees, at least one.
        path: the HTML file.
        title: the page's heading.

    Raises:
        DataError: there is no tree.
        RunError: the file cannot be written; an existing file is left unchanged.
    """
    script = "(() => {\n'use strict';\n" + "\n".join(map(_asset, _SCRIPTS)) + "})();\n"
    style = _asset("viewer.css")
    page = Template(_asset("viewer.html")).substitute(
        policy=_POLICY.format(script=_hash(script), style=_hash(style)),
        title=html.escape(visible(title)),
        style=style,
        data=_DATA,
        script=script,
    )
    before, after = page.split(_DATA)
    write_whole(path, chain([before], _blocks(trees), [after]))


def _blocks(trees: Iterable[TrajectoryTree]) -> Iterator[str]:
    """The trees one by one, and last the index of them all."""
    rows: list[str] = []
    for number, tree in enumerate(trees):
        rows.append(_json(figures(tree)))
        yield _block(f"tree-{number}", _json(record(tree)))
    if not rows:
        raise DataError("there are no trees to show: there are no trajectories, or all of them were lost to faults")
    yield _block("index", f"[{','.join(rows)}]")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_ESCAPES)


def _block(name: str, text: str) -> str:
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def _asset(name: str) -> str:
    return files("trajtree.report.viewer").joinpath(name).read_text(encoding="utf-8")


def _hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


__all__ = ["write_viewer"]
