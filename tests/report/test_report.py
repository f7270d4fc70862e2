"""Reports show what was measured, execute nothing that they show, and never leave half a file."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.builders import trajectory

from trajtree.errors import DataError, RunError, TrajtreeError
from trajtree.report import (
    ForkView,
    ReportData,
    RowStatement,
    Unmeasured,
    print_table,
    read_results_json,
    verdict,
    write_html,
    write_results_json,
)
from trajtree.report.text import (
    NO_SITUATIONS,
    ONE_SEED,
    against_ceiling,
    beginning,
    ratio,
    shown,
    smallest,
    unit,
)
from trajtree.report.tree_table import print_quality
from trajtree.statistics.summary import summarise, with_situations
from trajtree.trajectory import Outcome, Sampling, Step, Trajectory
from trajtree.trees.merge import build_tree
from trajtree.trees.quality import TreeQuality, quality
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


@pytest.mark.parametrize(
    "span",
    [
        *(
            "\xad",
            "\u034f",
            "\u115f",
            "\u1160",
            "\u17b4\u17b5",
            "\u180b\u180f",
            "\u200b",
            "\u2060\u206f",
            "\u3164",
            "\ufeff",
        ),
        *("\uffa0", "\ufff9\ufffb", "\U000e0001", "\U000e0020\U000e007f", "\U000e0100\U000e0fff"),
    ],
)
def test_characters_without_ink_are_spelled_out(span: str) -> None:
    for code in range(ord(span[0]), ord(span[-1]) + 1):
        assert visible(f"a{chr(code)}b") == f"a<U+{code:04X}>b"


def test_joiners_and_what_has_ink_stay() -> None:
    """Persian, Hindi, a family, a heart, Korean, Mongolian."""
    text = "می\u200cخواهم क्\u200dष 👩\u200d👩\u200d👧 ❤\ufe0f 한국 ᠮᠣᠩ é\t\n"
    assert visible(text) == text


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


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (("labels", "weak"), 3, "field labels.weak: Input should be a valid string"),
        (("labels",), ["weak"], "field labels: Input should be a valid dictionary"),
        (("notes",), [1], "field notes.0: Input should be a valid string"),
        (("notes",), "abc", "field notes: Input should be a valid tuple"),
        (("provenance",), {"seed": 1}, "field provenance.seed: Input should be a valid string"),
        (("timings",), {"play": "long"}, "field timings.play: Input should be a valid number"),
        (("timings",), {"play": math.inf}, "field timings.play: must be a finite number"),
        (("rows", 0, "score", "value"), math.nan, "field rows.0.score.value: must be a finite number"),
        (("rows", 1, "tasks", 2, "score"), -math.inf, "field rows.1.tasks.2.score: must be a finite number"),
        (("rows", 1, "tasks"), [], "field rows.1.tasks: there are none"),
        (("rows",), [], "field weak: there is no row 'weak'; the rows are: none"),
        (("primary",), "nobody", "field primary: there is no row 'nobody'; the rows are: weak, expert, ours, _other"),
        (("ceiling",), "nobody", "field ceiling: there is no row 'nobody'; the rows are: weak, expert, ours, _other"),
        (("trees",), [{"task": 1}], "field trees.0."),
        (("title",), None, "field title: Input should be a valid string"),
    ],
)
def test_damaged_results_are_refused_with_the_field(
    tmp_path: Path, place: tuple[str | int, ...], value: object, says: str
) -> None:
    path = tmp_path / "results.json"
    write_results_json(report(), path)
    document = part = json.loads(path.read_text())
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=f"^{re.escape(f'{path}, {says}')}"):
        read_results_json(path)


def test_a_field_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results_json(report(), path)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in document.items() if name != "by_situation"}))
    with pytest.raises(DataError, match=r"results\.json: field by_situation is missing"):
        read_results_json(path)
    path.write_text(json.dumps({name: value for name, value in document.items() if name != "labels"}))
    with pytest.raises(DataError, match=r"results\.json: field labels is missing"):
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


def without_some() -> ReportData:
    """A report whose primary row and another one could not be measured; the weak row stands in for the primary one."""
    data = report()
    lost = (Unmeasured("tuned", "nothing scored enough", "primary"), Unmeasured("_last", f"it needs tuned {HOSTILE}"))
    results = dataclasses.replace(data.results, primary="weak")
    return dataclasses.replace(data, results=results, unmeasured=lost, labels={**data.labels, "tuned": "Tuned"})


def test_rows_that_could_not_be_measured_say_why(tmp_path: Path) -> None:
    data = without_some()
    assert verdict(data) == "Nothing can be said about Tuned, the primary row: it was not measured."
    out = io.StringIO()
    print_table(data, Console(file=out, width=100, no_color=True))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    (line,) = [line for line in lines if line.startswith("> Tuned")]
    assert line.split()[2:] == ["-"] * 8
    assert "Tuned was not measured: nothing scored enough." in lines
    assert against_ceiling(data) is None, "which would be about the row that stands in for the primary one"
    source = render(data, tmp_path)
    assert Page(source).unbalanced == [] and source.count(">primary<") == 1
    text = " ".join("".join(Page(source).text).split())
    assert "Tuned was not measured: nothing scored enough." in text and "<script>" not in source
    write_results_json(data, tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text())["unmeasured"][0] == {
        "row": "tuned",
        "why": "nothing scored enough",
        "role": "primary",
    }
    again = read_results_json(tmp_path / "results.json")
    assert again.unmeasured == data.unmeasured and again.label("tuned") == "Tuned"
    assert verdict(again) == verdict(data)


def test_a_long_caveat_begins_with_whole_sentences() -> None:
    first, second = "It says nothing. " * 6, "word " * 60
    assert beginning("short") == ("short", "")
    assert beginning(first + second) == (first.strip(), second)
    assert beginning("x" * 1000) == ("x" * 1000, "")
    start, rest = beginning(second)
    assert f"{start} {rest}" == second and len(start) <= 230


# ---- what a browser makes of it

Shown = Callable[[ReportData, int], Any]


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Shown]:
    """Opens the page of a report in a window that is so wide; fails when it logs, throws or fetches anything."""
    troubles: list[str] = []
    contexts = []

    def opened(data: ReportData, width: int) -> Any:
        render(data, tmp_path)
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}))
        page = contexts[-1].new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.goto((tmp_path / "report.html").as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert troubles == []


def stored(name: str) -> ReportData:
    return read_results_json(Path(__file__).parents[2] / "benchmarks" / "results" / f"{name}.json")


LONG_NAME = "a_label_without_any_space_in_it_" * 3


def test_a_phone_shows_every_table_without_scrolling_sideways(show: Shown) -> None:
    """All tables, as cards; pictures scroll in their own frames."""
    for data in (report(), report(LONG_NAME), without_some(), stored("failures-seed0")):
        page = show(data, 390)
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        wide = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth + 1)"
        inside = page.evaluate(f"{wide}.filter(one => one.querySelector('table')).map(one => one.ariaLabel)")
        assert inside == []


def test_a_report_is_three_screens_long_before_it_is_unfolded(show: Shown) -> None:
    """With few rows, with many, and with long caveats."""
    guarantee = "The paper's guarantee for a row. It says nothing: the bound is above 1. " + "Measured: 3 nats. " * 60
    long = dataclasses.replace(stored("demo-demonstrated-seed0"), notes=(guarantee,) * 4)
    for data in (report(), long, stored("failures-seed0"), without_some()):
        assert show(data, 1280).evaluate("document.documentElement.scrollHeight") <= 3 * 800


def test_a_screen_reader_and_a_keyboard_get_everything(show: Shown) -> None:
    """On a phone too, where tables are drawn as cards, they are tables with headers; parts unfold by key."""
    for width in (1280, 390):
        page = show(report(), width)
        table = page.get_by_role("table", name="Results")
        assert table.get_by_role("rowheader").count() == 4
        assert table.get_by_role("columnheader").count() == 8
        assert table.get_by_role("row").nth(1).get_by_role("cell").count() == 7
        glossary = page.locator("summary", has_text="Glossary")
        assert not page.get_by_text("Performance gap recovered, ").is_visible()
        while not glossary.evaluate("one => one === document.activeElement"):
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement !== document.body"), "the keys never reach the glossary"
        page.keyboard.press("Enter")
        assert page.get_by_text("How far a row gets").is_visible()
        unnamed = "[...document.querySelectorAll('svg')].filter(one => !one.ariaLabel || one.role !== 'img').length"
        assert page.evaluate(unnamed) == 0
        assert page.evaluate("document.querySelectorAll('h1').length") == 1


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


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_the_table_of_rows_fits_the_terminal(width: int) -> None:
    """Names and the rate of success are always there; which columns have no room is said."""
    data, out = report(), io.StringIO()
    print_table(data, Console(file=out, width=width, no_color=True))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width and "…" not in out.getvalue()
    head = lines[next(number for number, line in enumerate(lines) if line.startswith("──")) - 1]
    assert "success" in head
    told = " ".join(out.getvalue().split())
    for column in ("tasks", "score", "best", "compl.", "PGR", "success - weak", "p"):
        assert (column in head) or re.search(rf"No room for [^:]*\b{re.escape(column)}[,:]", told), column
    joined = "".join(lines).replace(" ", "")
    for row in data.results.rows:
        assert data.label(row.name)[:8].replace(" ", "") in joined
    assert ("No room" in told) == (width < 100)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_of_trees_fits_the_terminal(width: int) -> None:
    trees = [build_tree([trajectory("ab", 1.0), trajectory("ac", 0.0, sample=1)])]
    out = io.StringIO()
    print_quality([quality(tree) for tree in trees], Console(file=out, width=width))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert {"runs", "forks", "inform.", "spread", "pairs"} <= set(lines[0].split())
    assert ("lost" in lines[0]) == (width == 120) and ("nodes" in lines[0]) == (width >= 80)
    assert len(lines[2].split()) == len(lines[0].split()), "no column is cut"
