"""Environments in worker processes: the time limit of a reset or step, and crashes that affect nothing else.

Every worker process holds its share of the environments and answers one call at a time. A call that takes longer than
its limit ends the worker, with whatever it has started (a virtual machine, for example), and so does a crash; the
worker is started again when an episode begins there. Episodes that were under way in it are lost and can be played
again: the one whose call it was ended in a fault of its own, the others in a `WorkerLost`.
"""

from __future__ import annotations

import os
import pickle
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from threading import Lock, Thread
from typing import Any, ClassVar, Protocol

from trajtree.envs.base import Environment, StepResult
from trajtree.envs.domain import load_domain
from trajtree.envs.guard import named, problem_of_closing, quoted
from trajtree.envs.limits import limited
from trajtree.errors import EnvError, WorkerLost

_PATIENCE = 5.0
"""Seconds that a worker gets to close its environments."""
_START = 120.0
"""Seconds that a worker gets to start; they are not part of the limit of its first call."""


@dataclass(frozen=True, slots=True)
class EnvMaker:
    """Makes environments of a domain by its name, so that it can be sent to another process.

    Attributes:
        name: of the environment, as recipes write it.
        max_steps: step limit of an episode, or of each task; None for the environment's own.
    """

    name: str
    max_steps: int | Mapping[str, int | None] | None

    def __call__(self) -> Environment:
        """One environment."""
        domain = load_domain(self.name)
        if isinstance(self.max_steps, Mapping):
            return limited(domain, self.max_steps.__getitem__)
        return domain.make(self.max_steps)


@contextmanager
def environments(make: EnvMaker, *, workers: int, seconds: float) -> Iterator[Callable[[], Environment]]:
    """A maker of environments that live as long as the block.

    Args:
        make: makes one.
        workers: processes to make them in; 0 for this one, in which no call has a time limit.
        seconds: longest that one reset or step may take.
    """
    if not workers:
        yield make
        return
    kind = load_domain(make.name).environment
    with closing(Workers(make, kind, count=workers, seconds=seconds)) as made:
        yield made.make


def cores() -> int:
    """Number of worker processes for this machine: one per core."""
    return os.cpu_count() or 1


class Workers:
    """Environments in worker processes.

    Args:
        make: makes one environment; it is called in the workers, so it must be picklable.
        kind: the class of what it makes.
        count: largest number of processes; there are never more than environments.
        seconds: longest that one reset or step may take.
        worker: starts one, given `make` and `seconds`; by default a process of this machine.
    """

    def __init__(
        self,
        make: Callable[[], Environment],
        kind: type[Environment],
        *,
        count: int,
        seconds: float,
        worker: Callable[[Callable[[], Environment], float], Worker] | None = None,
    ) -> None:
        self._kind, self._count = kind, count
        self._start = partial(worker or LocalWorker, make, seconds)
        self._workers: list[Worker] = []
        self._made = 0

    def make(self) -> Environment:
        """One more environment, in the next worker in turn."""
        slot, index = divmod(self._made, self._count)
        self._made += 1
        if index == len(self._workers):
            self._workers.append(self._start())
        return _remote(self._kind)(self._workers[index], slot)

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.close()


class Worker(Protocol):
    """A process that holds environments."""

    def call(self, slot: int, method: str, argument: str, generation: Any) -> tuple[Any, Any]:
        """What a method of the environment in `slot` returns, and the generation of the worker in which it did.

        Args:
            slot: number of the environment in this worker.
            method: its name.
            argument: what it is given.
            generation: the generation in which the episode began; None for one that begins now.

        Raises:
            WorkerLost: the worker was started anew since the episode began.
            EnvError: no answer came in time, or the process died.
            Exception: whatever the environment raised.
        """
        ...

    def close(self) -> None:
        """Close its environments and end it."""
        ...


class LocalWorker:
    """One process of this machine, which is started when it is first asked for something; see `Worker`."""

    def __init__(self, make: Callable[[], Environment], seconds: float) -> None:
        self._make, self._seconds = make, seconds
        self._lock = Lock()
        self._process: Any = None
        self._connection: Connection | None = None
        self.generation = 0
        """How often it has been started."""

    def call(self, slot: int, method: str, argument: str, generation: int | None) -> tuple[Any, int]:
        """See `Worker.call`."""
        with self._lock:
            if generation is not None and (generation != self.generation or self._connection is None):
                raise WorkerLost("its worker process was ended because of another episode")
            try:
                if self._connection is None:
                    self._start()
                assert self._connection is not None
                self._connection.send((slot, method, argument))
                if not self._connection.poll(self._seconds):
                    self._kill()
                    raise EnvError(f"no answer within {self._seconds:g} seconds")
                raised, value = self._connection.recv()
            except (EOFError, OSError):
                code = self._kill()
                raise EnvError(f"its process died (exit code {code})") from None
            if raised:
                raise value
            return value, self.generation

    def _start(self) -> None:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._make), daemon=True)
        with _without_interrupts():
            process.start()
        theirs.close()
        self._process, self._connection = process, ours
        self.generation += 1
        if not ours.poll(_START):
            self._kill()
            raise EnvError(f"its process did not start within {_START:g} seconds")
        ours.recv()

    def _kill(self) -> int | None:
        """End the process and all that it has started; its exit code."""
        process = self._process
        if process is None:  # the system could not start one
            return None
        with suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        code: int | None = process.exitcode
        return code

    def close(self) -> None:
        """See `Worker.close`."""
        with self._lock:
            if self._connection is None:
                return
            with suppress(OSError, EOFError):  # a dead worker needs no closing
                self._connection.send(None)
                if self._connection.poll(_PATIENCE):
                    for problem in self._connection.recv():
                        warnings.warn(problem, stacklevel=1)
                    self._process.join(_PATIENCE)
            self._kill()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process started inside never receives Control-C, not even while it starts: its parent handles that."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, make: Callable[[], Environment]) -> None:
    """Answer calls until the connection ends; runs in the worker."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # whatever is started here can be ended with it
    Thread(target=_end_with_parent, daemon=True).start()
    envs: dict[int, Environment] = {}
    with suppress(EOFError, OSError):  # the parent is gone
        connection.send(None)  # ready
        while (asked := connection.recv()) is not None:
            slot, method, argument = asked
            try:
                if slot not in envs:
                    envs[slot] = make()
                answer: tuple[bool, Any] = False, getattr(envs[slot], method)(argument)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the parent reports it
                answer = True, error
            connection.send_bytes(_pickled(answer))
        connection.send([problem for env in envs.values() if (problem := problem_of_closing(env)) is not None])


def _end_with_parent() -> None:
    """End this process and what it has started when the parent is gone, even while an environment hangs."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _pickled(answer: tuple[bool, Any]) -> bytes:
    """The answer as the parent can read it, or what it looks like."""
    try:
        sent = pickle.dumps(answer)
        pickle.loads(sent)
    except Exception:  # noqa: BLE001 - classes of the environment's own may raise anything here
        raised, value = answer
        if raised:
            return pickle.dumps((True, EnvError(f"raised {named(value)}")))
        return pickle.dumps((True, EnvError(f"gave {quoted(value)}, which cannot leave its process")))
    return sent


class _Remote(Environment):
    """An environment in a worker."""

    name: ClassVar[str] = ""
    version: ClassVar[str] = ""
    instruction: ClassVar[str] = ""

    def __init__(self, worker: Worker, slot: int) -> None:
        self._worker, self._slot = worker, slot
        self._generation: Any = None

    def reset(self, task: str) -> str:
        observation, self._generation = self._worker.call(self._slot, "reset", task, None)
        found: str = observation
        return found

    def step(self, action: str) -> StepResult:
        result, _ = self._worker.call(self._slot, "step", action, self._generation)
        found: StepResult = result
        return found


def _remote(kind: type[Environment]) -> type[_Remote]:
    """What is said of the class without making one, said by its stand-in."""
    said = {
        "name": kind.name,
        "version": kind.version,
        "instruction": kind.instruction,
        "tools": kind.tools,
        "canonical_action": staticmethod(kind.canonical_action),
        "canonical_observation": staticmethod(kind.canonical_observation),
    }
    return type(kind.__name__, (_Remote,), said)


__all__ = ["EnvMaker", "LocalWorker", "Worker", "Workers", "cores", "environments"]
