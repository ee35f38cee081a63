"""Workers on the nodes of a Ray cluster: what they make comes back, and is written here."""

from __future__ import annotations

import os
import queue
import re
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, cast

from ..errors import PrerequisiteError, StoreError
from ..files import write_atomic
from ..spec.result import Outcome
from ..spec.task import tasks
from .device import Place
from .executor import EVALUATIONS, MAX_CPU_WORKERS, TICK, Job, Message, Slot, Worker
from .ray_cluster import Node, RayCluster
from .ray_host import File, Host, Order, Reply

SHIPPED = 32 << 20
"""Bytes of units that go to a node in one exchange."""
ROOM_SECONDS = 120.0
"""How long a worker may wait for Ray to give it its GPU or CPU, before its job goes elsewhere."""
SHUN_SECONDS = 30.0
"""How long a node is left alone on which a worker was lost: that a node is gone is known only after a while."""
NO_NODE_SECONDS = 600.0
"""How long a run waits for a node, once there is none."""


@dataclass(frozen=True)
class NodeSlot(Slot):
    """A place on a node, with what Ray is asked for: CPUs, GPUs, bytes of memory."""

    node: str
    host: str
    cpus: int
    gpus: int
    memory: int


class RayWorker(Worker):
    """A `Host` on a node. `ship`: units on disk that it needs before it is given `orders`, by cell and file name."""

    def __init__(self, slot: NodeSlot, host: Any) -> None:
        super().__init__(slot)
        self.place = slot
        self.host = host
        self.asked = time.monotonic()
        self.placed = False
        """Whether Ray has given it its place."""
        self.ship: deque[tuple[str, str]] = deque()
        self.orders: list[Message] = []
        self.waiting = False
        """Whether an exchange has not been answered."""


class RayExecutor:
    """The `Executor` of a cluster. Quality cells have a worker per GPU (or CPU) of each node, `most` at most; a speed
    or memory cell has a node of its own, of the kind that `place` names, this machine if it can be. A worker takes
    `gigabytes` on the CPU."""

    def __init__(
        self,
        cluster: RayCluster,
        folder: Path,
        run_id: str,
        weights: Mapping[str, str],
        place: Place,
        most: int | None,
        gigabytes: float,
        kill_after: float,
    ) -> None:
        self._cluster = cluster
        self._folder = folder
        self._run_id = run_id
        self._weights = dict(weights)
        self._device = place.device
        self._machine = place.machine
        self._most = most
        self._gigabytes = gigabytes
        self._kill_after = kill_after
        self._workers: list[RayWorker] = []
        self._answers: queue.SimpleQueue[tuple[RayWorker, Any]] = queue.SimpleQueue()
        self._bell, self._ring = socket.socketpair()  # a closed one is not another file's number by then
        self._bell.setblocking(False)
        self._ring.setblocking(False)
        self._shunned: dict[str, float] = {}
        """Node -> until when."""
        self._none_since: float | None = None

    @property
    def workers(self) -> Sequence[RayWorker]:
        return self._workers

    # ---- places ----

    def slots(self, *, alone: bool) -> Sequence[NodeSlot]:
        """Those of the nodes that live; raises `PrerequisiteError` after ten minutes without any."""
        now = time.monotonic()
        nodes = self._cluster.nodes(self._device)
        nodes = [node for node in nodes if self._shunned.get(node.id, 0.0) <= now]
        if alone:  # the plan says of which machine the timings are
            found = [self._whole(node) for node in nodes if node.machine == self._machine][:1]
        else:
            found = self._cut(nodes)
        if found:
            self._none_since = None
        elif self._none_since is None:
            self._none_since = now
        elif now - self._none_since > NO_NODE_SECONDS:
            raise PrerequisiteError(
                "the Ray cluster has no node left for this run",
                f"none came for {NO_NODE_SECONDS / 60:.0f} minutes",
                f"start nodes, then: arbench resume {self._folder}",
            )
        return found

    def _cut(self, nodes: Sequence[Node]) -> list[NodeSlot]:
        """Places on every node, one of each by turns, so that few workers are on many nodes."""
        places = [list(self._places(node)) for node in nodes]
        turns = max(map(len, places), default=0)
        return [own[turn] for turn in range(turns) for own in places if turn < len(own)][: self._most]

    def _places(self, node: Node) -> Iterator[NodeSlot]:
        if self._device == "cuda":
            cpus, threads = int(node.cpus >= node.gpus), max(1, node.cores // node.gpus)
            for _ in range(node.gpus):
                yield NodeSlot("cuda:0", threads, node.id, node.host, cpus, 1, 0)
            return
        memory = min(int(self._gigabytes * 1e9), node.memory)
        fit = node.memory // memory if memory else node.cpus
        for _ in range(min(node.cpus, MAX_CPU_WORKERS, fit)):
            yield NodeSlot("cpu", max(1, node.cores // EVALUATIONS), node.id, node.host, 1, 0, memory)

    def _whole(self, node: Node) -> NodeSlot:
        """All that Ray has there, so that it gives nothing to others meanwhile."""
        device = "cuda:0" if self._device == "cuda" else "cpu"
        return NodeSlot(device, node.cores, node.id, node.host, node.cpus, node.gpus, 0)

    # ---- jobs ----

    def start(self, slot: Slot, job: Job) -> Worker:
        place = cast(NodeSlot, slot)
        order = Order(
            run_id=self._run_id,
            cell_id=job.cell_id,
            device=place.device,
            threads=place.threads,
            weights=self._weights,
            own_process=tasks()[job.planned.cell.task.task].own_process,
            grace=self._kill_after,
            environment={name: value for name, value in os.environ.items() if name.startswith("ARBENCH_")},
        )
        options: dict[str, Any] = {"num_cpus": place.cpus, "num_gpus": place.gpus, "max_restarts": 0}
        if place.memory:
            options["memory"] = place.memory
        worker = RayWorker(place, self._cluster.on(place.node, Host, **options).remote(order))
        self._workers.append(worker)
        return worker

    def ahead(self, job: Job) -> None:
        """Not here: an actor would hold a GPU meanwhile."""

    def give(self, worker: Worker, job: Job, *, units: Sequence[str], started: str, seconds: float) -> None:
        assert isinstance(worker, RayWorker)
        worker.take(job)
        worker.orders.append(job.order(units, started, seconds))
        if job.unit is None:
            worker.ship.extend((job.cell_id, f"units/{name}.npz") for name in units)

    def terminate(self, worker: Worker, why: Outcome) -> None:
        assert isinstance(worker, RayWorker)
        worker.blame(why)
        worker.orders.append({"do": "terminate"})

    def _exchange(self, worker: RayWorker) -> None:
        """Sends what waits for a worker, so much at a time, and has its answer ring the bell."""
        keep, size = [], 0
        while worker.ship and size < SHIPPED:
            cell_id, name = worker.ship.popleft()
            try:
                data = (self._folder / "cells" / cell_id / name).read_bytes()
            except OSError as error:
                raise StoreError(
                    f"cannot read unit {name} of {cell_id}", error.strerror or "", f"arbench resume {self._folder}"
                ) from error
            keep.append(File(cell_id, name, data))
            size += len(data)
        orders: list[Message] = []
        if not worker.ship:
            orders, worker.orders = worker.orders, []
        worker.waiting = True
        answer = worker.host.exchange.remote(keep, orders)
        answer.future().add_done_callback(lambda future: self._answered(worker, future))

    def _answered(self, worker: RayWorker, future: Any) -> None:
        """Called in a thread of Ray's."""
        self._answers.put((worker, future))
        with suppress(OSError):  # the bell rings already, or the run is over
            self._ring.send(b"!")

    # ---- events ----

    def events(self, wake: int) -> list[tuple[Worker, Message]]:
        for worker in self._workers:
            if worker.job is not None and not worker.waiting:
                self._exchange(worker)
        wait([self._bell, wake], TICK)
        with suppress(BlockingIOError):
            self._bell.recv(4096)
        heard: list[tuple[Worker, Message]] = []
        while not self._answers.empty():
            worker, future = self._answers.get()
            worker.waiting = False
            if worker in self._workers:
                heard += [(worker, message) for message in self._taken(worker, future)]
        heard += [(worker, self._without_room(worker)) for worker in list(self._workers) if self._is_stuck(worker)]
        return heard

    def _taken(self, worker: RayWorker, future: Any) -> list[Message]:
        """The messages of an answer; what they tell of is on disk."""
        errors = self._cluster.ray.exceptions
        place = worker.place
        try:
            reply: Reply = future.result()
        except errors.OutOfMemoryError as error:
            self._drop(worker)
            return [{"kind": "ended", "outcome": "oom", "reason": f"Ray ended it for memory on {place.host}: {error}"}]
        except errors.RayTaskError as error:
            self._drop(worker)
            last = str(error).strip().splitlines()[-1]
            return [{"kind": "ended", "outcome": "error", "reason": f"on {place.host}: {last}"}]
        except errors.RayError as error:
            self._drop(worker, shun=True)
            return [{"kind": "lost", "node": place.host, "reason": why_lost(error), "counts": True}]
        now = time.monotonic()
        if not worker.placed or worker.ship or reply.messages:
            worker.heard = worker.worked = now
        elif reply.working:
            worker.worked = now
        worker.placed = True
        self._keep(reply)
        if any(message["kind"] == "ended" for message in reply.messages):
            self._drop(worker)
        worker.ready = worker.ready or any(message["kind"] == "ready" for message in reply.messages)
        return [{**message, "node": place.host} for message in reply.messages]

    def _keep(self, reply: Reply) -> None:
        """Writes what came; units and results as they were made, logs after what is there."""
        cells = self._folder / "cells"
        for file in reply.files:
            write_atomic(cells / file.cell_id / file.name, file.data)
        for log in reply.logs:
            path = cells / log.cell_id / log.name
            with suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("ab") as output:
                    output.write(log.data)

    def _is_stuck(self, worker: RayWorker) -> bool:
        """Whether it has a job and waits too long for its place; while it waits, its job's time does not run."""
        if worker.job is None or worker.placed:
            return False
        worker.heard = worker.worked = time.monotonic()
        return worker.heard - worker.asked > ROOM_SECONDS

    def _without_room(self, worker: RayWorker) -> Message:
        self._drop(worker, shun=True)
        why = f"Ray had no room for it for {ROOM_SECONDS:.0f} s"
        return {"kind": "lost", "node": worker.place.host, "reason": why, "counts": False}

    # ---- ends ----

    def _drop(self, worker: RayWorker, *, shun: bool = False) -> None:
        self._workers.remove(worker)
        with suppress(Exception):
            self._cluster.ray.kill(worker.host)
        if shun:
            self._shunned[worker.place.node] = time.monotonic() + SHUN_SECONDS
            self._cluster.look_again()

    def end(self, workers: Sequence[Worker]) -> None:
        ray = self._cluster.ray
        ending = [worker for worker in self._workers if worker in workers]
        answers = {worker.host.end.remote(worker.job is not None): worker for worker in ending if worker.placed}
        until = time.monotonic() + self._kill_after + 5.0
        left = list(answers)
        while left and time.monotonic() < until:
            ready, left = ray.wait(left, timeout=max(until - time.monotonic(), 0.0))
            for answer in ready:
                with suppress(ray.exceptions.RayError):
                    self._keep(replace(ray.get(answer), files=()))
        for worker in ending:
            self._drop(worker)

    def close(self) -> None:
        self._ring.close()
        self._bell.close()


def why_lost(error: Exception) -> str:
    """The sentence of an error of Ray's that says why: its first lines are names."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not re.match(r"\w+:|The actor died unexpectedly before", line)]
    return f"{type(error).__name__}: {(said or lines or ['?'])[0].partition('. ')[0][:200]}"
