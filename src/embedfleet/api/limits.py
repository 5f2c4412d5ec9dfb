"""Limits on requests: bodies are counted and timed, and answers say how the limit of requests stands."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedfleet.api.request_rate import Standing


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """The largest body of a request, and the setting that says so."""

    most_bytes: int
    setting: str

    def require(self, size: int) -> None:
        """Raise HTTPException if a body of this size is too large."""
        if size > self.most_bytes:
            raise HTTPException(
                413,
                f"the body has more than {self.most_bytes:,} bytes: send less at once, or have "
                f"{self.setting} raised",
            )


class LimitedBodies:
    """Ends a request whose body is too large, or pauses for too long.

    A body is counted as it comes in, and one whose head says that it is too large is not begun. The error is
    raised where the route reads the body, so it is told in the form of the route.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        usual: BodyLimit,
        of_paths: Mapping[str, BodyLimit | None],
        pause_seconds: float,
    ) -> None:
        """`of_paths` has the paths with a limit of their own; None: the route counts for itself."""
        self._app = app
        self._usual = usual
        self._of_paths = of_paths
        self._pause_seconds = pause_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._of_paths.get(scope["path"], self._usual)
        said, taken, complete = _said_length(scope), 0, False

        async def limited() -> Message:
            nonlocal taken, complete
            if complete:  # the client may be silent now: this call waits for its end
                return await receive()
            if limit is not None:
                limit.require(said)
            message = await self._in_time(receive)
            taken += len(message.get("body", b""))
            if limit is not None:
                limit.require(taken)
            complete = not message.get("more_body", False)
            return message

        await self._app(scope, limited, send)

    async def _in_time(self, receive: Receive) -> Message:
        try:
            async with asyncio.timeout(self._pause_seconds):
                return await receive()
        except TimeoutError as exc:
            raise HTTPException(
                408, f"the body paused for {self._pause_seconds:g} s: send it without pauses"
            ) from exc


def _said_length(scope: Scope) -> int:
    """Return the length that the head says; 0 if it says none. The server refuses what is no number."""
    said = Headers(scope=scope).get("content-length", "")
    return int(said) if said.isdecimal() else 0


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
