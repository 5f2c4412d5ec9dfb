"""A whole embedded system over real SQLite and Chroma, with a model that is fast and deterministic."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select

from embedfleet.bootstrap import OwnerSystem, open_owner
from embedfleet.inference.catalogue import Catalogue
from embedfleet.job_manager import EmbeddingJobManager
from embedfleet.queue.broker import Broker, Depth, Lease
from embedfleet.queue_schemas import ChunkingConfig, ChunkMethod, JobInfo, ReceiptState, Stage, UserTier
from embedfleet.records import collections
from embedfleet.records.scope import EveryTenant
from embedfleet.settings import Settings, load_settings
from embedfleet.sql import tables
from embedfleet.sql.database import Database
from embedfleet.sql.states import GenerationState, VectorState
from embedfleet.vectors.chroma.kind import chroma_directory
from embedfleet.vectors.port import VectorStore
from support.hang_report import report_hangs
from support.hangs import HANG_SECONDS

TENANT = "alice"
ONE_EACH = ChunkingConfig(chunk_size=400, overlap=0, method=ChunkMethod.PARAGRAPHS)
"""Makes each of `paragraphs` a chunk of its own."""


async def all_at_the_end(leases: Sequence[Lease]) -> None:
    """For a worker's `process` called by hand: nothing is settled before it returns."""


@dataclass(frozen=True, slots=True)
class Running:
    """A system whose workers are at work."""

    system: OwnerSystem
    stop: asyncio.Event

    @property
    def jobs(self) -> EmbeddingJobManager:
        return self.system.jobs

    async def submit(self, media_id: str, content: str, **more: Any) -> str:
        fields: dict[str, Any] = {"user_id": TENANT, "user_tier": UserTier.PREMIUM} | more
        return await self.jobs.create_job(media_id=media_id, content=content, **fields)

    async def ingest(self, media_id: str, content: str, **more: Any) -> JobInfo:
        """Submit and wait for the end, leftovers included."""
        job_id = await self.submit(media_id, content, **more)
        info = await self.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
        await self.settled()
        return info

    async def settled(self) -> None:
        async with asyncio.timeout(HANG_SECONDS):
            await self.jobs.of_all_tenants().wait_for_cleanups()

    async def idle(self) -> None:
        """Until no task is queued or held in any stage."""
        await self.eventually(lambda depths: not any(d.ready + d.leased + d.delayed for d in depths.values()))

    async def eventually(self, holds: Callable[[dict[Stage, Depth]], bool]) -> None:
        """Return when the broker's counts are as wanted. The broker sends no event for that, so it is asked
        at every turn of the event loop."""
        async with asyncio.timeout(HANG_SECONDS):
            while not holds(  # noqa: ASYNC110 - there is no event to wait for
                {stage: await self.system.broker.depth(stage) for stage in Stage}
            ):
                await asyncio.sleep(0)

    async def delete_while_the_store_is_away(self, media_id: str) -> str:
        """Returns the id of the receipt, which is not done when the store is known to be away."""
        receipt_id = await self.jobs.of(TENANT).delete_document(media_id=media_id)
        assert receipt_id is not None
        watched = self.system.metrics.registry
        async with asyncio.timeout(HANG_SECONDS):
            while watched.get_sample_value("embedding_store_up") != 0:  # noqa: ASYNC110 - a series has no event
                await asyncio.sleep(0.05)
        assert (await self.jobs.of(TENANT).receipt(receipt_id)).state is ReceiptState.PENDING
        return receipt_id

    def embedded(self) -> float:
        """Chunks the model has embedded so far."""
        value = self.system.metrics.registry.get_sample_value("embedding_chunks_embedded_total")
        assert value is not None
        return value


Start = Callable[..., AbstractAsyncContextManager[Running]]
Configure = Callable[..., Settings]
"""`make_settings` for the directory and the database of a test."""


def make_settings(data_dir: Path, *, database_url: str | None = None, **overrides: Any) -> Settings:
    base: dict[str, Any] = {
        "data_dir": str(data_dir / "data"),
        "models": {"default": "stub"},
        "database": {"synchronous": "normal", "url": database_url},
        # A machine that is busy with other tests refuses no switch to another model.
        "model_switching": {"gate": {"max_latency_ratio": 1e6}},
    }
    # The tier with the narrowest limits, so that tests of them are short.
    overrides["tenants"] = {"default_tier": "free"} | overrides.get("tenants", {})
    return load_settings(environ={}, overrides=base | overrides)


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    store: VectorStore | None = None,
    broker: Broker | None = None,
    catalogue: Catalogue | None = None,
) -> AsyncIterator[Running]:
    """Workers at work while the block runs; drained after it."""
    stop = asyncio.Event()
    owner = open_owner(settings, purpose="test", store=store, broker=broker, catalogue=catalogue)
    async with owner as system, asyncio.TaskGroup() as tasks:
        tasks.create_task(system.orchestrator.run(stop))
        hangs = tasks.create_task(report_hangs(system), name="hang report")
        try:
            yield Running(system, stop)
        finally:
            hangs.cancel()
            stop.set()


@dataclass(frozen=True, slots=True)
class Ledger:
    """An exhaustive look at what SQL promises and what the vector store holds."""

    promised: frozenset[str]
    recorded: frozenset[str]
    held: frozenset[str]
    marked: int

    def assert_exact(self) -> None:
        assert self.promised - self.held == frozenset(), "lost vectors"
        assert self.held - self.promised == frozenset(), "surplus vectors"
        assert self.recorded == self.promised, "SQL's record of the store is wrong"
        assert self.marked == 0


async def take_ledger(system: OwnerSystem) -> Ledger:
    return await ledger_of(system.database, system.store)


async def ledger_of(database: Database, store: VectorStore) -> Ledger:
    held: list[str] = []
    for collection in await database.read(partial(collections.within, scope=EveryTenant())):
        async for ids, _vectors in store.scan(collection):
            held += ids
    assert len(held) == len(set(held)), "the store returned an id twice"
    promised, recorded, marked = await database.read(_promises)
    return Ledger(promised, recorded, frozenset(held), marked)


def _promises(conn: Connection) -> tuple[frozenset[str], frozenset[str], int]:
    live = (
        select(tables.chunks.c.chunk_id)
        .join(tables.generations, tables.generations.c.generation_id == tables.chunks.c.generation_id)
        .where(tables.generations.c.state == GenerationState.LIVE)
    )
    promised = {value.hex() for value in conn.execute(live).scalars()}
    stored = select(tables.vectors.c.chunk_id).where(tables.vectors.c.state == VectorState.STORED)
    recorded = {value.hex() for value in conn.execute(stored).scalars()}
    marked = select(func.count()).where(tables.vectors.c.state == VectorState.DELETING)
    return frozenset(promised), frozenset(recorded), int(conn.execute(marked).scalar_one())


async def until(condition: Callable[[], Awaitable[bool]], database: Database) -> None:
    """Return when the condition holds; it is looked at again after every write to the database."""

    async def look() -> bool | None:
        return await condition() or None

    async with asyncio.timeout(HANG_SECONDS):
        await database.until(look)


_READ_CHROMA = """
import chromadb, json, sys
client = chromadb.PersistentClient(sys.argv[1], chromadb.Settings(anonymized_telemetry=False))
rows = []
for collection in client.list_collections():
    got = collection.get(include=["metadatas", "documents"])
    for id_, metadata, document in zip(got["ids"], got["metadatas"], got["documents"]):
        rows.append({**metadata, "id": id_, "document": document})
print(json.dumps(rows))
"""


def read_chroma(settings: Settings) -> list[dict[str, Any]]:
    """Every row as Chroma's own users see it: read by a process of its own, when no owner runs."""
    command = [sys.executable, "-c", _READ_CHROMA, str(chroma_directory(settings.data_dir))]
    rows: list[dict[str, Any]] = json.loads(subprocess.check_output(command))
    return rows


def paragraphs(name: str, count: int) -> str:
    """A document of `count` paragraphs, each a chunk of its own under `ONE_EACH`."""
    return "\n\n".join(f"{name} paragraph {n}: " + (f"word{n} {name} " * 60)[:260] for n in range(count))
