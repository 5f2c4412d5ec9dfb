"""Takes the steps of operations, blocking or on an event loop. In nothing else do the two clients differ."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import update_wrapper
from types import MethodType
from typing import Any, Generic, ParamSpec, Self, TypeVar, overload

import httpx

from embedfleet.client.lines import lines_coming, lines_of
from embedfleet.client.patience import Patience
from embedfleet.client.sending import with_patience
from embedfleet.client.server import Server
from embedfleet.client.steps import Ask, FileBody, Flow, Give, NextLine, Open, Pause, Step, Steps

P = ParamSpec("P")
T = TypeVar("T")

# A file is read and sent in pieces of this size.
_PIECE_BYTES = 1 << 18


class _Transport:
    """What both kinds of clients have."""

    def __init__(self, server: Server, patience: Patience) -> None:
        self._server = server
        self._patience = patience

    def of(self, tenant: str) -> Self:
        """Return a client that acts for this tenant. It has the same connections: close one of the two."""
        return self._for(self._server.of(tenant))

    def of_all_tenants(self) -> Self:
        """Return a client that sees every tenant that the API key may see. It has the same connections."""
        return self._for(self._server.of_all_tenants())

    def _for(self, server: Server) -> Self:
        other = copy.copy(self)
        other._server = server
        return other


class Blocking(_Transport):
    """A client whose operations return when they are done. Several threads may use it."""

    def __init__(self, http: httpx.Client, server: Server, patience: Patience) -> None:
        super().__init__(server, patience)
        self._http = http

    def _result(self, steps: Steps[T]) -> T:
        taker = _BlockingTaker(self._http, self._server)
        patient = with_patience(steps, self._patience)
        answer: Any = None
        try:
            while True:
                try:
                    step = patient.send(answer)
                except StopIteration as end:
                    result: T = end.value
                    return result
                answer = taker.take(step)
        finally:
            patient.close()
            taker.close()

    def _items(self, flow: Flow[T]) -> Iterator[T]:
        taker = _BlockingTaker(self._http, self._server)
        patient = with_patience(flow, self._patience)
        answer: Any = None
        try:
            while True:
                try:
                    step = patient.send(answer)
                except StopIteration:
                    return
                if isinstance(step, Give):
                    yield from step.items
                    answer = None
                else:
                    answer = taker.take(step)
        finally:
            patient.close()
            taker.close()


class Awaiting(_Transport):
    """A client whose operations are awaited. It belongs to one event loop."""

    def __init__(self, http: httpx.AsyncClient, server: Server, patience: Patience) -> None:
        super().__init__(server, patience)
        self._http = http

    async def _result(self, steps: Steps[T]) -> T:
        taker = _AwaitingTaker(self._http, self._server)
        patient = with_patience(steps, self._patience)
        answer: Any = None
        try:
            while True:
                try:
                    step = patient.send(answer)
                except StopIteration as end:
                    result: T = end.value
                    return result
                answer = await taker.take(step)
        finally:
            patient.close()
            await taker.close()

    async def _items(self, flow: Flow[T]) -> AsyncIterator[T]:
        taker = _AwaitingTaker(self._http, self._server)
        patient = with_patience(flow, self._patience)
        answer: Any = None
        try:
            while True:
                try:
                    step = patient.send(answer)
                except StopIteration:
                    return
                if isinstance(step, Give):
                    for item in step.items:
                        yield item
                    answer = None
                else:
                    answer = await taker.take(step)
        finally:
            patient.close()
            await taker.close()


class _BlockingTaker:
    """Takes the steps of one operation, which reads one answer by lines at a time."""

    def __init__(self, http: httpx.Client, server: Server) -> None:
        self._http = http
        self._server = server
        self._opened: httpx.Response | None = None
        self._lines: Iterator[str] = iter(())

    def take(self, step: Step) -> Any:
        try:
            match step:
                case Ask():
                    return self._http.send(self._request(step))
                case Open():
                    return self._open(step.ask)
                case NextLine():
                    return next(self._lines, None)
                case Pause():
                    return time.sleep(step.seconds)
        except httpx.RequestError as exc:
            return exc

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()

    def _open(self, ask: Ask) -> httpx.Response:
        self.close()
        self._opened = response = self._http.send(self._request(ask), stream=True)
        if response.is_success:
            self._lines = lines_of(response.iter_bytes())
        else:
            response.read()
        return response

    def _request(self, ask: Ask) -> httpx.Request:
        body = ask.body
        return _request(self._http, self._server, ask, _pieces(body) if isinstance(body, FileBody) else body)


class _AwaitingTaker:
    """Takes the steps of one operation, which reads one answer by lines at a time."""

    def __init__(self, http: httpx.AsyncClient, server: Server) -> None:
        self._http = http
        self._server = server
        self._opened: httpx.Response | None = None
        self._lines: AsyncIterator[str] | None = None

    async def take(self, step: Step) -> Any:
        try:
            match step:
                case Ask():
                    return await self._http.send(self._request(step))
                case Open():
                    return await self._open(step.ask)
                case NextLine():
                    return None if self._lines is None else await anext(self._lines, None)
                case Pause():
                    return await asyncio.sleep(step.seconds)
        except httpx.RequestError as exc:
            return exc

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.aclose()

    async def _open(self, ask: Ask) -> httpx.Response:
        await self.close()
        self._opened = response = await self._http.send(self._request(ask), stream=True)
        if response.is_success:
            self._lines = lines_coming(response.aiter_bytes())
        else:
            await response.aread()
        return response

    def _request(self, ask: Ask) -> httpx.Request:
        body = ask.body
        pieces = _pieces_on_a_thread(body) if isinstance(body, FileBody) else body
        return _request(self._http, self._server, ask, pieces)


def _request(http: httpx.Client | httpx.AsyncClient, server: Server, ask: Ask, content: Any) -> httpx.Request:
    headers = {**server.headers, **ask.headers}
    if isinstance(ask.body, FileBody):
        headers["Content-Length"] = str(ask.body.size)
    return http.build_request(
        ask.method,
        server.url.rstrip("/") + ask.path,
        params={name: value for name, value in ask.params.items() if value is not None},
        json=ask.json,
        content=content,
        headers=headers,
        timeout=_timeout(http.timeout, ask),
    )


def _timeout(usual: httpx.Timeout, ask: Ask) -> httpx.Timeout:
    read = None if usual.read is None else usual.read + ask.patience_seconds
    return httpx.Timeout(connect=usual.connect, read=read, write=usual.write, pool=usual.pool)


def _pieces(body: FileBody) -> Iterator[bytes]:
    with open(body.path, "rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


async def _pieces_on_a_thread(body: FileBody) -> AsyncIterator[bytes]:
    """Read the file without blocking the event loop, which may be slow for a file of a network."""
    file = await asyncio.to_thread(open, body.path, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
            yield piece
    finally:
        await asyncio.to_thread(file.close)


class Operation(Generic[P, T]):
    """A method of both clients, made of steps. It returns its result, or something to await for it."""

    def __init__(self, steps: Callable[P, Steps[T]]) -> None:
        self.steps = steps
        self.__doc__ = steps.__doc__

    @overload
    def __get__(self, client: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, client: Blocking, owner: type[Any]) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: Awaiting, owner: type[Any]) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Blocking | Awaiting | None, owner: type[Any]) -> Any:
        if client is None:
            return self

        def call(client: Blocking | Awaiting, /, *args: P.args, **named: P.kwargs) -> Any:
            return client._result(self.steps(*args, **named))

        return MethodType(update_wrapper(call, self.steps), client)


class Series(Generic[P, T]):
    """A method of both clients that gives many items: an iterator, or an asynchronous one."""

    def __init__(self, flow: Callable[P, Flow[T]]) -> None:
        self.flow = flow
        self.__doc__ = flow.__doc__

    @overload
    def __get__(self, client: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, client: Blocking, owner: type[Any]) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, client: Awaiting, owner: type[Any]) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, client: Blocking | Awaiting | None, owner: type[Any]) -> Any:
        if client is None:
            return self

        def call(client: Blocking | Awaiting, /, *args: P.args, **named: P.kwargs) -> Any:
            return client._items(self.flow(*args, **named))

        return MethodType(update_wrapper(call, self.flow), client)
