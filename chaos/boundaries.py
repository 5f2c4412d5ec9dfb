"""The boundaries between the steps of a task, as traps in a worker process.

The trap is a file that names a boundary and what happens there; the first worker that passes the boundary
takes it (by unlinking it: one has it) and falls. An empty folder costs a passing worker one look.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from embedfleet.queue import offering
from embedfleet.queue.broker import Lease
from embedfleet.queue.redis_broker import RedisBroker
from embedfleet.queue_schemas import Stage
from embedfleet.vectors.chroma.server import ChromaServerStore
from embedfleet.workers import embedding_worker
from embedfleet.workers.base_worker import Done, Failures, StageLoop
from embedfleet.workers.chunking_worker import ChunkingLoop
from embedfleet.workers.deletion_worker import DeletionLoop
from embedfleet.workers.embedding_worker import EmbeddingLoop
from embedfleet.workers.storage_worker import StorageLoop

TRAP = "CHAOS_TRAP"
HOLD_SECONDS = 1.8
"""Longer than a lease of one second and the pause until it is noticed."""


class What(StrEnum):
    """`twice`: the worker stands still, renewals too, until its task has been given to another."""

    KILL = "kill"
    EXCEPTION = "exception"
    TWICE = "twice"


BOUNDARIES = (
    *(f"{stage.value} claimed" for stage in Stage),
    "embedding embedded",
    "storage vector written",
    "deletion vector deleted",
    *(f"{stage.value} committed" for stage in Stage),
    *(f"{stage.value} before ack" for stage in Stage),
)


class Trapped(Exception):
    """A defect that no worker expects."""


def arm(trap: Path, boundary: str, what: What) -> None:
    """For the next worker that passes."""
    assert boundary in BOUNDARIES
    new = trap.with_suffix(".new")
    new.write_text(f"{boundary}\n{what.value}")
    new.rename(trap)


def watch(trap: Path) -> None:
    """From now on this process passes the boundaries."""

    def passing(boundary: str) -> None:
        try:
            wanted, what = trap.read_text().split("\n")
            if wanted != boundary:
                return
            trap.unlink()
        except FileNotFoundError:
            return
        _fall(What(what), boundary)

    claim = StageLoop._claim

    async def claimed(self: StageLoop, passing_over: Collection[str]) -> list[Lease]:
        leases = await claim(self, passing_over)
        if leases:
            passing(f"{self.stage.value} claimed")
        return leases

    ack = RedisBroker.ack

    async def acked(self: RedisBroker, leases: Sequence[Lease]) -> list[Lease]:
        for stage in {lease.stage for lease in leases}:
            passing(f"{stage.value} before ack")
        return await ack(self, leases)

    offer = offering.offer

    async def offered(*arguments: Any) -> None:
        passing("embedding embedded")
        await offer(*arguments)

    StageLoop._claim = claimed  # type: ignore[method-assign]
    RedisBroker.ack = acked  # type: ignore[method-assign]
    setattr(embedding_worker, "offer", offered)  # noqa: B010 - where the worker looks it up
    process = EmbeddingLoop.process

    async def processed(self: EmbeddingLoop, leases: Sequence[Lease], done: Done) -> Failures:
        async def committed(some: Sequence[Lease]) -> None:
            passing("embedding committed")
            await done(some)

        return await process(self, leases, committed)

    EmbeddingLoop.process = processed  # type: ignore[method-assign]
    for kind in (ChunkingLoop, StorageLoop, DeletionLoop):
        _after(kind, "process", partial(passing, f"{kind.stage.value} committed"))
    _after(ChromaServerStore, "upsert", partial(passing, "storage vector written"))
    _after(ChromaServerStore, "delete", partial(passing, "deletion vector deleted"))


def _after(kind: type, method: str, then: Callable[[], None]) -> None:
    original: Callable[..., Awaitable[Any]] = getattr(kind, method)

    async def followed(*arguments: Any) -> Any:
        answer = await original(*arguments)
        then()
        return answer

    setattr(kind, method, followed)


def _fall(what: What, boundary: str) -> None:
    match what:
        case What.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case What.EXCEPTION:
            raise Trapped(boundary)
        case What.TWICE:
            time.sleep(HOLD_SECONDS)
