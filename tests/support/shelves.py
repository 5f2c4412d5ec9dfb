"""Paths for tests of the router: shelves of documents in memory, whose failures a test chooses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from embedfleet.traffic.paths import IngestRequest, IngestResult


class Shelf:
    """A path that keeps the newest text of each document. A `RemovingPath`.

    `fails_with` and `removal_fails_with` are raised in place of the work. `gate` and `removal_gate` hold the
    work up until they are set; `arrived` is set when work begins. `stores_then_fails`: it stores, then fails.
    `accepts_only`: readers see a document after `complete`. It is a `FollowingPath`, too.
    """

    def __init__(self) -> None:
        self.shown: dict[tuple[str, str], str] = {}
        self.calls: list[str] = []
        self.removals: list[str] = []
        self.fails_with: Callable[[], Exception] | None = None
        self.removal_fails_with: Callable[[], Exception] | None = None
        self.stores_then_fails = False
        self.accepts_only = False
        self.accepted: dict[str, IngestRequest] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.removal_gate = asyncio.Event()
        self.removal_gate.set()
        self.arrived = asyncio.Event()
        self.at_work: set[tuple[str, str]] = set()

    async def __call__(self, request: IngestRequest) -> IngestResult:
        key = (request.tenant, request.media_id)
        assert key not in self.at_work, "two requests for one document at once"
        self.at_work.add(key)
        try:
            return await self._ingest(request)
        finally:
            self.at_work.discard(key)

    async def _ingest(self, request: IngestRequest) -> IngestResult:
        self.calls.append(request.content)
        self.arrived.set()
        await self.gate.wait()
        if self.accepts_only:
            job_id = f"job of {request.content}"
            self.accepted[job_id] = request
            return IngestResult(chunks=0, visible=False, job_id=job_id)
        if self.fails_with is None or self.stores_then_fails:
            self.shown[request.tenant, request.media_id] = request.content
        if self.fails_with is not None:
            raise self.fails_with()
        return IngestResult(chunks=len(request.content.split()))

    async def remove(self, tenant: str, media_id: str) -> None:
        self.removals.append(media_id)
        self.arrived.set()
        await self.removal_gate.wait()
        if self.removal_fails_with is not None:
            raise self.removal_fails_with()
        with suppress(KeyError):
            del self.shown[tenant, media_id]

    def complete(self) -> None:
        """Show readers what was accepted."""
        for request in self.accepted.values():
            self.shown[request.tenant, request.media_id] = request.content

    async def is_visible(self, tenant: str, job_id: str) -> bool | None:
        request = self.accepted.get(job_id)
        return None if request is None else (tenant, request.media_id) in self.shown


class ShowingShelf(Shelf):
    """A shelf that can be asked for a document: a `ShowingPath`."""

    async def shows(self, tenant: str, media_id: str) -> bool:
        return (tenant, media_id) in self.shown


def visible(media_id: str, *shelves: Shelf, tenant: str = "t") -> list[str | None]:
    """What each shelf shows of a document."""
    return [shelf.shown.get((tenant, media_id)) for shelf in shelves]
