"""Runs each worker of a fleet as an actor of a Ray cluster.

Only orders, commands and reports go through Ray: tasks, texts and vectors never do. Ray restarts no actor,
because the pool does it, with the same pauses and counts for all launchers.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Sequence
from time import monotonic

from loguru import logger

from embedfleet.errors import PlacementUnavailable
from embedfleet.launchers import channel
from embedfleet.launchers.launcher import WorkerExit, WorkerSpec
from embedfleet.launchers.ray.driver_link import DriverLink, OfWorker, Session, kill
from embedfleet.launchers.ray.messages import Ended, Place, Request, Started, Tell, WorkerMessage
from embedfleet.launchers.ray.placement import fits, why_waiting
from embedfleet.launchers.reported import ReportedWorker
from embedfleet.metrics.merging import MergedCollector
from embedfleet.queue_schemas import Stage
from embedfleet.settings import ResourceSettings, Settings
from embedfleet.trouble import Trouble
from embedfleet.waiting import unless_stopped

# An aborted worker is killed after this time. It needs two seconds at most to hand back its tasks.
_ABORT_SECONDS = 5.0
_KILL_SECONDS = 5.0
# A process of Ray takes up to this long to start on a node with room. Before, it is no news that it waits.
_START_SECONDS = 30.0
_LOOK_SECONDS = 1.0


class RayLauncher:
    """Starts workers on the nodes of a cluster, and adds their metrics to those of the host."""

    def __init__(self, command: Sequence[str], settings: Settings, collector: MergedCollector) -> None:
        """`command` runs a Ray driver (see `DriverLink`)."""
        self._link = DriverLink(command, settings.ray)
        self._settings = settings
        self._collector = collector
        self._numbers = itertools.count(1)

    async def open(self) -> None:
        """Join the cluster. Raises PlacementUnavailable, and ConfigError."""
        await self._link.open()

    async def close(self) -> None:
        """Leave the cluster. Workers that are left end."""
        await self._link.close()

    async def launch(self, spec: WorkerSpec) -> RayWorker:
        resources = self._settings.worker_pools.of(spec.stage.value).resources
        order = Place(
            worker=next(self._numbers),
            name=f"embedfleet-{spec.name}-{uuid.uuid4().hex[:8]}",
            order=channel.pack_body(
                channel.Order(spec.stage, spec.name, self._settings_of(spec, resources).to_json(), 0)
            ),
            amounts=resources.request,
            labels=resources.labels,
        )
        return RayWorker(spec, order, self._link, self._collector)

    def _settings_of(self, spec: WorkerSpec, resources: ResourceSettings) -> Settings:
        """The settings of the worker: its model has as many threads as the worker has cores."""
        if spec.stage is not Stage.EMBEDDING:
            return self._settings
        threads = max(1, int(resources.num_cpus))
        models = self._settings.models.model_copy(update={"threads": threads})
        return self._settings.model_copy(update={"models": models})


class RayWorker(ReportedWorker):
    """A worker that runs as an actor, or waits for a node that takes it (`placed` is False)."""

    def __init__(self, spec: WorkerSpec, order: Place, link: DriverLink, collector: MergedCollector) -> None:
        super().__init__(spec, collector, order.name)
        self._order = order
        self._link = link
        self.placed = False
        self._session: Session | None = None
        self._told_to_end = asyncio.Event()
        self._killing: asyncio.Task[None] | None = None
        self._log = logger.bind(stage=spec.stage.value)
        self._waiting = Trouble(log=self._log, over=f"{spec.name} waits no more")
        self._ended = asyncio.create_task(self._live(), name=f"follow {spec.name}")

    def drain(self) -> None:
        # Before the command: a worker that ends by itself at this moment was meant to end.
        self._told_to_end.set()
        self._tell(Request.DRAIN)

    def abort(self) -> None:
        self._told_to_end.set()
        self._tell(Request.ABORT)
        if self._killing is None:
            self._killing = asyncio.create_task(self._kill_if_it_stays(), name=f"kill {self.spec.name}")

    async def wait(self) -> WorkerExit:
        # Shielded: a caller that is cancelled must not stop the reading of reports.
        return await asyncio.shield(self._ended)

    def _tell(self, request: Request) -> None:
        if self._session is not None:
            self._session.send(Tell(self._order.worker, request))

    async def _kill_if_it_stays(self) -> None:
        if await self._ends_within(_ABORT_SECONDS):
            return
        self._log.warning("worker {} did not stop in {} s: killed", self.spec.name, _ABORT_SECONDS)
        self._tell(Request.KILL)
        # A driver that works answers at once. One that does not would keep this host from ending for ever.
        if not await self._ends_within(_KILL_SECONDS) and self._session is not None:
            self._log.warning("the Ray driver did not answer in {} s: killed", _KILL_SECONDS)
            kill(self._session.process)

    async def _ends_within(self, seconds: float) -> bool:
        return bool((await asyncio.wait([self._ended], timeout=seconds))[0])

    async def _live(self) -> WorkerExit:
        """Have the worker placed, follow it until it has ended, and return how it ended."""
        self._session = await unless_stopped(self._told_to_end, self._join())
        if self._session is None:
            return WorkerExit(crashed=False, reason="no node had taken it")
        inbox = self._session.place(self._order)
        if self._told_to_end.is_set():  # it was told in the moment before the order was sent
            self._tell(Request.DRAIN)
        failure = await self._follow(inbox)
        self.placed = False
        self.no_more_reports()
        self._waiting.clear()
        crashed = failure is not None and not self._told_to_end.is_set()
        return WorkerExit(crashed, self.failure_reason or failure or "drained")

    async def _join(self) -> Session:
        """Return the driver that is joined; until then, the reason of the wait is this worker's trouble."""
        session = asyncio.create_task(self._link.session(), name="session")
        try:
            while not session.done():
                self.trouble = self._link.trouble.failure
                await asyncio.wait([session], timeout=_LOOK_SECONDS)
        finally:
            session.cancel()
        self.trouble = None
        return session.result()

    async def _follow(self, inbox: asyncio.Queue[OfWorker]) -> str | None:
        """Keep what is said of the worker until it has ended. Return why it failed; None if it did not."""
        asked_at = monotonic()
        started = False
        while True:
            message = await _next(inbox, None if started else _LOOK_SECONDS)
            match message:
                case None:
                    self._note_why_it_waits(monotonic() - asked_at)
                case Started(_, place):
                    started, self.placed, self.trouble = True, True, None
                    self._waiting.clear()
                    self._log.info("worker {} runs on {}", self.spec.name, place)
                case WorkerMessage(_, packed):
                    self._take_packed(packed)
                case Ended(_, failure):
                    return failure

    def _take_packed(self, packed: bytes) -> None:
        """Keep what the worker has reported. One that reports nonsense is killed."""
        try:
            message = channel.unpack_body(packed)
        except ValueError as exc:
            self.failure_reason = str(exc)
            self._tell(Request.KILL)
        else:
            if isinstance(message, channel.Report | channel.Failure):
                self.take(message)

    def _note_why_it_waits(self, seconds: float) -> None:
        """Say what the worker waits for: at once if no node has it, else once it takes long."""
        assert self._session is not None
        if (away := self._link.trouble.failure) is not None:
            self.trouble = away
            return
        amounts, labels, nodes = self._order.amounts, self._order.labels, self._session.nodes
        if seconds < _START_SECONDS and any(fits(node, amounts, labels) for node in nodes):
            self.trouble = None
            return
        self.trouble = PlacementUnavailable(why_waiting(self.spec.stage.value, amounts, labels, nodes))
        self._waiting.note(self.trouble)


async def _next(inbox: asyncio.Queue[OfWorker], seconds: float | None) -> OfWorker | None:
    """Return the next message; None if there is none for `seconds`."""
    try:
        return await asyncio.wait_for(inbox.get(), seconds)
    except TimeoutError:
        return None
