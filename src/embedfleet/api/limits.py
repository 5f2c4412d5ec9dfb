"""Limits on the bodies of requests: their size is counted as they come in, and their pauses are timed."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


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
