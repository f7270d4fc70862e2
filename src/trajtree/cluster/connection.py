"""Connecting to a Ray cluster: a problem with it, or with what is to run there, is reported before anything runs."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trajtree.cluster.nodes import failure
from trajtree.cluster.place import Cluster
from trajtree.envs.domain import load_domain
from trajtree.errors import RunError
from trajtree.policies.opening import SCHEMES, scheme_of

_PATIENCE = 10.0
"""Seconds for the cluster's address to answer."""
_CHECK = 300.0
"""Seconds for every node to say what it has; a node begins by starting a Python process."""
_ADDRESS = re.compile(r"ray://(?P<host>[^/:\s]+|\[[^\]\s]+\]):(?P<port>\d{1,5})")


@contextmanager
def connected(
    on: str, *, environment: str, models: Iterable[str], needs: Mapping[str, float], say: Callable[[str], None]
) -> Iterator[Cluster]:
    """A cluster, checked, for as long as the context lasts.

    Args:
        on: `ray` for the cluster that this machine is in (or RAY_ADDRESS names), or else one of this machine alone;
            `ray://HOST:PORT` for the one whose client server answers there.
        environment: the environment's name, as recipes write it.
        models: names of the models that will play.
        needs: what one worker takes, as far as the user specified it.
        say: receives a sentence about what was found.

    Raises:
        RunError: no such cluster answers; a node of it has another version of Python, Ray, trajtree, the environment or
            its data; none has what a worker needs; or a policy cannot be sent there.
    """
    for model in models:
        _check_sendable(model)
    address = _address(on)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    try:
        # Without an address Ray looks for a cluster by itself, and starts one if there is none.
        ray.init(address, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise RunError(f"--on {on}: cannot be used: {' '.join(str(error).split())}{_token_hint()}") from None
    finally:
        for number, handler in handlers.items():  # Ray has replaced them by its own
            signal.signal(number, handler)
    try:
        cluster = Cluster()
        alive = cluster.nodes.alive()
        _check_versions(alive)
        _check_environment(alive, environment)
        cluster.nodes.check(cluster.nodes.takes(needs, processes=1, model=True))
        say(f"ray: {cluster.nodes}")
        yield cluster
    finally:
        ray.shutdown()


def _token_hint() -> str:
    """What to set where a cluster may ask for a token: Ray says only that it could not connect."""
    if os.environ.get("RAY_AUTH_MODE") == "token":
        return "; is ~/.ray/auth_token here the one of its nodes?"
    return "; if its nodes were started with a token, set RAY_AUTH_MODE=token, with their ~/.ray/auth_token here too"


def _address(on: str) -> str | None:
    """The address that Ray connects to, at which something answers; None where Ray looks by itself."""
    if on == "ray":
        said = os.environ.get("RAY_ADDRESS", "")
        host, _, port = said.rpartition(":")
        if host and port.isdigit() and "/" not in host:
            _check_answers(f"--on ray: RAY_ADDRESS is {said}, and", host, int(port), "start it: ray start --head")
        return None
    named = _ADDRESS.fullmatch(on)
    if named is None or int(named["port"]) > 65535:
        raise RunError(
            f"--on {on}: is no place to play; give ray for the cluster that this machine is in, or ray://HOST:PORT for "
            "one elsewhere (its client server, usually port 10001)"
        )
    remedy = "start it: ray start --head --ray-client-server-port=10001"
    _check_answers(f"--on {on}:", named["host"].strip("[]"), int(named["port"]), remedy)
    return on


def _check_answers(what: str, host: str, port: int, remedy: str) -> None:
    try:
        socket.create_connection((host, port), _PATIENCE).close()
    except OSError as error:
        raise RunError(f"{what} nothing answers there ({error.strerror or error}); {remedy}") from None


def _check_sendable(model: str) -> None:
    """Refuse a policy that exists only in this process."""
    name = scheme_of(model)
    try:
        ray.cloudpickle.dumps(SCHEMES[name])
    except Exception as error:  # noqa: BLE001 - whatever an object raises that cannot be pickled
        raise RunError(
            f"{model}: its policy is an object in this process and cannot be sent to a cluster ({error}); have SCHEMES"
            f"[{name!r}] open it by a function that makes it anew, in a module that the cluster's workers can import"
        ) from None


def _on_each(nodes: Iterable[Mapping[str, Any]], function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """What a function returns, or the error that it raises, on every node, by the node's name."""
    asked = {}
    for node in nodes:
        here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ray.remote(function).options(num_cpus=0, scheduling_strategy=here)
        asked[f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"] = task.remote(*arguments)
    found: dict[str, Any] = {}
    for name, answer in asked.items():
        try:
            found[name] = ray.get(answer, timeout=_CHECK)
        except RayTaskError as error:
            found[name] = error.cause
        except RayError as error:
            raise RunError(f"node {name} of the cluster does not answer: {failure(error)}") from None
    return found


def _check_versions(nodes: Iterable[Mapping[str, Any]]) -> None:
    # A function from the standard library: a node without trajtree could not even unpickle one of ours. Ray itself has
    # checked that its own version and Python's are the same.
    ours = version("trajtree")
    for name, theirs in _on_each(nodes, version, "trajtree").items():
        if isinstance(theirs, PackageNotFoundError):
            raise RunError(f"node {name} has no trajtree; install it there: pip install 'trajtree[ray]=={ours}'")
        if theirs != ours:
            raise RunError(f"node {name} has trajtree {theirs}, and this process {ours}; install the same on both")


def _check_environment(nodes: Iterable[Mapping[str, Any]], environment: str) -> None:
    ours = _state_of(environment)
    for name, theirs in _on_each(nodes, _state_of, environment).items():
        if isinstance(theirs, BaseException):
            raise RunError(
                f"node {name} cannot use {environment} ({failure(theirs)}); install it there, or put the folder with "
                "its module on PYTHONPATH before ray start"
            )
        if theirs != ours:
            raise RunError(
                f"node {name} has {environment} {' '.join(filter(None, theirs))}, and this process "
                f"{' '.join(filter(None, ours))}; install the same on both, data included"
            )


def _state_of(environment: str) -> tuple[str, str]:
    """Version and data of an environment."""
    domain = load_domain(environment)
    return domain.environment.version, domain.data()


__all__ = ["connected"]
