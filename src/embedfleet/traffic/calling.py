"""Calls a path, be it a coroutine function or a plain one, and says what its failure means."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from embedfleet.errors import (
    AccessDenied,
    InputError,
    InvalidRequest,
    ParseError,
    QuotaExceeded,
    Transient,
)
from embedfleet.traffic.paths import IngestFunction, IngestRequest, IngestResult

# As many as Starlette gives the plain functions of its routes, where such a path mostly comes from.
_THREADS = 40

_CoroutineFunction = Callable[[IngestRequest], Awaitable[IngestResult]]

CALLERS_FAULT = (InvalidRequest, ParseError)
"""What is wrong with the request itself. The other path is not asked: it would be wrong there too."""

_REFUSED = (InputError, AccessDenied, QuotaExceeded)
"""With one of these a path says that it has taken nothing."""


class StillRunning(Exception):
    """A plain function went over its time. Its thread goes on until `done` is set, and may store it yet."""

    def __init__(self, done: asyncio.Future[Any]) -> None:
        super().__init__("it took too long")
        self.done = done


class PathCalls:
    """Calls one path. Plain functions run in threads of their own."""

    def __init__(self, path: IngestFunction) -> None:
        """Raises InvalidRequest if the path cannot be called."""
        if not callable(path):
            raise InvalidRequest(f"a path must be a function of a request, not {_described(path)}")
        self._path = path
        method = type(path).__call__
        is_coroutine = inspect.iscoroutinefunction(path) or inspect.iscoroutinefunction(method)
        self._coroutine = cast("_CoroutineFunction", path) if is_coroutine else None
        self._threads: ThreadPoolExecutor | None = None

    async def call(self, request: IngestRequest, *, limit_seconds: float | None) -> IngestResult:
        """Return the path's answer, and raise what it raises.

        After `limit_seconds` it raises TimeoutError, or StillRunning if the path is a plain function, whose
        thread goes on. None: there is no limit. A path that answers with something else than a result has
        failed with a TypeError, and one that cancels its own call with a RuntimeError.
        """
        try:
            answer = await self._answer(request, limit_seconds)
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise RuntimeError("the path cancelled its own call") from exc
        if not isinstance(answer, IngestResult):
            raise TypeError(f"the path returned {_described(answer)}, and not an IngestResult")
        return answer

    async def _answer(self, request: IngestRequest, limit_seconds: float | None) -> IngestResult:
        if self._coroutine is None:
            return await self._call_in_thread(request, limit_seconds)
        if limit_seconds is None:
            return await self._coroutine(request)
        async with asyncio.timeout(limit_seconds):
            return await self._coroutine(request)

    async def _call_in_thread(self, request: IngestRequest, limit_seconds: float | None) -> IngestResult:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="traffic-path")
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._path, request)
        done, _ = await asyncio.wait([running], timeout=limit_seconds)
        if not done:
            raise StillRunning(running)
        answer = running.result()
        if not inspect.isawaitable(answer):
            return answer
        async with asyncio.timeout(limit_seconds):  # a plain function that makes a coroutine
            return await answer

    def close(self) -> None:
        """Wait for the threads to end. It blocks; no call may follow."""
        if self._threads is not None:
            self._threads.shutdown(wait=True)


def _described(value: object) -> str:
    """Return what a value is, in words: its contents may be the text of a document."""
    return "None" if value is None else f"a value of type {type(value).__name__}"


def has_taken_nothing(failure: BaseException) -> bool:
    """Whether a path that failed like this has certainly stored nothing, and will not store anything."""
    return isinstance(failure, _REFUSED)


def is_away(failure: BaseException) -> bool:
    """Whether a path failed because it is not there, or not able to answer anything."""
    return isinstance(failure, Transient | OSError | TimeoutError | StillRunning)
