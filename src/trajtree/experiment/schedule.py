"""The order in which stages are done: each after what it reads; with processes of their own, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Condition

from trajtree.experiment.stage import KINDS, Done, Finished, Stage, with_dependents

NEEDLESS = "needless"
Prepared = Done | Callable[[], Done] | str | None
"""A stage whose inputs are done: its result, what is left to do, NEEDLESS, or None while another one does the same."""


class Schedule:
    """Stages on their way to being done.

    Args:
        stages: each after those that it reads from.
        prepare: see Prepared; it is never called twice at the same time.
        done: receives the results; stages that are missing in it are left out.
        stop: ends the work on stages that are done elsewhere, by a cluster or by processes of this machine; None if all
            are done here.
        elsewhere: whether a stage is done elsewhere; by default what a cluster does.
        most: how many are done elsewhere at a time; None for any number.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        prepare: Callable[[Stage], Prepared],
        done: Finished,
        stop: Callable[[], None] | None,
        *,
        elsewhere: Callable[[Stage], bool] = lambda stage: stage.where != "here",
        most: int | None = None,
    ) -> None:
        self._stages, self._waiting = stages, list(stages)
        self._prepare, self._done, self._stop = prepare, done, stop
        self._elsewhere, self._most = elsewhere, len(stages) if most is None else most
        self._changed = Condition()
        self._going = 0
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do all stages: those that are done here one after another in this thread, where signals arrive.

        Raises:
            BaseException: the first that a stage raised; the others have been stopped by then.
        """
        with ThreadPoolExecutor(max(1, len(self._waiting))) as pool:
            try:
                while (due := self._due_here(pool)) is not None:
                    stage, work = due
                    result = work()
                    with self._changed:
                        self._done[stage.name] = result
            finally:
                with self._changed:
                    self._waiting.clear()
                    if self._going and self._stop is not None:
                        self._stop()

    def _due_here(self, pool: ThreadPoolExecutor) -> tuple[Stage, Callable[[], Done]] | None:
        """The next stage to be done here, once there is one; None after the last."""
        with self._changed:
            while True:
                if self._error is not None:
                    raise self._error
                if (due := self._start(pool, here=True)) is not None:
                    return due
                if not self._going:
                    # What is not known by now will never be: it would have come from stages that are left out.
                    due = self._start(pool, here=True, knowing=False)
                    if due is not None or not self._going:
                        return due
                self._changed.wait()

    def _start(
        self, pool: ThreadPoolExecutor, *, here: bool, knowing: bool = True
    ) -> tuple[Stage, Callable[[], Done]] | None:
        """Start what can be done elsewhere; with `here`, returns the first stage that is to be done here."""
        position = 0
        while position < len(self._waiting):
            stage = self._waiting[position]
            elsewhere = self._stop is not None and self._elsewhere(stage)
            if stage.name in self._done.missing:
                self._waiting.remove(stage)
                continue
            can_start = self._going < self._most if elsewhere else here
            prepared = self._prepare(stage) if can_start and self._is_due(stage, knowing) else None
            if prepared is None:
                position += 1
                continue
            self._waiting.remove(stage)
            if isinstance(prepared, Done):
                self._done[stage.name] = prepared
                position = 0  # earlier ones may have waited for the same result
            elif callable(prepared) and elsewhere:
                self._going += 1
                pool.submit(self._do_elsewhere, pool, stage, prepared)
            elif callable(prepared):
                return stage, prepared
            # What is needless is left behind: nothing waits for it.
        return None

    def _is_due(self, stage: Stage, knowing: bool) -> bool:
        """Whether its inputs are done and, with `knowing`, all is known of it that would be if all were done here."""
        if any(name not in self._done for name in stage.inputs.values()):
            return False
        return not knowing or (self._is_named(stage) and self._is_decided(stage))

    def _is_named(self, stage: Stage) -> bool:
        """Whether it is known whose names its result will hold: of stages with one result the first one is done."""
        before = self._waiting[: self._waiting.index(stage)]
        return not stage.labels or all(other.kind != stage.kind for other in before)

    def _is_decided(self, stage: Stage) -> bool:
        """Whether it is known, as far as earlier stages can tell, that something needs what takes long."""
        if KINDS[stage.kind].early:
            return True
        names = [each.name for each in self._stages]
        before, after = set(names[: names.index(stage.name)]), with_dependents(self._stages, [stage.name])
        deciding = {
            each.inputs[role]
            for each in self._stages
            if each.check is not None and each.name in after - self._done.missing.keys()
            for role in each.check.reads
        }
        return all(name in self._done for name in deciding & before)

    def _do_elsewhere(self, pool: ThreadPoolExecutor, stage: Stage, work: Callable[[], Done]) -> None:
        ended: Done | BaseException
        try:
            ended = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where `run` was called
            ended = error
        with self._changed:
            self._going -= 1
            try:
                if isinstance(ended, BaseException):
                    raise ended
                self._done[stage.name] = ended
                self._start(pool, here=False)
            except BaseException as error:  # noqa: BLE001 - as above; preparing another stage may fail too
                self._error = self._error or error
            self._changed.notify()


__all__ = ["Schedule"]
