"""Features by the workers of a Ray cluster: pictures are read here, networks compute there, vectors come back."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from .. import registry
from ..errors import ArbenchError, InputError, PrerequisiteError
from ..features.weight_files import parse_given
from .device import Place
from .executor import MAX_CPU_WORKERS
from .ray_cluster import Node, RayCluster, connected
from .ray_executor import NO_NODE_SECONDS, SHUN_SECONDS, why_lost
from .ray_feature_host import Facts, FeatureHost, Refused, Rows

if TYPE_CHECKING:
    from ..features.extractor import Mode

AHEAD = 2
"""Chunks of pictures that a worker has: the one it computes, and the next."""
IN_FLIGHT = 1 << 30
"""Bytes of pictures that workers have together, at most: they lie in Ray's store of this machine."""
LOSSES = 3
"""How often a chunk may lose its worker, and a node's workers may fail to start."""


@dataclass(slots=True)
class Host:
    """A worker on a node."""

    actor: Any
    node: Node
    ready: bool = False
    tasks: int = 0
    """That it has been given and has not answered."""


@dataclass(slots=True)
class _Task:
    """One call of a `FeatureHost`, wherever it is done; `answer` once it is."""

    method: str
    recipe: str
    arguments: tuple[Any, ...]
    losses: int = 0
    answer: Any = None


@dataclass(frozen=True, slots=True)
class _Pending:
    """Vectors of a chunk that a worker computes."""

    networks: RayNetworks
    task: _Task

    def result(self) -> Mapping[str, NDArray[np.float32]]:
        return self.networks.rows(self.task)


@dataclass(frozen=True, slots=True)
class RayNetwork:
    """The network of one recipe on all workers."""

    recipe: str
    outputs: Mapping[str, int]
    convention: str
    networks: RayNetworks

    @property
    def ahead(self) -> int:
        return self.networks.ahead

    def begin(self, images: Sequence[NDArray[np.uint8]]) -> _Pending:
        return _Pending(self.networks, self.networks.begin(self.recipe, images))


@dataclass(slots=True)
class RayNetworks:
    """`arbench.features.extract.Networks` of a cluster: a worker for each GPU of each node, or on the CPU for as many
    cores as torch's threads here. A chunk of pictures whose worker is lost is computed again by another.

    `place` is where workers compute; `given` are weight files by name, at the same paths on every node.
    """

    cluster: RayCluster
    place: Place
    given: Mapping[str, str]
    mode: Mode
    deviation: dict[str, float] = field(default_factory=dict)
    executor: Literal["local", "ray"] = field(default="ray", init=False)
    hosts: list[Host] = field(default_factory=list)
    _known: dict[str, RayNetwork] = field(default_factory=dict)
    _counts: dict[str, int | None] = field(default_factory=dict)
    _waiting: deque[_Task] = field(default_factory=deque)
    _running: dict[Any, tuple[Host, _Task | None]] = field(default_factory=dict)
    """Answer to come -> who gives it; without a task, that the host is ready."""
    _shunned: dict[str, float] = field(default_factory=dict)
    """Node -> until when."""
    _failed: Counter[str] = field(default_factory=Counter)
    """Node -> workers that did not come up."""
    _none_since: float | None = None
    """Since when no worker is ready."""
    _shipped: tuple[Sequence[NDArray[np.uint8]], Any] | None = None
    """The last pictures that went to Ray's store: every recipe is given the same."""

    # ---- what features are made with ----

    @property
    def machine(self) -> str:
        return self.place.machine

    @property
    def device(self) -> str:
        """For what is computed here beside the features."""
        return "cpu" if self.place.device == "cpu" else "auto"

    def get(self, recipe: str) -> RayNetwork:
        """Raises what loading the network raises on a node."""
        if recipe not in self._known:
            facts: Facts = self._done(self._given("facts", recipe))
            self._known[recipe] = RayNetwork(recipe, facts.outputs, facts.convention, self)
        return self._known[recipe]

    def expect(self, recipe: str, count: int | None) -> None:
        self._counts[recipe] = count

    @property
    def ahead(self) -> int:
        """As many chunks as keep every worker busy, and no more than `IN_FLIGHT` bytes of them."""
        chunks = AHEAD * max(len(self.hosts), 1)
        if self._shipped is None:
            return chunks
        size = sum(image.nbytes for image in self._shipped[0])
        return max(1, min(chunks, IN_FLIGHT // max(size, 1)))

    def begin(self, recipe: str, images: Sequence[NDArray[np.uint8]]) -> _Task:
        """A chunk of uint8 pictures (3, H, W) on its way to a worker."""
        if self._shipped is None or not _same(self._shipped[0], images):
            self._shipped = (images, self.cluster.ray.put(list(images)))
        return self._given("features", recipe, self._shipped[1], self._counts.get(recipe))

    def rows(self, task: _Task) -> Mapping[str, NDArray[np.float32]]:
        """{output: (n, D)} of a chunk that was begun, once they are there."""
        found: Rows = self._done(task)
        if found.convention != self._known[task.recipe].convention:
            raise InputError(
                f"{found.host} computes {task.recipe} with other weights than another node",
                f"{found.convention} there, {self._known[task.recipe].convention} elsewhere",
                "give every node the same files",
            )
        if found.deviation is not None:
            self.deviation[task.recipe] = max(found.deviation, self.deviation.get(task.recipe, 0.0))
        return found.rows

    def close(self) -> None:
        """Ends the workers."""
        for host in self.hosts:
            with suppress(Exception):
                self.cluster.ray.kill(host.actor)
        self.hosts.clear()
        self._running.clear()

    # ---- tasks ----

    def _given(self, method: str, recipe: str, *arguments: Any) -> _Task:
        import torch

        task = _Task(method, recipe, (*arguments, torch.get_num_threads()))
        self._waiting.append(task)
        self._look(0.0)
        return task

    def _done(self, task: _Task) -> Any:
        """The answer. Raises what went wrong on the node."""
        while task.answer is None:
            self._look(1.0)
        if isinstance(task.answer, Refused):
            refused = task.answer
            raise PrerequisiteError(f"{refused.what} (on node {refused.host})", refused.why, refused.hint)
        return task.answer

    def _look(self, seconds: float) -> None:
        """Starts workers where there is room, hands out what waits, and takes answers; waits for one so long at
        most."""
        self._start()
        self._hand_out()
        ray = self.cluster.ray
        if not self._running:
            time.sleep(seconds)
            return
        ready, _ = ray.wait(list(self._running), num_returns=1, timeout=seconds)
        if ready:
            ready, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        for answer in ready:
            if answer in self._running:  # it may have gone with its host
                self._take(answer)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting:
            free = [host for host in self.hosts if host.ready and host.tasks < AHEAD]
            if not free:
                return
            host, task = min(free, key=lambda each: each.tasks), self._waiting.popleft()
            host.tasks += 1
            self._running[getattr(host.actor, task.method).remote(task.recipe, *task.arguments)] = (host, task)

    def _take(self, answer: Any) -> None:
        errors = self.cluster.ray.exceptions
        host, task = self._running[answer]
        try:
            found = self.cluster.ray.get(answer)
        except errors.RayTaskError as error:
            last = str(error).strip().splitlines()[-1]
            what = f"features cannot be computed on {host.node.host}"
            raise ArbenchError(what, last, "the same command with --executor local does without the cluster") from error
        except errors.RayError as error:
            self._lost(host, why_lost(error))
            return
        del self._running[answer]
        if task is None:
            host.ready = True
            return
        host.tasks -= 1
        task.answer, task.arguments = found, ()  # Ray's store may drop the pictures

    def _lost(self, host: Host, why: str) -> None:
        """Its tasks are done elsewhere, in their order. Raises `PrerequisiteError` at the third loss."""
        self.hosts.remove(host)
        with suppress(Exception):
            self.cluster.ray.kill(host.actor)
        self._shunned[host.node.id] = time.monotonic() + SHUN_SECONDS
        self.cluster.look_again()
        mine = [answer for answer, (other, _) in self._running.items() if other is host]
        tasks = [task for answer in mine if (task := self._running.pop(answer)[1]) is not None]
        self._waiting.extendleft(reversed(tasks))
        if not host.ready:
            self._failed[host.node.id] += 1
        if tasks:
            tasks[0].losses += 1
        times = max(self._failed[host.node.id], *(task.losses for task in tasks[:1]), 0)
        if times >= LOSSES:
            raise PrerequisiteError(
                f"a worker of the Ray cluster was lost {times} times",
                f"the last was on {host.node.host}: {why}",
                "the same command resumes; --executor local does without the cluster",
            )
        again = "" if not tasks else "; its images are done again elsewhere"
        logging.getLogger(__name__).warning("a worker on %s is lost: %s%s", host.node.host, why, again)

    # ---- workers ----

    def _start(self) -> None:
        now = time.monotonic()
        nodes = self.cluster.nodes(self.place.device)
        for node in nodes:
            if self._shunned.get(node.id, 0.0) > now:
                continue
            cpus, gpus, workers = self._room(node)
            for _ in range(workers - sum(host.node.id == node.id for host in self.hosts)):
                on = self.cluster.on(node.id, FeatureHost, num_cpus=cpus, num_gpus=gpus, max_restarts=0)
                host = Host(on.remote("cuda:0" if gpus else "cpu", self.mode, self.given, _environment()), node)
                self.hosts.append(host)
                self._running[host.actor.ready.remote()] = (host, None)
        if any(host.ready for host in self.hosts):
            self._none_since = None
        elif self._none_since is None:
            self._none_since = now
        elif now - self._none_since > NO_NODE_SECONDS:
            why = "other work has what they give" if nodes else "none is there"
            raise PrerequisiteError(
                "the Ray cluster gives no worker for features",
                f"none came up in {NO_NODE_SECONDS / 60:.0f} minutes: {why}",
                "ray status says what is used; the same command resumes",
            )

    def _room(self, node: Node) -> tuple[int, int, int]:
        """CPUs and GPUs of a worker, and how many workers the node has."""
        import torch

        if self.place.device == "cuda":
            return int(node.cpus >= node.gpus), 1, node.gpus
        cpus = min(node.cpus, torch.get_num_threads())
        return cpus, 0, min(node.cpus // cpus, MAX_CPU_WORKERS)


def _same(one: Sequence[object], other: Sequence[object]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("ARBENCH_")}


@contextmanager
def ray_networks(
    executor: str, address: str | None, device: str, weights: Sequence[str], mode: str
) -> Iterator[RayNetworks | None]:
    """Those of the cluster at `address` for "ray", None for "local". `device` is "auto", "cpu" or "cuda", `weights` as
    in `--weights`.

    Errors as for `connected` and `RayCluster.place`.
    """
    with connected(executor, address) as cluster:
        if cluster is None:
            yield None
            return
        given = parse_given(weights, registry.cards())
        networks = RayNetworks(cluster, cluster.place(device), given, cast("Mode", mode))
        try:
            yield networks
        finally:
            networks.close()
