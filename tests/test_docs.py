"""The code in the documentation runs."""

import json
import math
import re
import runpy
from dataclasses import asdict
from itertools import chain, pairwise
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter
from tests.toy import TASKS, Toy, solution
from typer.testing import CliRunner

import trajtree
from trajtree.cli.main import app
from trajtree.envs.check import check_env
from trajtree.envs.domain import load_domain
from trajtree.experiment.pipeline import stages_of
from trajtree.experiment.recipe import load_recipe
from trajtree.experiment.rows import ROWS
from trajtree.formats.importing import import_files
from trajtree.report import read_results_json
from trajtree.report.text import listed
from trajtree.statistics.results import RowMetrics
from trajtree.statistics.seeds import over_seeds
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.train.settings import METHODS, TrainSettings
from trajtree.trees.pair import PASTS
from trajtree.trees.sameness import ACTIONS, IGNORABLE

ROOT = Path(__file__).parent.parent


def code_of(name: str) -> str:
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)[0]


def test_the_environment_in_the_docs_keeps_the_contract() -> None:
    scope: dict[str, type[trajtree.Environment]] = {}
    exec(code_of("docs/environments.md"), scope)
    report = check_env(scope["Guess"], ["guess/3", "guess/7"], actions=lambda task: ["higher than 4", "it is 3"])
    assert report.name == "guess"


def test_the_domain_and_the_recipe_in_the_docs_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = (ROOT / "docs/environments.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", docs, re.DOTALL)
    (tmp_path / "guess.py").write_text("\n".join(blocks[:2]))
    (tmp_path / "guess.yaml").write_text(re.findall(r"```yaml\n(.*?)```", docs, re.DOTALL)[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    recipe = load_recipe(tmp_path / "guess.yaml")
    domain = load_domain(recipe.env.name)
    shown = [domain.demonstrate(domain.make(None), task) for task in domain.tasks("guess", "train")]
    assert all(isinstance(t, trajtree.Trajectory) and t.success for t in shown)
    assert len(shown) >= recipe.tasks.demonstrations + recipe.tasks.unseen
    assert CliRunner().invoke(app, ["env", "check", "guess:DOMAIN"]).exit_code == 0
    listed = CliRunner().invoke(app, ["env", "list", "guess:DOMAIN"])
    assert listed.exit_code == 0 and "guess/1" in listed.output


def test_the_api_in_the_readme_runs(tmp_path: Path, capsys) -> None:
    store = trajtree.TrajectoryStore(tmp_path / "trajectories.jsonl")
    store.append([played(task, actions, sample) for task in TASKS[:3] for sample, actions in enumerate(tries(task))])
    code = code_of("README.md").replace("runs.jsonl", str(store.path))
    exec(code, {})
    assert "TreeQuality" in capsys.readouterr().out


def test_what_a_line_of_a_store_holds_is_as_the_docs_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    docs = (ROOT / "docs/files.md").read_text()
    row = re.findall(r"```json\n(.*?)```", docs, re.DOTALL)[0].replace("\n", " ")
    store = tmp_path / "runs.jsonl"
    store.write_text('{"format": "trajtree.trajectories", "version": 2}\n' + row + "\n")
    (run,) = trajtree.TrajectoryStore(store)
    assert [(step.observation, step.action, step.reward) for step in run.steps] == [("Find a plant.", "look", 0.5)]
    exec(code_of("docs/files.md").replace("runs.jsonl", str(store)), {})
    assert capsys.readouterr().out == "find-plant/3 1 0.5\n"


def tries(task: str) -> list[list[str]]:
    return [solution(task), ["look", "look", "look", "look", "look", "look"]]


def played(task: str, actions: list[str], sample: int) -> trajtree.Trajectory:
    env = Toy()
    observation, steps, terminated = env.reset(task), [], False
    for action in actions:
        result = env.step(action)
        steps.append(trajtree.Step(observation, action, reward=result.reward))
        observation, terminated = result.observation, result.terminated
    return trajtree.Trajectory(
        task=task,
        sample=sample,
        policy="script",
        env="toy",
        env_version="1",
        seed=0,
        sampling=trajtree.Sampling(),
        messages=(),
        steps=tuple(steps),
        score=sum(s.reward for s in steps),
        outcome=trajtree.Outcome.COMPLETED if terminated else trajtree.Outcome.TRUNCATED,
    )


def test_the_table_of_knobs_is_whole_and_right(tmp_path: Path) -> None:
    docs = (ROOT / "docs/recipes.md").read_text()
    rows = re.findall(r"^\| `([\w.]+)` \|(.*?)\| ", docs, re.MULTILINE)
    said = {key: yaml.safe_load(value.replace("none", "null")) if value.strip() else None for key, value in rows}
    (tmp_path / "r.yaml").write_text("name: x\ntasks: {types: [t]}\n")
    known = load_recipe(tmp_path / "r.yaml").model_dump(mode="json", exclude={"sft", "preference"})
    training = {key: known["weak"].pop(key) for key in TypeAdapter(TrainSettings).dump_python(TrainSettings())}
    training |= {"epochs": None, "lr": None, "batch": None}
    sections = {key for key, value in known.items() if isinstance(value, dict) and value}
    flat = {k: v for k, v in known.items() if k not in sections}
    flat |= {f"{key}.{k}": v for key in sections for k, v in known[key].items()}
    flat["paths.gamma"] = round(flat["paths.gamma"], 3)
    flat["name"] = flat["tasks.types"] = None
    row_keys = {"like", "label", "learns_from", "explored_by", "method", "section", "starts_from", "reference"}
    assert {key: value for key, value in said.items() if key not in row_keys | set(ROWS)} == {**flat, **training}


def test_the_table_of_rows_is_whole() -> None:
    """Each row with its start, and with its reference where its loss has one."""
    docs = (ROOT / "docs/recipes.md").read_text()
    table = docs[docs.index("| row | start |") : docs.index("`ceiling_whole` is the ceiling")]
    letters = {"weak": "W", "strong": "S", "strong_sft": "E", "w2sg_exact": "X"}
    said = {}
    for line in table.splitlines()[2:-1]:
        names, starts, *_, reference, _ = (cell.strip() for cell in line.split("|")[1:])
        for number, name in enumerate(re.findall(r"`(\w+)`", names)):
            start = starts.split(", ")
            said[name] = start[min(number, len(start) - 1)], reference
    del said["round2"]
    assert set(said) == set(ROWS)
    for name, row in ROWS.items():
        start, reference = said[name]
        assert row.starts_from is None or start == letters[row.starts_from], name
        held = row.trained and METHODS[row.method].loss != "sft"
        assert reference == ("" if not held else letters.get(row.reference, row.reference)), name


def test_the_recipe_of_rows_in_the_docs_is_whole(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/recipes.md").read_text(), re.DOTALL)[0]
    )
    assert [stage.name for stage in stages_of(load_recipe(tmp_path / "r.yaml"))].count("evaluate-second") == 1


def test_the_guarantee_in_the_docs_says_nothing_for_a_run_of_ordinary_size(capsys: pytest.CaptureFixture[str]) -> None:
    exec(code_of("docs/theory.md"), {})
    assert capsys.readouterr().out.startswith("The guarantee says nothing: ")


def test_the_docs_name_everything_that_can_be_ignored() -> None:
    page = (ROOT / "docs/bring-your-own-runs.md").read_text()
    names = [*IGNORABLE, *PASTS]
    assert [name for name in names if f"| `{name}` |" not in page] == []
    assert all(name in page for name in ACTIONS)


def test_the_table_of_types_is_what_the_benchmark_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["scienceworld_types.py", "--table"])
    runpy.run_path(str(ROOT / "benchmarks" / "scienceworld_types.py"), run_name="__main__")
    page = (ROOT / "docs" / "results-dev.md").read_text()
    assert f"<!-- types:begin -->\n{capsys.readouterr().out}<!-- types:end -->" in page


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], script: str, *words: str) -> str:
    """What a benchmark's script prints."""
    monkeypatch.setattr("sys.argv", [script, *words])
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    runpy.run_path(str(ROOT / "benchmarks" / script), run_name="__main__")
    return capsys.readouterr().out


def seeds_of(name: str) -> list[str]:
    return sorted(map(str, (ROOT / "benchmarks" / "results").glob(f"{name}-seed*.json")))


AFTERWARDS = (
    "own_chosen:chosen_solved_sft",
    "own_random:chosen_solved_sft",
    "w2sg_exact:strong_sft",
    "w2sg_exact:weak:score",
    "w2sg_exact:weak:best_score",
)


SEVENTH = (
    *("w2sg_naive:weak", "w2sg_treedpo:w2sg_exact", "w2sg_exact:strong_sft", "w2sg_exact:w2sg_naive:best_score"),
    *("random_treedpo:w2sg_exact", "treedpo_paths:w2sg_treedpo"),
)
SECOND = ("w2sg_dpo:w2sg_exact", "random_dpo:w2sg_exact", "chosen_solved_sft:w2sg_exact")


@pytest.mark.parametrize(
    ("page", "name", "options"),
    [
        ("results.md", "scienceworld", ["--whole", *chain(*(("--also", one) for one in AFTERWARDS))]),
        ("results.md", "scienceworld-fifth", []),
        ("results.md", "scienceworld-seventh", [*chain(*(("--also", one) for one in SEVENTH))]),
        ("results.md", "scienceworld-second", [*chain(*(("--also", one) for one in SECOND))]),
        ("results.md", "scienceworld-third", ["--also", "w2sg_stitched:w2sg_naive", "--also", "w2sg_mcts:weak"]),
        ("results.md", "scienceworld-fourth", []),
        ("results-demo.md", "demo", ["--whole"]),
        ("results-dev.md", "failures", []),
        ("results-dev.md", "forms", []),
        ("results-dev.md", "own-runs", []),
        ("results-dev.md", "branching-dev", []),
        ("results-dev.md", "webshop-dev", []),
        ("results-dev.md", "alfworld-dev", []),
    ],
)
def test_the_tables_of_the_experiment_are_what_the_benchmark_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], page: str, name: str, options: list[str]
) -> None:
    tables = printed(monkeypatch, capsys, "experiment_tables.py", *options, *seeds_of(name))
    assert f"<!-- {name}:begin -->\n{tables}<!-- {name}:end -->" in (ROOT / "docs" / page).read_text()
    if name == "scienceworld":
        rows = tables.partition("\n\n")[0]
        assert f"<!-- results:begin -->\n{rows}\n<!-- results:end -->" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/results-demo.md"])
def test_what_the_demo_takes_is_what_was_measured(page: str) -> None:
    took = json.loads((ROOT / "benchmarks" / "results" / "demo-time.json").read_text())
    minutes, seconds = divmod(round(took["seconds"]), 60)
    for said in (f"{minutes} min {seconds:02d} s", f"{took['peak_gb']:.1f} GB"):
        assert said in " ".join((ROOT / page).read_text().split())


def test_the_tables_under_other_units_are_what_the_benchmark_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    also = chain(*(("--also", one) for one in AFTERWARDS))
    tables = printed(monkeypatch, capsys, "other_units.py", *also, *seeds_of("scienceworld"))
    page = (ROOT / "docs" / "results.md").read_text()
    assert f"<!-- scienceworld-units:begin -->\n{tables}<!-- scienceworld-units:end -->" in page


def test_what_is_said_of_the_demos_comparisons_is_what_its_run_says(monkeypatch: pytest.MonkeyPatch) -> None:
    said = " ".join((ROOT / "docs" / "results-demo.md").read_text().partition("<!-- demo:begin -->")[0].split())
    paths = [Path(path) for path in seeds_of("demo")]
    assert_said(monkeypatch, said, paths, ("w2sg_exact:weak:score",))


def test_what_is_said_of_comparisons_is_what_the_runs_say_by_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    other_units = runpy.run_path(str(ROOT / "benchmarks" / "other_units.py"))
    stored = [json.loads(Path(path).read_text()) for path in seeds_of("scienceworld")]
    said = " ".join((ROOT / "docs" / "results.md").read_text().partition("### The experiment")[0].split())
    readme = " ".join((ROOT / "README.md").read_text().split())
    experiment_tables = runpy.run_path(str(ROOT / "benchmarks" / "experiment_tables.py"))
    with other_units["files"]([other_units["seen"](one, other_units["by_answer"]) for one in stored]) as paths:
        assert_said(monkeypatch, said, paths, AFTERWARDS)
        results = [read_results_json(path).results for path in paths]
        for row, against in (("w2sg_exact", "weak"), ("own_anchored", "own_chosen"), ("own_anchored", "own_random")):
            found = asdict(over_seeds(results, row, against, "success").difference)
            assert experiment_tables["points"](found).removeprefix("+") in readme
        compared = experiment_tables["compared_runs"](paths)
    (recovered,) = (
        one for one in compared["recovered"] if (one["row"], one["ceiling_row"]) == ("w2sg_exact", "strong_sft")
    )
    gap = f"{100 * recovered['value']:.0f} % [{100 * recovered['low']:.0f}, {100 * recovered['high']:.0f}]"
    assert gap in said and gap in readme
    (holm,) = (one["holm"] for one in compared["named"] if one["success"]["row"] == "w2sg_exact")
    assert f"p = {holm:.3f}".replace("0.", ".") in said
    view = other_units["by_answer_without_find"]
    with other_units["files"]([other_units["seen"](one, view) for one in stored]) as paths:
        results = [read_results_json(path).results for path in paths]
        for row, against in (("own_anchored", "strong_sft"), ("w2sg_exact", "strong_sft"), ("w2sg_exact", "weak")):
            found = asdict(over_seeds(results, row, against, "success").difference)
            assert experiment_tables["points"](found) in said


def test_what_is_said_of_the_method_as_published_is_what_its_run_says(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "results.md").read_text()
    said = " ".join(page.partition("<!-- scienceworld-seventh:end -->")[2].partition("### What limits this")[0].split())
    results = [read_results_json(path).results for path in seeds_of("scienceworld-seventh")]

    def won(row: str, against: str) -> list[tuple[int, int]]:
        """By seed: the tasks that only `row` solves, and those that only `against` does."""
        found = []
        for one in results:
            ours, theirs = ({task.task for task in one.row(name).tasks if task.success} for name in (row, against))
            found.append((len(ours - theirs), len(theirs - ours)))
        return found

    assert won("treedpo_paths", "w2sg_exact") == [(6, 6), (13, 6), (8, 7)]
    assert "six tasks won and six lost with seed 0, 13 and 6 with seed 1, 8 and 7 with seed 2" in said
    assert won("w2sg_treedpo", "random_treedpo") == [(17, 1), (8, 6), (3, 3)]
    assert "17 tasks won and one lost, the others did not repeat: 8 and 6, 3 and 3" in said
    start, forks, random = (
        results[2].row(row).success_rate.value for row in ("w2sg_exact", "w2sg_treedpo", "random_treedpo")
    )
    assert forks == random == pytest.approx(start - 0.095)
    assert "the loss lost 9.5 points once" in said
    for label in ("W2SG + TreeDPO (with KL)", "Random pairs, DPO with KL"):
        notes = (" ".join(one.notes) for one in map(read_results_json, seeds_of("scienceworld-seventh")))
        likely = rf"{re.escape(label)}: the chosen sides became less likely .*?chosen -([\d.]+) \(before"
        lost = [float(found[1]) for text in notes if (found := re.search(likely, text))]
        assert len(lost) == 3 and min(lost) == lost[2], "less likely with every seed, and least with seed 2"
    searched, as_is = ([one.row(row) for one in results] for row in ("w2sg_exact", "w2sg_naive"))
    both = list(zip(searched, as_is, strict=True))
    ended = sum(ours.completion_rate - theirs.completion_rate for ours, theirs in both) / 3
    won_more = sum(ours.success_rate.value - theirs.success_rate.value for ours, theirs in both) / 3
    assert f"rises by {100 * ended:.0f} points, success by half of that" in said
    assert won_more / ended == pytest.approx(0.5, abs=0.05)
    for row, against in (
        ("w2sg_treedpo", "w2sg_exact"),
        ("random_treedpo", "w2sg_exact"),
        ("treedpo_paths", "w2sg_exact"),
    ):
        apart = [f"{100 * (r.row(row).success_rate.value - r.row(against).success_rate.value):+.1f}" for r in results]
        assert f"{apart[0]}, {apart[1]} and {apart[2]}" in said
    completed = [
        [f"{100 * one.row(row).completion_rate:.1f}" for one in results] for row in ("w2sg_exact", "w2sg_naive")
    ]
    searched, naive = (f"{', '.join(rates[:-1])} and {rates[-1]}" for rates in completed)
    assert f"More episodes end before the limit, {searched} % against {naive}," in said
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    points = runpy.run_path(str(ROOT / "benchmarks" / "experiment_tables.py"))["points"]
    for row, against in (
        ("treedpo_paths", "w2sg_exact"),
        ("treedpo_paths", "chosen_sft"),
        ("treedpo_paths", "strong_sft"),
        ("w2sg_treedpo", "random_treedpo"),
        ("w2sg_naive", "weak"),
        ("w2sg_exact", "w2sg_naive"),
        ("w2sg_exact", "strong_sft"),
        ("treedpo_paths", "w2sg_treedpo"),
    ):
        assert points(asdict(over_seeds(results, row, against, "success").difference)) in said
    assert points(asdict(over_seeds(results, "w2sg_exact", "w2sg_naive", "best_score").difference)) in said
    compared = runpy.run_path(str(ROOT / "benchmarks" / "experiment_tables.py"))["compared_runs"](
        list(map(Path, seeds_of("scienceworld-seventh")))
    )
    named = compared["named"]
    shares = {
        one["row"]: "{:.0f} % [{:.0f}, {:.0f}]".format(*(100 * one[part] for part in ("value", "low", "high")))
        for one in compared["recovered"]
    }
    share = f"In the seventh block it is {shares['w2sg_exact']}, and {shares['w2sg_naive']} without search and rewards"
    assert share in " ".join(page.split())
    gain = next(one for one in named if one["success"]["against"] == "w2sg_naive")
    ours, holm = (f"{value:.3f}".removeprefix("0") for value in (gain["success"]["p_value"], gain["holm"]))
    assert f"p = {holm} after the correction ({ours} before)" in said
    assert f"For these three pairs of models it is {points(gain['success']['these_models'])}" in said
    start = points(asdict(over_seeds(results, "treedpo_paths", "w2sg_exact", "success").difference))
    first = page.partition("### The experiment")[0]
    for text in (first, (ROOT / "README.md").read_text()):
        assert start in " ".join(text.split())
    for row, against in (("w2sg_naive", "weak"), ("w2sg_exact", "w2sg_naive"), ("w2sg_exact", "strong_sft")):
        assert points(asdict(over_seeds(results, row, against, "success").difference)) in " ".join(first.split())


def test_a_table_of_steps_becomes_runs_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "bring-your-own-runs.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if block.startswith("import csv"))
    monkeypatch.chdir(tmp_path)
    steps = ["r1,t,a room,look,0", "r1,t,a key,take,1", "r2,t,a room,wait,0"]
    Path("steps.csv").write_text("\n".join(["run,task,saw,did,points", *steps]))
    exec(compile(code, "bring-your-own-runs.md", "exec"), {})
    report = import_files("rows.jsonl", "runs.jsonl")
    assert (report.added, report.tasks, report.left_out_count) == (2, 1, 0)
    assert [(len(run.steps), run.score) for run in TrajectoryStore("runs.jsonl")] == [(2, 1.0), (1, 0.0)]


def test_what_javas_heap_takes_is_what_was_measured() -> None:
    measured = json.loads((ROOT / "benchmarks" / "results" / "java-heap.json").read_text())
    assert measured["same_observations"]
    took = {(one["new_objects"], one["worlds"]): f"{one['median']:.1f}" for one in measured["measured"]}
    own, ours = "Java's own", "128 MiB"
    page = " ".join((ROOT / "docs" / "results.md").read_text().split())
    assert f"take {took[ours, 64]} seconds of Java's processor time instead of {took[own, 64]}" in page
    assert (
        f"in 32 worlds {took[ours, 32]} and {took[own, 32]}, in 20 worlds {took[ours, 20]} instead of {took[own, 20]}"
        in page
    )


def section(page: str, begin: str) -> str:
    """What a page says of a block after its tables, on one line."""
    text = (ROOT / "docs" / page).read_text().partition(f"<!-- {begin}:end -->")[2]
    return " ".join(text.partition("\n### ")[0].split())


def unlike(one: RowMetrics, other: RowMetrics) -> int:
    """In how many tasks two rows differ in success."""
    return sum(bool(a.success) != bool(b.success) for a, b in zip(one.tasks, other.tasks, strict=True))


def test_what_is_said_of_other_forms_of_dpo_is_what_their_run_says(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [Path(path) for path in seeds_of("scienceworld-second")]
    said = section("results.md", "scienceworld-second")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    experiment_tables = runpy.run_path(str(ROOT / "benchmarks" / "experiment_tables.py"))
    results = [read_results_json(path).results for path in paths]
    for row, against in (
        ("w2sg_anchored", "w2sg_exact"),
        ("w2sg_dpo", "w2sg_exact"),
        ("random_dpo", "w2sg_exact"),
        ("chosen_solved_sft", "w2sg_exact"),
        ("w2sg_anchored", "chosen_solved_sft"),
        ("w2sg_anchored", "random_anchored"),
        ("w2sg_dpo", "random_dpo"),
    ):
        assert experiment_tables["points"](asdict(over_seeds(results, row, against, "success").difference)) in said
    before = [read_results_json(path).results for path in map(Path, seeds_of("scienceworld-seventh"))]
    kl = {
        row: unlike(results[0].row(row), before[0].row(other))
        for row, other in (("w2sg_dpo", "w2sg_treedpo"), ("random_dpo", "random_treedpo"))
    }
    assert kl == {"w2sg_dpo": 1, "random_dpo": 4} and "in 1 of 200 tasks at forks and in 4 with random pairs" in said
    notes = " ".join(note for path in paths for note in read_results_json(path).notes)
    moved = {
        label: (chosen, rejected)
        for label, chosen, rejected in re.findall(
            r"(W2SG \+ [^:]*|Random pairs, [^:]*): the chosen sides became less likely.*?"
            r"chosen -([\d.]+) \(before[^)]*\), rejected -([\d.]+)\.",
            notes,
        )
    }
    forks, random = (
        [moved[label] for label in labels]
        for labels in (
            ("W2SG + TreeDPO, anchored", "W2SG + DPO at forks"),
            ("Random pairs, anchored DPO", "Random pairs, DPO"),
        )
    )
    lost = f"the rejected sides lost {forks[0][1]} and {forks[1][1]} nats against the start, the chosen ones "
    assert f"{lost}{forks[0][0]} and {forks[1][0]}." in said
    assert f"{random[0][1]} and {random[1][1]} nats, and {random[0][0]} and {random[1][0]}." in said
    controls = ("chosen_sft", "chosen_runs_sft", "chosen_solved_sft")
    assert {f"{100 * results[0].row(name).success_rate.value:.1f} %" for name in controls} == {"47.0 %"}
    assert "The controls solve 47.0 % each" in said
    named = experiment_tables["compared_runs"](paths)["named"]
    holm = {(one["success"]["row"], one["success"]["against"]): one["holm"] for one in named}
    for rows in (("w2sg_anchored", "chosen_solved_sft"), ("w2sg_dpo", "random_dpo")):
        assert f"p = {holm[rows]:.3f}".replace("0.", ".") in said
    assert min(holm.values()) > 0.05, "a comparison of this family is shown, and the page says that none is"


def test_what_is_said_of_the_loss_from_strong_sft_is_what_its_run_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    points = runpy.run_path(str(ROOT / "benchmarks" / "experiment_tables.py"))["points"]
    results = [read_results_json(path).results for path in seeds_of("scienceworld-fourth")]
    difference = over_seeds(results, "treedpo_sft", "strong_sft", "success").difference
    assert points(asdict(difference)) in section("results.md", "scienceworld-fourth")


def test_the_families_that_the_page_counts_are_those_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    compared = runpy.run_path(str(ROOT / "benchmarks" / "experiment_tables.py"))["compared_runs"]
    blocks = ("", "-second", "-third", "-fourth", "-fifth", "-seventh")
    found = [compared([Path(path) for path in seeds_of(f"scienceworld{block}")]) for block in blocks]
    assert [len(one["named"]) + len(one["missing"]) for one in found] == [5, 7, 5, 5, 4, 6]
    said = " ".join((ROOT / "docs" / "results.md").read_text().split())
    assert "The six blocks of which rows were made name 5, 7, 5, 5, 4 and 6 comparisons" in said


def test_what_is_said_of_searches_is_what_their_run_says(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [Path(path) for path in seeds_of("scienceworld-third")]
    said = section("results.md", "scienceworld-third")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    points = runpy.run_path(str(ROOT / "benchmarks" / "experiment_tables.py"))["points"]
    results = [read_results_json(path).results for path in paths]
    for row, against in (("w2sg_mcts", "w2sg_exact"), ("w2sg_stitched", "w2sg_exact"), ("sft_exact", "strong_sft")):
        assert points(asdict(over_seeds(results, row, against, "success").difference)) in said
    assert points(asdict(over_seeds(results, "w2sg_published", "w2sg_naive", "success").difference)) in said
    changed = [unlike(results[0].row(row), results[0].row("w2sg_exact")) for row in ("w2sg_mcts", "w2sg_stitched")]
    assert changed == [21, 29] and "changes 21 and 29 of 200 tasks" in said
    tuned, before = (results[0].row(row).tasks for row in ("sft_exact", "strong_sft"))
    both = [(bool(a.success), bool(b.success)) for a, b in zip(tuned, before, strict=True)]
    assert (both.count((True, False)), both.count((False, True))) == (18, 20) and "18 tasks won and 20 lost" in said
    assert results[0].row("w2sg_mcts").tasks == results[0].row("w2sg_published").tasks, "they are one model"
    found = json.loads((ROOT / "benchmarks" / "results" / "searches-agree.json").read_text())
    assert (found["trees"], found["kept"]) == (112, 102)
    by_walks = {(one["search"], one["walks"]): one for one in found["searches"]}
    assert all(
        by_walks["mcts", walks] == {**by_walks["mcts-published", walks], "search": "mcts"} for walks in (20, 100, 1000)
    )
    assert [by_walks["mcts", walks]["lower_score"] for walks in (20, 100, 1000)] == [2, 1, 0]
    assert (by_walks["mcts", 1000]["other_actions"], by_walks["mcts", 1000]["longer"]) == (6, 2)
    page = " ".join((ROOT / "docs" / "results.md").read_text().split())
    assert (
        "finds 96 of the exact search's 102 paths, and the other six have the same scores, two of them with more"
        in page
    )
    assert found["stitched"] == {"paths": 102, "other_actions": 9, "shorter": 5, "better": 0}
    for phrase in ("takes another path in 6,", "9 of 102 paths differ", "5 are shorter, none scores more"):
        assert phrase in said


def assert_said(monkeypatch: pytest.MonkeyPatch, said: str, paths: list[Path], pairs: tuple[str, ...]) -> None:
    """The text has the differences that the results named, and those of other pairs of rows."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    experiment_tables = runpy.run_path(str(ROOT / "benchmarks" / "experiment_tables.py"))
    named = (one["success"] for one in experiment_tables["compared_runs"](paths)["named"])
    asked = [*((one["row"], one["against"]) for one in named), *(one.split(":") for one in pairs)]
    results = [read_results_json(path).results for path in paths]
    for row, against, *metric in asked:
        found = over_seeds(results, row, against, metric[0] if metric else "success")
        assert experiment_tables["points"](asdict(found.difference)) in said


def test_what_is_said_of_the_earlier_demo_is_what_the_benchmark_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    other_units = runpy.run_path(str(ROOT / "benchmarks" / "other_units.py"))
    stored = json.loads((ROOT / "benchmarks" / "results" / "earlier-demo-seed0.json").read_text())
    said = " ".join((ROOT / "docs" / "results-demo.md").read_text().split())
    for named in other_units["compared"]([other_units["seen"](stored, other_units["by_answer"])])["named"]:
        value, low, high = (100 * named["success"]["difference"][key] for key in ("value", "low", "high"))
        assert f"{value:+.1f} [{low:.1f}, {high:.1f}]" in said


def test_what_is_said_of_the_demo_on_another_processor_is_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    experiment_tables = runpy.run_path(str(ROOT / "benchmarks" / "experiment_tables.py"))
    said = " ".join((ROOT / "docs" / "results-demo.md").read_text().split())
    named = experiment_tables["compared_runs"]([ROOT / "benchmarks" / "results" / "avx2-demo-seed0.json"])["named"]
    assert len(named) == 3
    for one in named:
        assert experiment_tables["points"](one["success"]["difference"]) in said
    assert [f"{one['holm']:.3f}".replace("0.", ".") for one in named[:2]] == [".048", ".096"]
    assert "p = .048 after the correction" in said and "(p = .096 after the correction)" in said


def test_what_is_said_of_the_games_is_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    points = runpy.run_path(str(ROOT / "benchmarks" / "experiment_tables.py"))["points"]
    stored = ROOT / "benchmarks" / "results" / "textworldexpress-probe-dev-seed0.json"
    results = read_results_json(stored).results
    said = " ".join((ROOT / "docs" / "results-dev.md").read_text().split())
    (row,) = (row for row in results.rows if row.name == "strong_sft")
    for game in ("peckingorder", "arithmetic", "mapreader", "sorting"):
        played = [task for task in row.tasks if task.task.startswith(f"{game}/")]
        solved = f"{sum(task.success for task in played):.0f} of {len(played)}"
        assert re.search(rf"(?<!\d){solved} (dev tasks )?in `{game}`", said), game
    assert points(asdict(over_seeds([results], "strong_sft", "weak", "success").difference)) in said


def test_what_is_said_of_webshop_is_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    points = runpy.run_path(str(ROOT / "benchmarks" / "experiment_tables.py"))["points"]
    data = read_results_json(ROOT / "benchmarks" / "results" / "webshop-dev-seed0.json")
    said = section("results-dev.md", "webshop-dev")
    for against in ("weak", "strong"):
        assert points(asdict(over_seeds([data.results], "strong_sft", against, "success").difference)) in said
    tuned = data.results.row("strong_sft")
    solved = [
        tuple(map(int, two)) for two in re.findall(r"(\d+) of (\d+) (?:tasks )?of (?=beauty|electronics|garden)", said)
    ]
    assert [sum(numbers) for numbers in zip(*solved, strict=True)] == [32, tuned.n] and len(solved) == 3
    assert sum(task.success for task in tuned.tasks) == 32
    assert (
        f"something in {tuned.outcomes['completed']} of {tuned.n}" in said
        and not data.results.row("weak").success_rate.value
    )
    seconds = data.timings
    page = " ".join((ROOT / "docs" / "results-dev.md").read_text().split())
    played = sum(taken for name, taken in seconds.items() if name.startswith("evaluate-"))
    minutes = [round(taken / 60) for taken in (seconds["weak"], seconds["train-strong_sft"], played)]
    assert f"{minutes[0]} minutes for the weak model from scratch, {minutes[1]} for strong SFT" in page
    assert f"{minutes[2]} for playing" in page


def test_what_is_said_of_alfworld_is_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    points = runpy.run_path(str(ROOT / "benchmarks" / "experiment_tables.py"))["points"]
    results = read_results_json(ROOT / "benchmarks" / "results" / "alfworld-dev-seed0.json").results
    said = section("results-dev.md", "alfworld-dev")
    for against in ("weak", "strong"):
        assert points(asdict(over_seeds([results], "strong_sft", against, "success").difference)) in said
        assert not any(task.success for task in results.row(against).tasks)
    solved: dict[str, list[bool]] = {}
    for task in results.row("strong_sft").tasks:
        solved.setdefault(task.task_type, []).append(bool(task.success))
    counts = [f"{sum(won)} of {len(won)}" for won in solved.values()]
    assert (
        "{} tasks of putting an object somewhere, {} with a cleaned object and {} with a cooled".format(*counts) in said
    )
    assert f"solves {sum(map(sum, solved.values()))} of 120 tasks" in said
    assert f"All but {120 - results.row('weak').outcomes['truncated']} of its 120 episodes run to their limit" in said
    explored = json.loads((ROOT / "benchmarks" / "results" / "alfworld-exploration.json").read_text())
    assert f"in {explored['episodes that succeed']} of {explored['episodes']:,} episodes" in said
    assert f"in {explored['tasks solved']} of {explored['tasks']} tasks at least once" in said
    assert f"in {explored['tasks won and lost']} it both wins and loses, which gives {explored['pairs']} pairs" in said


def test_what_is_said_of_a_gpu_is_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from trajtree.planning.hardware import HARDWARE

    stored = [ROOT / "benchmarks" / "results" / f"{name}.json" for name in ("gpu", "gpu-large")]
    table = printed(monkeypatch, capsys, "gpu_table.py", *map(str, stored))
    page = (ROOT / "docs" / "training.md").read_text()
    assert f"<!-- gpu:begin -->\n{table}<!-- gpu:end -->" in page
    said = " ".join(page.partition("<!-- gpu:end -->")[2].split())
    first, second = (json.loads(path.read_text())["models"] for path in stored)
    small, middle, large = first["Qwen2.5-0.5B"], first["Qwen2.5-1.5B"], second["Llama-2-7b"]
    full = {name: model["attention"]["times as fast as"]["a row of trees"] for name, model in first.items()}
    both = [[one[side] for one in full.values()] for side in ("TRL", "TRL, reference precomputed", "packed, loop")]
    assert "TRL takes {:.2f} times as long at 0.5B and {:.2f} times at 1.5B".format(*both[0]) in said
    assert "beforehand it takes {:.2f} and {:.2f} times as long".format(*both[1]) in said
    assert "takes {:.2f} and {:.2f} times as long at 0.5B and 1.5B, and".format(*both[2]) in said
    for model in (small, middle):
        memory = {side: step["MiB"] for side, step in model["steps"]["a row of trees"]["sides"].items()}
        assert "with three times the memory" in said and 2.5 < memory["TRL"] / memory["packed, mask"] < 3.5
    short = [
        step["sides"]
        for model in (*first.values(), second["Qwen2.5-1.5B"])
        for name, step in model["steps"].items()
        if name != "a row of trees"
    ]
    seconds = [side["seconds"] for sides in short for side in sides.values()]
    assert f"These steps take {min(seconds):.1f} to {max(seconds):.1f} s" in said
    beforehand = [
        s["TRL, reference precomputed"]["seconds"] / s["packed, mask"]["seconds"] for s in short if "TRL" in s
    ]
    assert "needs only half to nine tenths of our time" in said and min(beforehand) > 0.5 and max(beforehand) < 0.95
    exact = [model["exactness"][how] for model in (small, middle) for how in ("packed, mask", "alone")]
    nats = "({:.4f} and {:.4f} nats on average at 0.5B, {:.4f} and {:.4f} at 1.5B, 120 tokens)"
    assert nats.format(*(one["nats from float32, mean"] for one in exact)) in said
    row = {side: step["seconds"] for side, step in large["steps"]["a row of trees"]["sides"].items()}
    slower = row["packed, deterministic"] / row["packed, mask"]
    assert f"A full row of Llama-2-7b takes {slower:.2f} times as long" in said
    assert f"and {row['packed, loop'] / row['packed, mask']:.2f} times at 7B" in said
    rates = [small["rollouts"][f"{number} at once"]["per second"] for number in (8, 32, 128)]
    assert "{:.0f}, {:.0f} and {:.0f} sampled tokens per second".format(*rates) in said
    assert f"{8000 / rates[0]:.0f} ms per token of the batch" in said
    planned = HARDWARE["H100"]
    for width, model in ((896, small), (1536, middle), (4096, large)):
        assert model["plan"]["Tflop/s"]["packed, mask"] * 1e12 == pytest.approx(planned.speed(width), rel=0.02)


def test_what_more_episodes_give_is_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = ROOT / "benchmarks" / "results" / "rollouts-per-task.json"
    table = printed(monkeypatch, capsys, "rollouts_per_task.py", "--out", str(stored))
    page = (ROOT / "docs" / "results-dev.md").read_text()
    assert f"<!-- rollouts-per-task:begin -->\n{table}<!-- rollouts-per-task:end -->" in page
    head, _, *rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    by_size = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    first, six, ten = by_size["3"], by_size["6"], by_size["10"]
    said = " ".join(page.split())
    assert f"go from {first['options per fork']} to {ten['options per fork']}." in said
    assert f"number of forks, {float(first['forks']):.1f} to {float(ten['forks']):.1f} per tree" in said
    assert f"ten episodes {float(ten['informative forks']):.1f} of {float(ten['forks']):.1f} have" in said
    more = {name: float(ten[name]) - float(six[name]) for name in ("pairs", "solved, %")}
    assert f"add {more['pairs']:.2f} pairs per task and {more['solved, %']:.1f} points".replace("0.", ".", 1) in said
    falls = [
        name
        for name in head[1:]
        if any(float(a[name].replace(",", "")) > float(b[name].replace(",", "")) for a, b in pairwise(by_size.values()))
    ]
    assert not falls


def test_how_many_tasks_of_dev_and_test_share_situations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    by_answer = runpy.run_path(str(ROOT / "benchmarks" / "other_units.py"))["by_answer"]
    dev, test = (
        json.loads((ROOT / "benchmarks" / "results" / f"{name}-seed0.json").read_text())["rows"][0]["tasks"]
        for name in ("own-runs", "scienceworld")
    )
    counts = []
    for seen in (dict, by_answer):
        known = {seen(task)["situation"] for task in dev}
        counts.append(sum(seen(task)["situation"] in known for task in test))
    page = " ".join((ROOT / "docs" / "results.md").read_text().split())
    assert f"{counts[0]} test tasks are in a situation that dev also has, {counts[1]} counted by answer" in page


def test_what_rows_learn_from_is_what_was_counted() -> None:
    page = " ".join((ROOT / "docs" / "results.md").read_text().split())
    counted = json.loads((ROOT / "benchmarks" / "results" / "scienceworld-copies.json").read_text())
    assert len(counted) == len(seeds_of("scienceworld"))
    paths = [found["paths-weak-exact"] for found in counted.values()]
    random = [found["pairs-second-own_random"] for found in counted.values()]
    succeed = listed([f"{one['succeed']} of {one['runs']}" for one in paths])
    assert f"{succeed} succeed, of which {listed([str(one['demonstrations']) for one in paths])} are the demon" in page
    at_forks = listed([f"{one['at a fork too']} of {one['pairs']}" for one in random])
    assert f"at a fork in {at_forks} cases" in page
    for unseen in (found["unseen"] for found in counted.values()):
        assert f"{unseen['in a demonstrated situation']} of the {unseen['tasks']} are in the situation" in page
        assert f"and {unseen['in a demonstrated world']} more share a world" in page


def test_how_little_the_pairs_were_told_apart_is_what_the_runs_say() -> None:
    page = " ".join((ROOT / "docs" / "results.md").read_text().split())
    ratios, losses, steps, won, apart, moved, cut = [], [], [], [], [], [], []
    for path in map(Path, seeds_of("scienceworld")):
        stored = json.loads(path.read_text())
        (said,) = (one for one in stored["statements"] if one["row"] == "own_anchored")
        ratio = said["epochs"][0]["chosen"] - said["epochs"][0]["rejected"]
        solved = {row["name"]: {t["task"]: t["success"] for t in row["tasks"]} for row in stored["rows"]}
        pairs, control, start = (solved[name] for name in ("own_anchored", "own_chosen", "chosen_solved_sft"))
        differ = [task for task in pairs if pairs[task] != control[task]]
        ratios.append(f"{ratio:.2f}".replace("-0.", "-.").removeprefix("0"))
        losses.append(f"{math.log1p(math.exp(-0.1 * ratio)):.2f}".removeprefix("0"))
        steps.append(str(said["steps"]))
        apart.append(f"{100 * len(differ) / len(pairs):g}")
        won.append(f"{sum(pairs[task] > 0 for task in differ)} of {len(differ)}")
        moved.append(f"{100 * sum(pairs[task] != start[task] for task in pairs) / len(pairs):g}")
        (weak,) = (row for row in stored["rows"] if row["name"] == "weak")
        cut.append(f"{100 * weak['outcomes']['truncated'] / weak['n']:.0f}")
    assert f"Over the {listed(steps)} steps of anchored DPO" in page
    assert f"averaged {listed(ratios)} nats, a contrast loss of {listed(losses)} against .69" in page
    assert f"from its start in {listed(moved)} % of the tasks" in page
    assert f"The two differ in {listed(apart)} %" in page
    assert f"the pairs win {listed(won)}" in page
    assert f"cut off in {listed(cut)} % of its test episodes" in page


def test_search_against_the_expert_is_what_the_runs_say() -> None:
    paths = sorted((ROOT / "benchmarks" / "results").glob("failures-seed*.json"))
    found = over_seeds([read_results_json(path).results for path in paths], "w2sg_exact", "strong_sft", "success")
    ends = (found.these_models.low, found.these_models.high, found.difference.low, found.difference.high)
    assert [round(100 * one, 1) for one in found.by_seed] == [-21.0, -7.6, -14.3]
    assert [round(100 * end, 1) for end in ends] == [-27.9, -1.9, -30.4, 0.8]
    assert [round(p, 3) for p in (found.these_models_p, found.p_value)] == [0.028, 0.061]
    page = (ROOT / "docs" / "results-dev.md").read_text()
    assert "-14.3 [-27.9, -1.9], p = .028, over situations and seeds [-30.4, .8], p = .061" in page


def test_a_page_is_called_what_the_menu_calls_it() -> None:
    entries = re.findall(r"- ([^:\n]+): ((?!reference/)[\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert len(entries) > 15
    titles = {page: (ROOT / "docs" / page).read_text().partition("\n")[0] for _, page in entries}
    # The start page has the project's motto, and the summary of the results is called Results.
    others = {page for label, page in entries if titles[page] != f"# {label}"}
    assert others <= {"index.md", "results.md"}


@pytest.mark.parametrize(
    "page", [*sorted((ROOT / "docs").glob("*.md")), *ROOT.glob("*.md")], ids=lambda page: page.name
)
def test_an_asterisk_that_is_part_of_a_name_is_escaped(page: Path) -> None:
    """The site would take everything up to the next one as emphasised, as between two optimal policies."""
    text = re.sub(r"(?s:```.*?```)|^ {4}.*$|^ *\* ", "", page.read_text(), flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`|\\\*|\*\*", "", text)
    left = re.sub(r"(?<![\w}])\*(?=\S)[^*]*?(?<=\S)\*(?!\w)", "", text)
    assert not [line for line in left.splitlines() if "*" in line]
