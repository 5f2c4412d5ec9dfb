"""Limits on requests: pauses of their bodies are timed, and answers say how the limit of requests stands."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedfleet.api.request_rate import Standing


class SlowBodies:
    """Ends a request whose body pauses for too long: a client must not occupy a connection for ever."""

    def __init__(self, app: ASGIApp, *, pause_seconds: float) -> None:
        self._app = app
        self._pause_seconds = pause_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        complete = False

        async def timed() -> Message:
            nonlocal complete
            if complete:  # the client may be silent now: this call waits for its end
                return await receive()
            try:
                async with asyncio.timeout(self._pause_seconds):
                    message = await receive()
            except TimeoutError as exc:
                raise HTTPException(
                    408, f"the body paused for {self._pause_seconds:g} s: send it without pauses"
                ) from exc
            complete = not message.get("more_body", False)
            return message

        await self._app(scope, timed, send)


class RateHeaders:
    """Adds to each answer how the limit of requests stands, in headers as those of OpenAI."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            standing = scope.get("state", {}).get("request_rate")
            if message["type"] == "http.response.start" and isinstance(standing, Standing):
                headers = MutableHeaders(scope=message)
                headers["x-ratelimit-limit-requests"] = str(standing.limit)
                headers["x-ratelimit-remaining-requests"] = str(standing.remaining)
                headers["x-ratelimit-reset-requests"] = f"{max(standing.reset_seconds, 0.0):.3g}s"
            await send(message)

        await self._app(scope, receive, with_headers)


class UnreadBodies:
    """Closes the connection of a request that is answered before all of its body was taken.

    Otherwise the server would take and drop the rest, which may be endless, to get to the next request. Most
    clients read no answer before they have sent all, and lose it if the connection closes before. So the rest
    is dropped for some seconds first.
    """

    def __init__(self, app: ASGIApp, *, linger_seconds: float = 2.0) -> None:
        self._app = app
        self._linger_seconds = linger_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        complete = closing = False

        async def watched() -> Message:
            nonlocal complete
            message = await receive()
            complete = complete or not message.get("more_body", False)
            return message

        async def answered(message: Message) -> None:
            nonlocal closing
            if message["type"] == "http.response.start" and not complete:
                closing = True
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if not (closing and is_last):
                await send(message)
                return
            await send({**message, "more_body": True})
            with suppress(TimeoutError):
                async with asyncio.timeout(self._linger_seconds):
                    while not complete:
                        await watched()
            await send({"type": "http.response.body"})

        await self._app(scope, watched, answered)


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
