"""A Ray cluster in place of this machine: engine replicas for sampling, shard tasks for row stages.

Plain Ray core. The driver alone holds the queue and the ledger; a replica is an engine that answers requests.
So a node that dies takes with it only what it had in flight, which goes to the others, and nothing that was
finished is sampled again. Why not Ray Data: a killed node or one bad row loses whole blocks there.
"""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import Field

from distillkit.artifact import Model
from distillkit.engines.base import Completion, Engine, EngineDied, Feed, Parameters, Request
from distillkit.engines.stream import Stream
from distillkit.errors import DistillkitError, EngineError, MissingError
from distillkit.spec import EXECUTION, Strict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")
R = TypeVar("R")

START_S = 900.0
"""Longest wait for a replica to load its model, or to come back after its node died."""
TRIES = 4
"""Replicas that a request is given to before it is taken to be what kills them."""


class Cluster(Strict):
    """Where replicas and shards go. Every node needs distillkit, the model, and the store's folder for row stages."""

    replicas: Annotated[int, EXECUTION, Field(ge=1)] = 1
    """Engines, each with the model loaded; a replica is restarted elsewhere when its node dies."""
    gpus_per_replica: Annotated[int, EXECUTION, Field(ge=0)] = 1
    """GPUs that one replica holds: its tensor_parallel times its data_parallel."""
    cpus_per_replica: Annotated[int, EXECUTION, Field(ge=1)] = 1
    window: Annotated[int, EXECUTION, Field(ge=1)] = 512
    """Requests in flight on one replica."""
    address: Annotated[str | None, EXECUTION] = None
    """Of the cluster's head, host:port; left out: RAY_ADDRESS, else the cluster that this machine belongs to."""

    def check(self) -> None:
        """Raises MissingError without the package."""
        if find_spec("ray") is None:
            raise MissingError("execution.ray: Ray is not installed; pip install 'distillkit[ray]'")

    def instructions(self) -> list[str]:
        """What to start where before the run, one line each."""
        gpus = self.replicas * self.gpus_per_replica
        needs = f"{gpus} GPUs" if gpus else f"{self.replicas * self.cpus_per_replica} CPUs"
        return [
            "on the first node:  ray start --head --port=6379",
            "on every other one: ray start --address=FIRST_NODE:6379",
            f"then, on the first node, distillkit run: {self.replicas} replicas, {needs} in all",
        ]

    @contextmanager
    def connected(self) -> Iterator[None]:
        """The cluster, for as long as the context lasts.

        Raises MissingError where there is no package or no cluster.
        """
        self.check()
        import ray

        if ray.is_initialized():  # by whoever called, whose it is to end
            yield
            return
        address = self.address or os.environ.get("RAY_ADDRESS") or "auto"
        try:
            _require_listener(address)
            ray.init(address=address, log_to_driver=False, configure_logging=False)
        except (OSError, ValueError) as error:
            first = str(error).strip().split("\n")[0]
            raise MissingError(
                f"execution.ray: no Ray cluster at {address} ({first}); start one: ray start --head"
            ) from None
        try:
            yield
        finally:
            ray.shutdown()


def _require_listener(address: str) -> None:
    """Raises OSError where nobody listens; Ray itself would look for more than a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=5).close()


@dataclass(frozen=True)
class RayExecutor:
    """Shard tasks on the cluster; one whose node died runs again, and skips what it had finished."""

    cluster: Cluster

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """Results in the order of the tasks; what a task raises is raised here."""
        with self.cluster.connected():
            import ray

            remote = ray.remote(num_cpus=1, max_retries=-1)(function)
            for reference in [remote.remote(task) for task in tasks]:
                try:
                    yield ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise (error.cause if isinstance(error.cause, DistillkitError) else error) from None


@dataclass(frozen=True)
class Replicas:
    """Opens an engine as so many replicas on the cluster."""

    cluster: Cluster

    @contextmanager
    def open(
        self, engine: Engine, model: Model | None, tokenizer: "PreTrainedTokenizerBase | None"
    ) -> Iterator["ReplicaSession"]:
        """A session that spreads its requests over the replicas.

        Raises what `Engine.open` raises, and EngineDied where no replica starts in START_S seconds.
        """
        with self.cluster.connected(), Stream() as stream:
            import ray

            options = {
                "num_cpus": self.cluster.cpus_per_replica,
                "num_gpus": self.cluster.gpus_per_replica,
                "max_concurrency": self.cluster.window + 8,
                "max_restarts": -1,
                "scheduling_strategy": "SPREAD",
            }
            make = ray.remote(**options)(Replica)
            actors = [make.remote(engine, model, tokenizer) for _ in range(self.cluster.replicas)]
            session = ReplicaSession([Lane(actor) for actor in actors], stream, self.cluster)
            try:
                stream.run(session.start())
                yield session
            finally:
                for actor in actors:
                    ray.kill(actor)


@dataclass
class Lane:
    """One replica as the driver sees it."""

    actor: Any
    flying: int = 0
    ready: bool = False
    waking: "asyncio.Task[None] | None" = None


@dataclass
class ReplicaSession:
    """Requests to whichever replica has the fewest; what a dead one had goes to another."""

    lanes: list[Lane]
    stream: Stream
    cluster: Cluster
    failure: DistillkitError | None = None
    """What a replica said that no other one will do better."""
    _parameters: Parameters | None = None
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def generate(self, feed: Feed, parameters: Parameters) -> Iterator[tuple[Request, Completion]]:
        self._parameters = parameters
        yield from self.stream.map(self._complete, feed, self.cluster.window * len(self.lanes))

    async def start(self) -> None:
        """Wait for the first replica; the others join when they are there."""
        for lane in self.lanes:
            self._wake(lane)
        await self._free()

    async def _complete(self, request: Request) -> Completion:
        import ray

        for _ in range(TRIES):
            lane = await self._free()
            lane.flying += 1
            try:
                found: Completion = await lane.actor.complete.remote(request, self._parameters)
                return found
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, DistillkitError) and not isinstance(error.cause, EngineDied):
                    raise error.cause from None
                self._lose(lane)
            except ray.exceptions.RayError:  # its process or its node is gone
                self._lose(lane)
            finally:
                lane.flying -= 1
        raise EngineDied(f"a request was lost with {TRIES} replicas; the log of the last node says why")

    async def _free(self) -> Lane:
        """The ready replica with the fewest requests; waits where there is none."""
        until = time.monotonic() + START_S
        while not (ready := [lane for lane in self.lanes if lane.ready]):
            if self.failure is not None:
                raise self.failure
            self._woken.clear()
            try:
                await asyncio.wait_for(self._woken.wait(), max(0.0, until - time.monotonic()))
            except TimeoutError:
                raise EngineDied(
                    f"no replica in {START_S:.0f} s: the cluster has no room for one "
                    f"({self.cluster.gpus_per_replica} GPUs, {self.cluster.cpus_per_replica} CPUs)"
                ) from None
        return min(ready, key=lambda lane: lane.flying)

    def _lose(self, lane: Lane) -> None:
        if lane.ready:
            lane.ready = False
            self._wake(lane)

    def _wake(self, lane: Lane) -> None:
        """Look for the replica until it answers: Ray starts it again elsewhere."""
        lane.waking = asyncio.get_running_loop().create_task(self._until_ready(lane))

    async def _until_ready(self, lane: Lane) -> None:
        import ray

        while not lane.ready and self.failure is None:
            try:
                await lane.actor.load.remote()
                lane.ready = True
            except ray.exceptions.RayTaskError as error:
                cause = error.cause
                self.failure = cause if isinstance(cause, DistillkitError) else EngineError(str(cause))
            except ray.exceptions.RayError:
                await asyncio.sleep(1.0)
        self._woken.set()


class Replica:
    """An engine on a node: loads at the first call, then answers requests as they come."""

    def __init__(
        self, engine: Engine, model: Model | None, tokenizer: "PreTrainedTokenizerBase | None"
    ) -> None:
        self.engine, self.model, self.tokenizer = engine, model, tokenizer
        self.feed = Inbox()
        self.asked: SimpleQueue[Parameters] = SimpleQueue()
        self.waiting: dict[str, asyncio.Future[Completion]] = {}
        self.failure: DistillkitError | None = None
        self.loaded = asyncio.Event()
        self.thread: threading.Thread | None = None

    async def load(self) -> None:
        """Return when the model is loaded; raises what loading it raised."""
        if self.thread is None:
            loop = asyncio.get_running_loop()
            self.thread = threading.Thread(target=self._serve, args=(loop,), daemon=True)
            self.thread.start()
        await self.loaded.wait()
        if self.failure is not None:
            raise self.failure

    async def complete(self, request: Request, parameters: Parameters) -> Completion:
        """The completion of one request; all of a replica's requests have the same parameters."""
        await self.load()
        future = asyncio.get_running_loop().create_future()
        self.waiting[request.key] = future
        self.asked.put(parameters)
        self.feed.put(request)
        found: Completion = await future
        return found

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            with self.engine.open(self.model, self.tokenizer) as session:
                loop.call_soon_threadsafe(self.loaded.set)
                while True:
                    parameters = self.asked.get()
                    for request, completion in session.generate(self.feed, parameters):
                        loop.call_soon_threadsafe(self._answer, request.key, completion)
        except DistillkitError as error:
            loop.call_soon_threadsafe(self._fail, error)
        except BaseException as error:  # noqa: BLE001 - a process boundary: the driver is told
            loop.call_soon_threadsafe(self._fail, EngineError(f"{type(error).__name__}: {error}"))

    def _answer(self, key: str, completion: Completion) -> None:
        future = self.waiting.pop(key)
        if not future.done():
            future.set_result(completion)

    def _fail(self, error: DistillkitError) -> None:
        self.failure = error
        self.loaded.set()
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(error)


class Inbox:
    """A feed that other threads put requests into; never over, for a replica serves until it is killed."""

    over = False

    def __init__(self) -> None:
        self._queue: SimpleQueue[Request] = SimpleQueue()

    def put(self, request: Request) -> None:
        self._queue.put(request)

    def take(self) -> Request | None:
        try:
            return self._queue.get_nowait()
        except Empty:
            return None
