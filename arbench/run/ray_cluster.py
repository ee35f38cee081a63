"""A Ray cluster as a run sees it: connected to, its nodes looked at, those that can work chosen."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..errors import NoDevice, PrerequisiteError, UsageError
from . import ray_host
from .device import Place

EXECUTORS = ("local", "ray")
LOOK_SECONDS = 2.0
"""Between two looks at which nodes there are."""
KNOCK_SECONDS = 10.0
"""What a cluster may take to take a connection."""
SURVEY_SECONDS = 120.0
"""What the nodes may take at the start to say what they are."""


@dataclass(frozen=True)
class Node:
    """A node that lives and has the same software as we."""

    id: str
    host: str
    machine: str
    """What `arbench.run.device.machine` calls its device."""
    here: bool
    """Whether it is this machine."""
    cores: int
    cpus: int
    """As Ray counts them, which is what it gives out."""
    gpus: int
    memory: int
    """Bytes that Ray gives out."""


class RayCluster:
    """A connection to a cluster, until `close`.

    `address` as for `ray.init`: HOST:PORT; by default $RAY_ADDRESS, else a cluster that runs on this machine, else one
    that is started here and ends with us.
    """

    def __init__(self, address: str | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise PrerequisiteError(
                "--executor ray needs Ray", f"it is not installed ({error})", "pip install 'arbench[ray]'"
            ) from error
        self.ray: Any = ray
        self._ours = not ray.is_initialized()
        if self._ours:
            _knock(address or os.environ.get("RAY_ADDRESS", ""))
            try:
                ray.init(
                    address=address,
                    include_dashboard=False,
                    configure_logging=False,
                    log_to_driver=False,
                    logging_level="error",
                )
            except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
                raise _unreachable(
                    address or "", (str(error).strip().splitlines() or [type(error).__name__])[0]
                ) from error
        self._surveys: dict[str, Any] = {}
        """Node -> what is to say what it is."""
        self._found: dict[str, Mapping[str, Any] | None] = {}
        """Node -> what it has said; None if it cannot work for us."""
        self.refused: list[str] = []
        """Why nodes cannot, one line each."""
        self._nodes: list[Node] = []
        self._looked = float("-inf")

    def close(self) -> None:
        if self._ours:
            self.ray.shutdown()

    def place(self, asked: str) -> Place:
        """Where a run for the device `asked` ("auto", "cpu", "cuda") is done. Raises if the cluster has no node for it,
        or one whose software differs from ours."""
        if asked not in ("auto", "cpu", "cuda"):
            raise UsageError(f"--device {asked} with --executor ray", "Ray gives out the GPUs", "use --device cuda")
        gpus = any(node["Alive"] and node["Resources"].get("GPU", 0) >= 1 for node in self.ray.nodes())
        device = ("cuda" if gpus else "cpu") if asked == "auto" else asked
        until = time.monotonic() + SURVEY_SECONDS
        self._look(device)
        while len(self._found) < len(self._surveys) and time.monotonic() < until:
            self.ray.wait(list(self._surveys.values()), num_returns=len(self._surveys), timeout=1.0)
            self._look(device)
        if self.refused:
            raise PrerequisiteError(
                f"{len(self.refused)} of the cluster's nodes cannot work for this run",
                "; ".join(self.refused),
                "install the same versions there as here: pip install -c constraints.txt 'arbench[ray]'",
            )
        if not self._nodes:
            raise NoDevice(
                f"no node of the Ray cluster has a {'GPU' if device == 'cuda' else 'CPU'} to give",
                f"it has {len(self.ray.nodes())} nodes",
                "ray status says what they have; --device cpu does without a GPU",
            )
        return Place(device, self._nodes[0].machine)

    def starts_here(self, device: str) -> bool:
        """Whether this machine is the first of the nodes for `device`."""
        return any(node.here for node in self.nodes(device)[:1])

    def nodes(self, device: str) -> list[Node]:
        """Those that can work on "cpu" or "cuda" now, ours first, the others by name."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._look(device)
        return self._nodes

    def look_again(self) -> None:
        """Has the next call of `nodes` look, however short ago the last look was."""
        self._looked = float("-inf")

    def _look(self, device: str) -> None:
        self._looked = time.monotonic()
        here = self.ray.get_runtime_context().get_node_id()
        nodes = []
        for about in self.ray.nodes():
            resources = about["Resources"]
            if not about["Alive"] or resources.get("GPU" if device == "cuda" else "CPU", 0) < 1:
                continue
            said = self._said(about["NodeID"])
            if said is not None:
                nodes.append(
                    Node(
                        id=about["NodeID"],
                        host=f"{said['host']} ({about['NodeManagerAddress']}, {about['NodeID'][:8]})",
                        machine=said[device],
                        here=about["NodeID"] == here,
                        cores=said["cores"],
                        cpus=int(resources.get("CPU", 0)),
                        gpus=int(resources.get("GPU", 0)),
                        memory=int(resources.get("memory", 0)),
                    )
                )
        self._nodes = sorted(nodes, key=lambda node: (not node.here, node.host, node.id))

    def _said(self, node: str) -> Mapping[str, Any] | None:
        """What a node is, once it has told; None before, and for one that cannot work for us."""
        if node in self._found:
            return self._found[node]
        if node not in self._surveys:
            self._surveys[node] = self.on(node, ray_host.survey, num_cpus=0).remote()
        ready, _ = self.ray.wait([self._surveys[node]], timeout=0)
        if not ready:
            return None
        try:
            said = self.ray.get(ready[0])
            differs = different(ray_host.versions(), said["versions"])
            reason = f"{said['host']} has {differs}" if differs else ""
        except self.ray.exceptions.RayError as error:
            said = None
            reason = f"node {node[:8]} cannot run arbench: {(str(error).strip().splitlines() or ['?'])[-1]}"
        if reason:
            self.refused.append(reason)
        self._found[node] = None if reason else said
        return self._found[node]

    def on(self, node: str, what: Callable[..., Any], **options: Any) -> Any:
        """A function or class of ours as Ray's, on this node or nowhere."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        where = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
        return self.ray.remote(what).options(scheduling_strategy=where, **options)


@contextmanager
def connected(executor: str, address: str | None) -> Iterator[RayCluster | None]:
    """The cluster at `address` for "ray", None for "local". Raises `UsageError` for another executor, and for an
    address that none would use."""
    if executor not in EXECUTORS:
        raise UsageError(f"unknown executor {executor!r}", f"known: {', '.join(EXECUTORS)}")
    if executor == "local":
        if address is not None:
            raise UsageError("--address is of a Ray cluster", "the executor is local", "add --executor ray")
        yield None
        return
    cluster = RayCluster(address)
    try:
        yield cluster
    finally:
        cluster.close()


def _knock(address: str) -> None:
    """Raises at once where nobody answers: Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # "auto" and the like
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, str(error)) from error


def _unreachable(address: str, why: str) -> PrerequisiteError:
    return PrerequisiteError(
        f"cannot connect to the Ray cluster{f' at {address}' if address else ''}",
        why,
        "ray status --address HOST:PORT says whether it runs; --executor local does without it",
    )


def different(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """Which versions differ, in words; "" for none. How a version was built ("+cu128") is left out."""
    found = []
    for name in sorted({*ours, *theirs}):
        here, there = (versions.get(name, "none").partition("+")[0] for versions in (ours, theirs))
        if here != there:
            found.append(f"{name} {there}, not {here}")
    return ", ".join(found)
