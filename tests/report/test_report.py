"""Reports show what was measured, execute nothing that they show, and never leave half a file."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from trajtree.errors import DataError, RunError, TrajtreeError
from trajtree.report import (
    ForkView,
    ReportData,
    RowStatement,
    print_table,
    read_results_json,
    verdict,
    write_html,
    write_results_json,
)
from trajtree.report.text import NO_SITUATIONS, ONE_SEED, against_ceiling, ratio, shown, smallest, unit
from trajtree.statistics.summary import summarise, with_situations
from trajtree.trajectory import Outcome, Sampling, Step, Trajectory
from trajtree.trees.quality import TreeQuality
from trajtree.visible import visible

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'--><!-- ]]> {{ 7*7 }} $x_$ \u202egnp\x1b[31m"
)
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Collects what a browser would make of the page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def episodes(scores: list[float], kinds: tuple[str, ...] = ("boil", "melt")) -> list[Trajectory]:
    return [
        Trajectory(
            task=f"{kinds[index % len(kinds)]}/{index}",
            sample=0,
            policy="p",
            env="e",
            env_version="1",
            seed=0,
            sampling=Sampling(),
            messages=(),
            steps=(Step("o", "a", reward=score),),
            score=score,
            outcome=Outcome.COMPLETED if score == 1 else Outcome.TRUNCATED,
        )
        for index, score in enumerate(scores)
    ]


def report(text: str = "text", *, ours: float = 1.0, kinds: tuple[str, ...] = ("boil", "melt")) -> ReportData:
    rows = {
        "weak": episodes([0.2] * 10 + [1.0] * 2, kinds),
        "expert": episodes([0.5] * 4 + [1.0] * 8, kinds),
        "ours": episodes([ours] * 11 + [1.0], kinds),
        "_other": episodes([0.0, 0.5] * 6, kinds),
    }
    steps = tuple(Step(text, text, text, 0.5) for _ in range(3))
    return ReportData(
        title=text,
        results=summarise(rows, weak="weak", ceiling="expert", primary="ours", resamples=200),
        recipe_yaml=f"name: {text}\n",
        labels={"weak": f"weak {text}", "ours": f"ours {text}", "_other": f"_{text}"},
        trees=(TreeQuality(text, 6, 40, 6, 5, 3, 0.4, 12, 2.5, 0.3, 1.0, 0.4, 7, 0, 2.2),),
        forks=(
            ForkView(text, steps, steps, steps, 1.0, 0.2, 3),
            ForkView(text, (), steps, steps, 1.0, 0.2, 0),
        ),
        notes=(text,),
        provenance={text: text},
        timings={text: 1.5},
        statements=(
            RowStatement("ours", text, text, text, text, 3, 4, 500, 20, 5, 9, None, ({"loss": 1.0, "chosen": -0.5},)),
            RowStatement("_other", text, text, text, text, 3, 4, 500, None, None, None, 2),
        ),
    )


def in_situations(data: ReportData, count: int) -> ReportData:
    """The report with its tasks in `count` situations."""
    results = with_situations(data.results, lambda task: f"s{int(task.rpartition('/')[2]) % count}")
    return dataclasses.replace(data, results=results)


def render(data: ReportData, folder: Path) -> str:
    write_html(data, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_says_what_rows_are_made_from(tmp_path: Path) -> None:
    shown = " ".join(" ".join(Page(render(report(), tmp_path)).text).split())
    assert "3 4 500 20 5 (9) unknown -0.50" in shown and "3 4 500 unknown unknown 2" in shown


def test_hostile_text_is_only_text(tmp_path: Path) -> None:
    page = Page(render(report(HOSTILE, kinds=(HOSTILE.replace("/", ""), "b")), tmp_path))
    harmless = Page(render(report(), tmp_path))
    names = {name for name, _ in page.tags}
    assert not names & {"script", "img", "iframe", "object", "embed", "link", "base", "form", "foreignobject"}
    assert names == {name for name, _ in harmless.tags}
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert (page.unbalanced, page.open) == ([], [])
    assert "<script>alert(1)</script>" in "".join(page.text)


def test_unseen_characters_are_spelled_out(tmp_path: Path) -> None:
    source = render(report("a\u202eb\u2066c\x1b[2Jd\x00e\ud800f"), tmp_path)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b\0]", source)
    assert "a&lt;U+202E&gt;b&lt;U+2066&gt;c" in source
    assert visible("one\ttwo\r\nthree") == "one\ttwo\nthree"


def test_page_loads_nothing(tmp_path: Path) -> None:
    source = render(report(), tmp_path)
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", source)
    assert "://" not in without_namespaces
    assert "@import" not in source
    for _, attributes in Page(source).tags:
        for key in ("src", "href", "xlink:href", "srcset", "action"):
            assert (attributes.get(key) or "#").startswith("#")
    assert "default-src 'none'" in source


def test_ids_are_unique_and_references_resolve(tmp_path: Path) -> None:
    source = render(report(), tmp_path)
    ids = re.findall(r' id="([^"]+)"', source)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', source)) <= set(ids)


def test_page_shows_the_figures(tmp_path: Path) -> None:
    text = " ".join("".join(Page(render(in_situations(report(), 12), tmp_path)).text).split())
    for expected in (
        "ours text beats its teacher, weak text: +83.3",
        "PGR = (row − weak text) / (expert − weak text)",
        "the paths diverge here",
        "Forks that teach",
        "Earlier steps: 1",
        "1.5",
        "name: text",
    ):
        assert expected in text


def test_a_bare_report_is_a_page_too(tmp_path: Path) -> None:
    results = summarise(
        {"a": episodes([0.0], ("x",)), "b": episodes([1.0], ("x",))},
        weak="a",
        ceiling=None,
        primary="b",
        resamples=50,
    )
    text = "".join(Page(render(ReportData("Bare", results, ""), tmp_path)).text)
    assert "b against its teacher, a: +100.0" in text
    assert "Fewer than 10 situations: no interval can be trusted." in text
    assert "The situations of the tasks are not known" in text
    assert "Performance gap recovered" not in text.replace("PGR, performance gap recovered", "")


def test_odd_labels_can_be_drawn(tmp_path: Path) -> None:
    data = report()
    labels = {"weak": "$\\frac{", "ours": "标签" * 60, "expert": "_hidden\nlabel", "_other": ""}
    source = render(dataclasses.replace(data, labels=labels), tmp_path)
    assert "$\\frac{" in source
    assert " _hidden label" in source


def test_verdict_says_no_more_than_the_data() -> None:
    assert verdict(in_situations(report(), 12)).startswith("ours text beats its teacher, weak text: +83.3 [")
    assert verdict(in_situations(report(ours=0.2), 12)).startswith("No difference shown between")
    data = report()
    reversed_roles = summarise(
        {"strong": episodes([1.0] * 12), "ours": episodes([0.0] * 12)},
        weak="strong",
        ceiling=None,
        primary="ours",
        situation=str,
        resamples=50,
    )
    assert verdict(ReportData("t", reversed_roles, "")).startswith("ours does worse than its teacher, strong: -100.0")
    few = summarise(
        {"strong": episodes([1.0] * 9), "ours": episodes([0.0] * 9)},
        weak="strong",
        ceiling=None,
        primary="ours",
        situation=str,
    )
    assert verdict(ReportData("t", few, "")).startswith("ours against its teacher, strong: -100.0")
    assert verdict(ReportData("t", few, "")).endswith("no interval can be trusted.")
    itself = dataclasses.replace(data, results=dataclasses.replace(data.results, primary="weak"))
    assert "nothing to compare" in verdict(itself)


def test_without_situations_nothing_is_shown(tmp_path: Path) -> None:
    """The tasks are counted, but not as situations: twelve of them would do."""
    data = report()
    assert verdict(data).startswith("ours text against its teacher, weak text: +83.3 [")
    assert verdict(data).endswith(NO_SITUATIONS)
    assert "no difference shown" in str(against_ceiling(data))
    assert not any(shown(comparison, data.results) for comparison in data.results.comparisons)
    assert [comparison.smallest for comparison in data.results.comparisons] == [None] * 12
    # Earlier versions stored a smallest difference.
    stored = dataclasses.replace(data.results.comparisons[2], smallest=0.4)
    assert smallest(stored, by_situation=False) == "n/a"
    assert smallest(stored, by_situation=True) == "40.0"
    page = "".join(Page(render(data, tmp_path)).text)
    assert "▲ +" not in page and "▲ +" in "".join(Page(render(in_situations(data, 12), tmp_path)).text)


def test_a_run_holds_for_its_models(tmp_path: Path) -> None:
    """One seed says nothing of a method, and every report and verdict of a run says that."""
    for data in (report(), in_situations(report(), 12), in_situations(report(), 4)):
        assert "with this one seed" in verdict(data)
        assert ONE_SEED in unit(data)
        out = io.StringIO()
        print_table(data, Console(file=out, width=100))
        assert ONE_SEED in " ".join(out.getvalue().split())
        assert ONE_SEED in " ".join("".join(Page(render(data, tmp_path)).text).split())


def test_standing_names_the_denominator() -> None:
    standing = against_ceiling(report())
    assert standing is not None
    assert "of the +50.0 [" in standing
    assert "from weak text (16.7) to expert (66.7)" in standing
    data = report()
    lowered = [dataclasses.replace(p, value=None, reason="no gap") for p in data.results.pgr]
    none = dataclasses.replace(data, results=dataclasses.replace(data.results, pgr=tuple(lowered)))
    assert "none to recover" in (against_ceiling(none) or "")


def test_results_json_round_trip(tmp_path: Path) -> None:
    data = report(HOSTILE + "\ud800")
    write_results_json(data, tmp_path / "results.json")
    read = json.loads((tmp_path / "results.json").read_text(encoding="ascii"))
    assert (read["format"], read["version"]) == ("trajtree.results", 3)
    plain = json.loads(json.dumps(dataclasses.asdict(data.results)))
    assert {key: read[key] for key in plain} == plain
    assert read["recipe"] == data.recipe_yaml
    assert read["provenance"] == data.provenance
    assert [len(row["tasks"]) for row in read["rows"]] == [12, 12, 12, 12]
    assert read["labels"]["expert"] == "expert"


def test_results_json_is_read_again(tmp_path: Path) -> None:
    data = in_situations(report(), 11)
    write_results_json(data, tmp_path / "results.json")
    read = read_results_json(tmp_path / "results.json")
    assert read == dataclasses.replace(data, labels={"expert": "expert", **data.labels})


def before_situations(path: Path, version: int) -> dict[str, Any]:
    """What that version wrote."""
    write_results_json(report(), path)
    document: dict[str, Any] = json.loads(path.read_text()) | {"version": version, "comparisons": [], "pgr": []}
    for row in document["rows"]:
        for task in row["tasks"]:
            del task["situation"]
        for name in ("situations", "dependence", "practice"):
            del row[name]
        if version == 1:
            row["env_errors"] = row.pop("faults")
    if version == 1:
        del document["forks"], document["by_situation"]
    return document


@pytest.mark.parametrize("version", [1, 2])
def test_results_made_before_situations_are_read(tmp_path: Path, version: int) -> None:
    """Their figures are computed anew from their tasks, each of which counts as a situation; and that is said."""
    data, path = report(), tmp_path / "results.json"
    document = before_situations(path, version)
    path.write_text(json.dumps(document))
    read = read_results_json(path)
    assert read.results == data.results
    assert not read.results.by_situation
    out = io.StringIO()
    print_table(read, Console(file=out, width=100))
    assert "The situations of the tasks are not known" in " ".join(out.getvalue().split())
    assert "unknown" in out.getvalue()


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("weak", "nobody", "there is no row 'nobody'; the rows are: weak, expert, ours, _other"),
        ("rows", 3, "field rows: Input should be a valid tuple"),
        ("rows", [{"name": "weak"}], "field rows.0.tasks: Field required"),
        ("resamples", "many", "field resamples: Input should be a valid integer"),
    ],
)
def test_damaged_results_made_before_situations(tmp_path: Path, field: str, value: object, says: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(before_situations(path, 2) | {field: value}))
    with pytest.raises(DataError, match=re.escape(says)):
        read_results_json(path)


def test_a_field_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results_json(report(), path)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in document.items() if name != "by_situation"}))
    with pytest.raises(DataError, match=r"results\.json: field by_situation is missing"):
        read_results_json(path)
    path.write_text(json.dumps(document | {"version": 4}))
    with pytest.raises(DataError, match="version 4; this trajtree reads versions 1 to 3"):
        read_results_json(path)
    document["rows"][0]["tasks"][0].pop("situation")
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"field rows\.0\.tasks\.0\.situation"):
        read_results_json(path)


def test_table_and_page_say_situations_and_what_they_make_of_the_figures(tmp_path: Path) -> None:
    data = in_situations(report(), 11)
    out = io.StringIO()
    print_table(data, Console(file=out, width=100, no_color=True))
    assert max(map(len, out.getvalue().splitlines())) <= 100
    found, compared = data.results.row("ours"), data.results.compared("ours", "weak", "success")
    assert compared is not None
    (line,) = [line for line in out.getvalue().splitlines() if line.startswith("ours text  ")]
    assert line.split()[2:5] == ["11", "(10.3)", ratio(found.dependence["success"].icc)]
    assert smallest(compared, by_situation=True) in line
    assert "12 tasks are 11 (10.3) situations" in " ".join(out.getvalue().split())
    page = " ".join("".join(Page(render(data, tmp_path)).text).split())
    for expected in ("12 tasks are 11 (10.3) situations", "How far tasks of one situation agree", "As papers print it"):
        assert expected in page
    assert "Fewer than 10 situations" not in page
    assert "difference-" in render(data, tmp_path)


def test_few_situations_show_nothing(tmp_path: Path) -> None:
    """The same figures that show a difference over tasks."""
    data = in_situations(report(), 4)
    many = in_situations(report(), 12)
    assert shown(many.results.comparisons[2], many.results)
    assert not any(shown(comparison, data.results) for comparison in data.results.comparisons)
    assert "Fewer than 10 situations: no interval can be trusted." in verdict(data)
    out = io.StringIO()
    print_table(data, Console(file=out, width=100))
    assert "no interval can be trusted" in " ".join(out.getvalue().split())


def test_table_fits_and_needs_no_colour() -> None:
    out = io.StringIO()
    print_table(report(), Console(file=out, width=100, no_color=True))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    (ours,) = [line for line in lines if line.startswith("> ours")]
    assert ours.split()[3:8] == ["12", "100.0", "100.0", "100.0", "100.0"]
    assert "167%" in ours
    assert "+83.3 [" in ours


def test_table_shows_hostile_text_as_text() -> None:
    out = io.StringIO()
    print_table(report("[red]x[/red]\x1b[31m\u202e"), Console(file=out, width=200, no_color=True))
    assert "[red]x[/red]<U+001B>[31m<U+202E>" in out.getvalue()
    assert "\x1b[31m" not in out.getvalue()


def test_environment_errors_are_reported() -> None:
    rows = {"weak": episodes([0.0, 1.0]), "ours": episodes([1.0, 1.0])}
    rows["ours"][1] = dataclasses.replace(rows["ours"][1], outcome=Outcome.ENV_ERROR)
    results = summarise(rows, weak="weak", ceiling=None, primary="ours", resamples=50)
    out = io.StringIO()
    print_table(ReportData("t", results, ""), Console(file=out, width=100))
    flat = " ".join(out.getvalue().split())
    lost = "episodes lost to faults of the environment or the engine, not counted: 1"
    assert f"ours: {lost}; tasks with no other episode: 1." in flat


@pytest.mark.parametrize("write", [write_html, write_results_json])
def test_old_file_survives_a_failed_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[ReportData, Path], None]
) -> None:
    path = tmp_path / "out"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match=r"cannot write .*out: No space left on device"):
        write(report(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nowhere"):
        write_results_json(report(), tmp_path / "nowhere" / "results.json")


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(TrajtreeError, match=re.escape(f"needs {module}: pip install 'trajtree[report]'")):
        write_html(report(), tmp_path / "report.html")
    assert not list(tmp_path.iterdir())
