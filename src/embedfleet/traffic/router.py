"""Sends each request to ingest a document down one of two paths, and leaves one version visible."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from time import perf_counter
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from loguru import logger

from embedfleet.clock import Clock, SystemClock
from embedfleet.errors import ServerUnavailable, one_line
from embedfleet.metrics import Metrics
from embedfleet.records.removals import RemovalKey
from embedfleet.service import Service, run_services
from embedfleet.sql.database import Database
from embedfleet.traffic.calling import CALLERS_FAULT, PathCalls, StillRunning, has_taken_nothing, is_away
from embedfleet.traffic.circuit import Circuit
from embedfleet.traffic.counting import Counting, CountKeeping
from embedfleet.traffic.decision import decide
from embedfleet.traffic.document_turns import DocumentTurns
from embedfleet.traffic.guarding import Guarding
from embedfleet.traffic.paths import IngestFunction, IngestRequest, IngestResult, Path
from embedfleet.traffic.removing import Removals
from embedfleet.traffic.retirement import require_not_retired
from embedfleet.traffic.state_watch import FixedStates, Known, TrafficStates, WatchedStates
from embedfleet.trouble import Trouble

T = TypeVar("T")

# A request whose path changes while it is served is served again. States that change more often than that
# within one request do not exist outside of tests.
_MOST_ROUNDS = 4


class ShadowObserver(Protocol):
    """Is shown the answers of the old path. `traffic.shadow.Shadow` compares them with those of the fleet."""

    def observe(self, request: IngestRequest, answer: IngestResult | Exception, seconds: float) -> None:
        """Note how the old path answered, after `seconds`. It returns at once, and never fails."""
        ...

    async def forget(self, tenant: str, media_id: str) -> None:
        """Drop what was kept of a document that is removed."""
        ...


@dataclass(slots=True)
class _Course:
    """What is remembered of a request while it is served.

    `unknown`: the fleet failed, but may have taken the document, and readers may see it later. `answered`:
    the path that has answered, if one has. `late`: the threads of paths that went over their time.
    """

    unknown: bool = False
    answered: Path | None = None
    late: list[asyncio.Future[IngestResult]] = field(default_factory=list)


class TrafficRouter:
    """Sends each request to the old path or to the fleet, as the traffic state says.

    Use it with `async with`: it then follows the state in SQL, writes its counts there, and looks after the
    plan under way, as the leader does. One router serves a process. Its guarantees:

    - Exactly one path answers a request, or its caller gets that path's error. If the fleet fails a request
      that is not wrong in itself, the old path answers it, unless that is retired.
    - Requests for one document are served one after the other, in the order in which they came.
    - After a path has answered, the document is removed from the other one. A removal that fails is repeated
      until it succeeds, by any process that routes.
    - A caller that is cancelled does not stop its request.

    Two limits. A process that dies in the middle of a request may leave the document on both paths, until the
    request is repeated. And requests for one document that run in two processes at the same moment have no
    order: if the fleet fails one of them just then, its removal may take away what the other one has stored.
    """

    def __init__(
        self,
        sync_path: IngestFunction,
        async_path: IngestFunction,
        *,
        database: Database | None = None,
        states: TrafficStates | None = None,
        clock: Clock | None = None,
        metrics: Metrics | None = None,
        shadow: ShadowObserver | None = None,
        async_limit_seconds: float = 60.0,
        removal_limit_seconds: float = 10.0,
    ) -> None:
        """A path is a coroutine function, or a plain function, which runs in a thread. One that has `remove`
        too is a `RemovingPath`.

        `database`: where the state, the counts and the removals are. Without it nothing is moved, unless
        `states` says so. The fleet has `async_limit_seconds` to answer. A removal from either path may take
        `removal_limit_seconds`. `shadow` is shown each answer of the old path.
        """
        self._clock = clock or SystemClock()
        self._metrics = metrics or Metrics()
        self._database = database
        self._services: list[Service] = []
        self._watched: WatchedStates | None = None
        if states is None and database is not None:
            states = self._watched = WatchedStates(database, self._clock)
            self._services += [states, Guarding(database, self._clock)]
        self._states = states or FixedStates()
        self._shadow = shadow
        self._async_limit_seconds = async_limit_seconds
        self._calls = {Path.SYNC: PathCalls(sync_path), Path.ASYNC: PathCalls(async_path)}
        self._turns = DocumentTurns()
        self._circuit = Circuit(clock)
        self.trouble = Trouble(over="the fleet answers again")
        self._counting = Counting(self._clock, self._metrics)
        self._removals = Removals(
            {Path.SYNC: sync_path, Path.ASYNC: async_path},
            self._turns,
            database=database,
            clock=self._clock,
            metrics=self._metrics,
            limit_seconds=removal_limit_seconds,
        )
        self._services.append(self._removals)
        if database is not None:
            self._services.append(CountKeeping(self._counting, database))
        self._requests: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._watched is not None:
            await self._watched.try_refresh()
        self._running = asyncio.create_task(run_services(self._services, self._stop), name="traffic router")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the requests that are under way, and write the last counts."""
        while self._requests:
            await asyncio.wait(self._requests)
        self._stop.set()
        if self._running is not None:
            await self._running
        for calls in self._calls.values():
            await asyncio.to_thread(calls.close)

    async def ingest(self, request: IngestRequest) -> IngestResult:
        """Ingest the document on the path that the state says. `path` of the result says which one it was.

        Raises what that path raises. If the fleet failed and the old path too, it raises the error of the old
        path; the fleet may then have taken the document all the same. If the old path is retired, it is not
        asked, and the error is the fleet's.
        """
        return await self._in_turn(
            request.tenant, request.media_id, lambda course: self._route(request, course)
        )

    async def ingest_the_old_way(self, request: IngestRequest) -> IngestResult:
        """Ingest the document on the old path, whatever the state says: for code that is not moved yet.

        Raises what the old path raises. Raises PathRetired once that is retired.
        """

        async def serve(course: _Course) -> IngestResult:
            return await self._serve_on(Path.SYNC, request, self._states.present(), course)

        return await self._in_turn(request.tenant, request.media_id, serve)

    async def remove(self, tenant: str, media_id: str) -> None:
        """Remove the document from both paths.

        Raises what a path raises that cannot remove it now. Such a removal is repeated until it succeeds,
        unless the document is ingested again before.
        """
        await self._in_turn(tenant, media_id, lambda _: self._remove_everywhere(tenant, media_id))

    async def _in_turn(
        self, tenant: str, media_id: str, work: Callable[[_Course], Coroutine[Any, Any, T]]
    ) -> T:
        """Do the work with the document's turn. It goes on to its end if the caller is cancelled.

        Half a request would be worse than none: a document may be on both paths then.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._serve(tenant, media_id, work, answer))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        return await answer

    async def _serve(
        self,
        tenant: str,
        media_id: str,
        work: Callable[[_Course], Coroutine[Any, Any, T]],
        answer: asyncio.Future[T],
    ) -> None:
        course = _Course()
        async with self._turns.of(tenant, media_id):
            try:
                result = await work(course)
            except Exception as exc:  # noqa: BLE001 - whatever it is, the caller raises it
                if not answer.done():
                    answer.set_exception(exc)
            else:
                if not answer.done():
                    answer.set_result(result)
            finally:
                answer.cancel()  # does nothing to an answer that is there; otherwise its caller would wait on
            if course.late:
                await self._outwait(RemovalKey(tenant, media_id, Path.ASYNC), course)

    async def _outwait(self, key: RemovalKey, course: _Course) -> None:
        """Keep the document's turn until calls have ended that went over their time.

        A later version must not be overtaken by them. What they store is removed, if the old path answered.
        """
        await asyncio.wait(course.late)
        for late in course.late:
            late.exception()  # it was counted as a failure already
        # If the old path did not answer, the fleet has the only version that there is.
        if course.unknown and course.answered is Path.SYNC:
            await self._remove_or_keep(key)

    async def _route(self, request: IngestRequest, course: _Course) -> IngestResult:
        """Serve the request, again if the state sends it elsewhere by the time that it was served.

        Another process may have served the same document on the other path since the state has changed, and
        this one has removed it from there. So this version is ingested there too, and nothing is lost.
        """
        known = self._states.present()
        path = self._decided(known, request)
        result = await self._serve_on(path, request, known, course)
        for _ in range(_MOST_ROUNDS):
            now = self._states.present()
            if now is known or self._decided(now, request) is path:
                break
            known, path = now, self._decided(now, request)
            try:
                result = await self._serve_on(path, request, known, course)
            except Exception as exc:  # noqa: BLE001 - it was answered, and what answered it still has it
                logger.warning("the path of a request changed, and the new one failed: {}", _words(exc))
                break
        return result

    def _decided(self, known: Known, request: IngestRequest) -> Path:
        return decide(known.state, request.tenant, request.media_id, request.content_type)

    async def _serve_on(
        self, path: Path, request: IngestRequest, known: Known, course: _Course
    ) -> IngestResult:
        if path is Path.ASYNC:
            result = await self._by_fleet(request, known, course)
        else:
            result = await self._shadowed(request, known)
        await self._leave_one_visible(request, result, course)
        return result

    async def _shadowed(self, request: IngestRequest, known: Known) -> IngestResult:
        """Ask the old path, and show its answer to the shadow."""
        if self._shadow is None:
            return await self._by_old_path(request, known)
        started = perf_counter()
        try:
            result = await self._by_old_path(request, known)
        except Exception as exc:
            self._shadow.observe(request, exc, perf_counter() - started)
            raise
        self._shadow.observe(request, result, perf_counter() - started)
        return result

    async def _by_old_path(self, request: IngestRequest, known: Known) -> IngestResult:
        require_not_retired(known.state)
        try:
            return await self._call(Path.SYNC, request, known, limit_seconds=None)
        except CALLERS_FAULT:
            raise
        except Exception:
            self._counting.failure(Path.SYNC, known.state.change_id)
            raise

    async def _by_fleet(self, request: IngestRequest, known: Known, course: _Course) -> IngestResult:
        """Ask the fleet, and the old path if the fleet does not answer and the old path is not retired."""
        is_alone = known.state.retirement is not None
        # Where nothing else can answer, the fleet is asked even if it is probably away.
        if not self._circuit.admits() and not is_alone:
            self._counting.fallback(known.state.change_id, "circuit")
            return await self._by_old_path(request, known)
        try:
            result = await self._call(Path.ASYNC, request, known, limit_seconds=self._async_limit_seconds)
        except CALLERS_FAULT:
            self._note_answer()
            raise
        except Exception as exc:
            self._note_failure(exc, course)
            if is_alone:
                self._counting.failure(Path.ASYNC, known.state.change_id)
                raise
            logger.warning("the fleet failed, and the request goes the old way: {}", _words(exc))
            self._counting.fallback(known.state.change_id, "failed")
            return await self._by_old_path(request, known)
        self._note_answer()
        return result

    def _note_answer(self) -> None:
        self._circuit.note_answer()
        if self.trouble.failure is not None:
            self.trouble.clear()

    def _note_failure(self, failure: Exception, course: _Course) -> None:
        """Draw the conclusions from a failure of the fleet."""
        if is_away(failure):
            self._circuit.note_absence()
            if self._circuit.is_open:
                self.trouble.note(
                    ServerUnavailable(
                        "the fleet does not answer: requests go the old way, but for single tries"
                    )
                )
        else:
            self._note_answer()
        course.unknown = course.unknown or not has_taken_nothing(failure)
        if isinstance(failure, StillRunning):
            course.late.append(failure.done)

    async def _call(
        self, path: Path, request: IngestRequest, known: Known, *, limit_seconds: float | None
    ) -> IngestResult:
        """Call the path and count its answer. Kept removals of the document from this path are void then."""
        key = RemovalKey(request.tenant, request.media_id, path)
        held = await self._removals.hold(key) if self._removals.any_kept else None
        started = perf_counter()
        try:
            result = await self._calls[path].call(request, limit_seconds=limit_seconds)
        except BaseException as exc:
            if isinstance(exc, CALLERS_FAULT):
                self._counting.callers_fault(path, known.state.change_id)
            if held is not None:
                await self._removals.release(held)
            raise
        self._counting.answer(path, known.state.change_id, perf_counter() - started, result.chunks)
        await self._removals.void(key)
        return IngestResult(result.chunks, result.visible, result.stored, result.job_id, path)

    async def _leave_one_visible(self, request: IngestRequest, result: IngestResult, course: _Course) -> None:
        """Remove the document from the path that did not answer, or see to it that this is done later."""
        assert result.path is not None
        course.answered = result.path
        key = RemovalKey(request.tenant, request.media_id, result.path.other)
        if not self._may_have(key):
            return
        if result.visible or result.job_id is None or not self._removals.can_follow(result.path):
            await self._remove_or_keep(key)
        else:
            # Readers see the version before until they see this one.
            await self._removals.keep(key, after_seconds=0.0, job_id=result.job_id)
        if course.unknown and key.path == Path.ASYNC:
            # What the fleet may still take of the failed call was removed too early just now.
            await self._removals.keep(key, after_seconds=self._async_limit_seconds)

    def _may_have(self, key: RemovalKey) -> bool:
        """Whether the path may have the document, and can remove it."""
        if not self._removals.can_remove(Path(key.path)):
            return False
        state, reach = self._states.present()
        if key.path == Path.ASYNC:
            return reach.includes(key.tenant, key.media_id)
        # A path that is retired for good may be gone.
        return state.retirement is None or self._clock.now() < state.retirement.final_at

    async def _remove_or_keep(self, key: RemovalKey, *, erases: bool = False) -> Exception | None:
        """Remove the document from a path, with its turn. What fails is kept, and returned.

        `erases`: the document is to be on neither path.
        """
        if key.path == Path.ASYNC and self._circuit.is_open and not erases:
            await self._removals.keep(key)
            return None
        try:
            await self._removals.remove(key)
        except Exception as exc:  # noqa: BLE001 - the request was answered; the removal is repeated
            await self._removals.keep(key, erases=erases)
            logger.warning("the {} path could not remove a document: {}", key.path, _words(exc))
            return exc
        await self._removals.void(key)
        return None

    async def _remove_everywhere(self, tenant: str, media_id: str) -> None:
        keys = [RemovalKey(tenant, media_id, path) for path in Path]
        failures = [await self._remove_or_keep(key, erases=True) for key in keys if self._may_have(key)]
        if self._shadow is not None:
            await self._shadow.forget(tenant, media_id)
        for failure in failures:
            if failure is not None:
                raise failure


def _words(failure: Exception) -> str:
    return one_line(failure) or type(failure).__name__
