"""Running a recipe's stages, in this process, in several of this machine, or with a cluster.

A stage's folder counts once it contains its marker, which is written last and atomically; a folder without one is
unfinished work that the stage resumes. The marker records the folder's contents, which are verified before they are
used again.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trajtree.errors import RecipeError, RunError, one_of, with_its_extra
from trajtree.experiment.pipeline import stages_of
from trajtree.experiment.provenance import provenance_of
from trajtree.experiment.recipe import Recipe
from trajtree.experiment.redoing import Redoing
from trajtree.experiment.report_folders import keep_recipe
from trajtree.experiment.schedule import NEEDLESS, Prepared, Schedule
from trajtree.experiment.stage import (
    KINDS,
    MARKER,
    PRELOADED,
    Done,
    Finished,
    Missing,
    Stage,
    Work,
    key_of,
    needed_for,
    still_needed,
    with_dependents,
)
from trajtree.explore.place import HERE, Here
from trajtree.models.allocator import release_memory, share_cores, tame_memory
from trajtree.policies.opening import is_local
from trajtree.policies.spending import Spending
from trajtree.store.apart import Apart
from trajtree.store.files import UNFINISHED, write_atomically
from trajtree.store.full_disk import saving_into
from trajtree.store.lock import locked
from trajtree.store.manifest import FileState, as_json, digest_of, from_json, manifest_of, verified
from trajtree.store.progress import SILENT, UNWATCHED, Progress, Stages

if TYPE_CHECKING:
    from trajtree.cluster.place import Cluster

ALL = "all"
"""Stands for all stages in a list of stages to redo."""
_SHORT = 12
"""Number of a key's characters in the name of its results' folder."""


def run_recipe(
    recipe: Recipe,
    run: Path,
    progress_of: Callable[[str], Progress],
    *,
    watch: Stages = UNWATCHED,
    until: str | None = None,
    redo: Collection[str] = (),
    say: Callable[[str], None] = lambda sentence: None,
    spending: Spending | None = None,
    cluster: Cluster | None = None,
    jobs: int = 1,
) -> Finished:
    """Bring a run up to date, completely or only up to the stages of one kind.

    Args:
        recipe: what to run.
        run: the run directory.
        progress_of: gives a stage's display by its name, called when the stage begins.
        watch: is notified of what becomes of the stages.
        until: a name in KINDS.
        redo: names of stages to redo, together with all that read from them; ALL stands for every stage.
        say: receives sentences about stages in the directory that cannot be reused, and stages that are left out.
        spending: counts what model servers are asked, and stops at the command's limit.
        cluster: plays, and does what only reads and writes files; by default all is done in this process.
        jobs: number of stages that are done at a time, each in a process of its own with its share of the cores, except
            those that ask model servers; 1 does them all in this process, and so does a cluster what it does not do.

    Raises:
        TrajtreeError: anything that the user can fix, in one sentence.
    """
    if missing := missing_packages(recipe):
        raise RunError(f"this needs {'; '.join(map(with_its_extra, missing))}")
    stages = stages_of(recipe)
    if until is not None:
        kinds = dict.fromkeys(stage.kind for stage in stages)
        if until not in kinds:
            raise RecipeError(f"none of the rows needs a stage of kind {until}; their stages are {', '.join(kinds)}")
        stages = needed_for(stages, until)
    names = [stage.name for stage in stages]
    for name in redo:
        try:
            one_of([*names, ALL])(name)
        except ValueError as error:
            raise RecipeError(f"--redo: {error}") from None
    if older := _of_older_versions(run):
        say(
            f"{run}: {older} stages in it were made by an earlier version of trajtree and cannot be reused; what is "
            "needed is redone beside them"
        )
    again = names if ALL in redo else redo
    if until is None:
        keep_recipe(recipe, run)
    return run_stages(
        stages,
        run,
        progress_of,
        provenance_of(recipe),
        watch=watch,
        until=until,
        redo=again,
        say=say,
        spending=spending,
        cluster=cluster,
        jobs=jobs,
    )


def missing_packages(recipe: Recipe) -> list[str]:
    """The packages that running a recipe needs, whatever its environment, and that are not installed."""
    needed = ["torch", "transformers", "peft"]
    if recipe.play.servers or any(name and not is_local(name) for name in (recipe.weak.model, recipe.strong.model)):
        needed.append("openai")
    return [package for package in needed if importlib.util.find_spec(package) is None]


def run_stages(
    stages: Sequence[Stage],
    run: Path,
    progress_of: Callable[[str], Progress],
    provenance: Mapping[str, str],
    *,
    watch: Stages = UNWATCHED,
    until: str | None = None,
    redo: Collection[str] = (),
    say: Callable[[str], None] = lambda sentence: None,
    spending: Spending | None = None,
    cluster: Cluster | None = None,
    jobs: int = 1,
) -> Finished:
    """Bring stages up to date, each after those that it reads from.

    Stages in `redo` are redone, and so are those that read from them; given again after it was stopped, the same `redo`
    goes on where it was. A stage that has nothing to work on is left out, with those that read from it and those that
    are done for it alone: they are in the `missing` of what is returned. All that can be known of this is known before
    anything that takes long begins. `until` is the kind that is asked for, as in `run_recipe`. With a cluster or
    several `jobs`, stages that are done elsewhere run beside each other and beside the one that is done here; otherwise
    they are done in their order.

    Raises:
        RunError: another process uses the directory, or a stage's results have changed since it was finished.
    """
    done = Finished()
    spending = spending if spending is not None else Spending()
    again = with_dependents(stages, redo)
    redoing: Redoing
    apart = Apart(jobs, PRELOADED) if jobs > 1 and cluster is None else None
    # The first stage of those that differ in what they are called only.
    alike: dict[str, str] = {}
    needed, unchecked = {stage.name for stage in stages}, [stage for stage in stages if stage.check is not None]

    def prepare(stage: Stage) -> Prepared:
        nonlocal needed
        key = key_of(stage, done)
        twin = alike.setdefault(key_of(stage, done, labelled=False), stage.name)
        if twin != stage.name and twin not in done:
            return None
        sharing = next((name for name, other in done.items() if other.folder.name == key[:_SHORT]), None)
        if sharing is None and twin in done and not any(run.glob(f"*/{key[:_SHORT]}/{MARKER}")):
            sharing = twin
        if stage.name in redo and sharing is not None and sharing not in again:
            raise RunError(f"--redo {stage.name}: it has the result of {sharing}; type --redo {sharing}")
        if stage.name in redoing and sharing is None:
            _remove(run, key)
            redoing.begin(stage.name)
        found = _finished(run, stage, key) or (done[twin] if sharing == twin else None)
        if found is not None:
            watch.ended(stage.name, found.seconds, kept=True)
            return replace(found, cached=True)
        if not KINDS[stage.kind].early:
            _leave_out(stages, unchecked, done, say)
            needed = still_needed(stages, done.missing, until)
        if stage.name not in needed:
            return NEEDLESS
        before = dict(done)

        def do() -> Done:
            result = _do(stage, key, run, before, progress_of, provenance, spending, cluster, apart)
            watch.ended(stage.name, result.seconds, kept=False)
            return result

        return do

    with locked(run / ".lock", _in_use(run)):
        redoing = Redoing(run, redo, again)
        watch.planned([stage.name for stage in stages])
        if apart is None:
            Schedule(stages, prepare, done, None if cluster is None else cluster.nodes.stopped.set).run()
        else:
            Schedule(stages, prepare, done, apart.stop, elsewhere=lambda stage: not stage.here, most=jobs).run()
        redoing.end()
    return done


def _leave_out(stages: Sequence[Stage], unchecked: list[Stage], done: Finished, say: Callable[[str], None]) -> None:
    """Add to the missing stages those that have nothing to work on, and all that read from them.

    Stages whose check can be done are removed from `unchecked`.
    """
    found: dict[str, list[str]] = {}
    for stage in list(unchecked):
        check = stage.check
        if check is None or stage.name in done or stage.name in done.missing:
            unchecked.remove(stage)
        elif all(stage.inputs[role] in done for role in check.reads):
            unchecked.remove(stage)
            why = check.why_not({role: done[stage.inputs[role]].folder for role in check.reads})
            if why is not None:
                without = with_dependents(stages, [stage.name])
                done.missing |= {name: Missing(stage.name, why) for name in without if name not in done.missing}
                found.setdefault(why, []).append(stage.name)
    for why, names in found.items():
        say(f"left out, with all that needs it: {', '.join(names)}: {why}")


def finished_stages(stages: Sequence[Stage], run: Path) -> dict[str, Done]:
    """Those stages that a run directory has, by name; nothing is done.

    Raises:
        RunError: a stage's results have changed since it was finished.
    """
    done: dict[str, Done] = {}
    alike: dict[str, str] = {}
    for stage in stages:
        if not all(name in done for name in stage.inputs.values()):
            continue
        twin = alike.setdefault(key_of(stage, done, labelled=False), stage.name)
        found = _finished(run, stage, key_of(stage, done)) or done.get(twin)
        if found is not None:
            done[stage.name] = found
    return done


def _remove(run: Path, key: str) -> None:
    """Remove the results stored under a key atomically, so that half of them is never taken for work to resume."""
    for folder in run.glob(f"*/{key[:_SHORT]}"):
        removed = folder.with_name(f".{folder.name}{UNFINISHED}")
        shutil.rmtree(removed, ignore_errors=True)
        folder.rename(removed)
        shutil.rmtree(removed)


def _in_use(run: Path) -> str:
    return f"{run}: in use by another process ({{holder}}); wait for it, or name another directory with --run"


def _do(
    stage: Stage,
    key: str,
    run: Path,
    done: Mapping[str, Done],
    progress_of: Callable[[str], Progress],
    provenance: Mapping[str, str],
    spending: Spending,
    cluster: Cluster | None,
    apart: Apart | None,
) -> Done:
    folder = run / stage.name / key[:_SHORT]
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    inputs = {role: done[name].folder for role, name in stage.inputs.items()}
    work = Work(folder, inputs, progress_of(stage.name), spending, HERE if cluster is None else cluster)
    with saving_into(folder, "nothing finished is lost: make room and run the same command again"):
        if apart is not None and not stage.here:
            work.figures.update(
                apart.do(partial(_beside_others, stage.work, folder, inputs, apart.count), work.progress)
            )
        elif cluster is not None and stage.where == "apart":
            work.figures.update(cluster.apart(partial(_on_copies, stage.work), folder, inputs))
        else:
            stage.work(work)
    release_memory()
    files, seconds = manifest_of(folder, without=[MARKER]), round(time.monotonic() - began, 1)
    digest = digest_of(files)
    record = {
        "stage": stage.name,
        "kind": stage.kind,
        "version": KINDS[stage.kind].version,
        "key": key,
        "digest": digest,
        "seconds": seconds,
        "inputs": {role: done[name].digest for role, name in stage.inputs.items()},
        "settings": stage.settings,
        "figures": work.figures,
        "provenance": provenance,
        "files": as_json(files),
    }
    write_atomically(folder / MARKER, json.dumps(record, indent=2, default=str))
    return Done(folder, digest, seconds, False, record)


def _beside_others(
    do: Callable[[Work], None], folder: Path, inputs: Mapping[str, Path], jobs: int, progress: Progress
) -> dict[str, Any]:
    """Do a stage's work in a process of its own, with its share of the machine; returns its figures."""
    tame_memory()
    share_cores(jobs)
    work = Work(folder, inputs, progress, place=Here(jobs))
    do(work)
    return work.figures


def _on_copies(do: Callable[[Work], None], folder: Path, inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Do a stage's work where only copies of its inputs are; returns its figures."""
    work = Work(folder, inputs, SILENT)
    do(work)
    return work.figures


def _finished(run: Path, stage: Stage, key: str) -> Done | None:
    """The stage's finished folder, else that of any other stage that did the same work.

    Raises:
        RunError: its marker is damaged, or its contents have changed.
    """
    others = sorted(run.glob(f"*/{key[:_SHORT]}/{MARKER}"))
    own = run / stage.name / key[:_SHORT] / MARKER
    for marker in sorted(others, key=lambda path: path != own):
        record = _read_marker(marker, stage.name)
        if record["key"] == key:
            _verify(marker, record, stage.name)
            return Done(marker.parent, record["digest"], record["seconds"], True, record)
    return None


def _verify(marker: Path, record: Mapping[str, Any], name: str) -> None:
    """Compare a finished folder with its marker, and record new times of unchanged files in the marker."""
    folder, known = marker.parent, record.get("files")
    try:
        if known is None:
            files = _at_first_sight(folder, record)
        else:
            files = verified(folder, from_json(known), without=[MARKER])
    except ValueError as error:
        raise RunError(
            f"{error}; it was changed since {name} was finished: put it back, or run the same command with "
            f"--redo {name} to do this stage and what reads from it again"
        ) from None
    if as_json(files) != known:
        write_atomically(marker, json.dumps({**record, "files": as_json(files)}, indent=2))


def _at_first_sight(folder: Path, record: Mapping[str, Any]) -> dict[str, FileState]:
    """The files of a folder with a marker of earlier versions, which has a single hash; some also covered locks."""
    files = manifest_of(folder, without=[MARKER])
    if record["digest"] not in (digest_of(files), digest_of(manifest_of(folder, without=[MARKER], hidden=True))):
        raise ValueError(f"{folder}: a file in it is missing, new, or holds something else")
    return files


def _read_marker(marker: Path, name: str) -> dict[str, Any]:
    try:
        record = json.loads(marker.read_text())
        known = {"key": str(record["key"]), "digest": str(record["digest"]), "seconds": float(record["seconds"])}
        return {**record, **known}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{marker}: damaged ({error}); run the same command with --redo {name} to do this stage and what reads "
            "from it again"
        ) from None


def _of_older_versions(run: Path) -> int:
    """Finished stages that were made before kinds had versions, or under another version of their kind."""
    count = 0
    for marker in run.glob(f"*/*/{MARKER}"):
        try:
            record = json.loads(marker.read_text())
        except ValueError:
            continue  # reported as damaged if a stage needs it
        kind = KINDS.get(str(record.get("kind")))
        count += kind is None or record.get("version") != kind.version
    return count


__all__ = ["ALL", "finished_stages", "missing_packages", "run_recipe", "run_stages"]
