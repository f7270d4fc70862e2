"""The site opened from disk, as `make site` leaves it: what is typed into its search stays there, and is found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]

TYPED = """() => {
    const inputs = (root) => [...root.querySelectorAll("*")].flatMap((each) => [
        ...(each.matches("input[aria-label=Search]") ? [each] : []),
        ...(each.shadowRoot ? inputs(each.shadowRoot) : []),
    ]);
    return inputs(document)[0]?.value;
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of two pages with the theme, the plugins and the scripts of ours."""
    pytest.importorskip("zensical", reason="needs zensical: pip install 'trajtree[docs]'")
    folder = tmp_path_factory.mktemp("site")
    ours = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    kept = {name: ours[name] for name in ("site_name", "use_directory_urls", "theme", "extra")}
    (folder / "mkdocs.yml").write_text(yaml.safe_dump({**kept, "plugins": ["search", "offline"]}))
    (folder / "docs").mkdir()
    shutil.copytree(ROOT / "docs" / "assets", folder / "docs" / "assets")
    (folder / "docs" / "index.md").write_text("# Kettles\n\nWater boils.\n")
    (folder / "docs" / "stitching.md").write_text("# Stitching\n\nRuns are joined.\n")
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
    return folder / "site"


def test_search_works_without_a_server(browser: Any, site: Path) -> None:
    page = browser.new_page()
    outside: list[str] = []
    page.on("request", lambda asked: outside.append(asked.url) if asked.url.startswith(("http", "ws")) else None)
    page.goto((site / "index.html").as_uri())
    page.locator("[data-md-component=search], .md-search").first.wait_for()
    page.keyboard.press("Control+k")
    page.wait_for_function(f"({TYPED})() === ''")
    for number, letter in enumerate("stitch", start=1):
        page.keyboard.press(letter)
        page.wait_for_function(f"({TYPED})() === {'stitch'[:number]!r}")
    page.get_by_role("option", name="Stitching").click()  # the result, not the menu's entry of that name
    page.wait_for_url("**/stitching.html*")
    assert not outside
    page.close()
