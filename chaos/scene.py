"""What a fault happens to: real servers, a fleet on them, and the ledger of what it was given."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from sqlalchemy import Connection, func, select

from chaos import ROOT, boundaries, oracle, worker
from chaos.inputs import MODEL, InputLedger
from chaos.oracle import Finding, Kind
from chaos.proxy import TcpProxy
from chaos.verdict import Context
from embedfleet.bootstrap import GuestSystem, open_broker, open_guest, open_store
from embedfleet.queue.broker import Broker
from embedfleet.queue_schemas import Stage
from embedfleet.sql import tables
from support.chroma_server import ChromaServer
from support.databases import PostgresDatabases
from support.fleet import Fleet
from support.hangs import HANG_SECONDS
from support.import_path import import_path
from support.postgres_server import PostgresServer
from support.redis_server import RedisServer, free_ports

LOOK_AGAIN_SECONDS = 0.05
LEASE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Network:
    """The proxies between the fleet and its services."""

    redis: TcpProxy
    postgresql: TcpProxy
    chroma: TcpProxy


@dataclass(frozen=True, slots=True)
class Scene:
    """`guest` and the oracle reach the services directly; the fleet through `network`, if there is one."""

    redis: RedisServer
    postgres: PostgresServer
    chroma: ChromaServer
    fleet: Fleet
    guest: GuestSystem
    inputs: InputLedger
    direct: Fleet
    tally: Path
    trap: Path
    network: Network | None = None

    async def stored(self) -> int:
        """Chunks that SQL counts as stored, of all jobs."""
        return await self.guest.database.read(_stored)

    async def unfinished(self) -> int:
        return await self.guest.database.read(_unfinished)

    async def until_stored(self, count: int, *, patience_seconds: float = HANG_SECONDS) -> bool:
        """Whether so many came to be; False if there was no progress for so long, or all is done."""
        return await self._progress(lambda stored, left: stored >= count or not left, patience_seconds)

    async def until_ended(self, *, patience_seconds: float = HANG_SECONDS) -> bool:
        """Whether all jobs have ended; False if there was no progress for so long."""
        return await self._progress(lambda _stored, left: not left, patience_seconds)

    async def _progress(self, enough: Callable[[int, int], bool], patience_seconds: float) -> bool:
        seen, moved_at = (-1, -1), monotonic()
        while True:
            now = await self.stored(), await self.unfinished()
            if enough(*now):
                return True
            if now != seen:
                seen, moved_at = now, monotonic()
            elif monotonic() - moved_at > patience_seconds:
                return False
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def resumed(self, name: str, *, within_seconds: float) -> float | None:
        """Seconds until a document submitted now has gone all the way; None if that takes longer. What was
        in the workers' hands comes to its end sooner, and would prove less."""
        started = monotonic()
        [job_id] = await self.inputs.submit_documents(
            self.guest.jobs, f"probe {name}", 1, chunks=1, tenant="probe"
        )
        while not (await self.guest.jobs.get_job_status(job_id)).status.terminal:
            if monotonic() - started > within_seconds:
                return None
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
        return monotonic() - started

    def embedded(self) -> int:
        return worker.embedded(self.tally)

    async def examine(self) -> list[Finding]:
        """What is wrong when all is at rest: looked at again while it may only be late."""
        broker = await open_broker(self.direct.settings)
        store = await open_store(self.direct.settings)
        give_up_at = monotonic() + HANG_SECONDS
        try:
            await self._at_rest(broker, give_up_at)
            with self.redis.client() as client:
                return await oracle.examine(
                    self.inputs,
                    database=self.guest.database,
                    store=store,
                    broker=broker,
                    redis_client=client,
                )
        finally:
            await store.close()
            await broker.close()

    async def _at_rest(self, broker: Broker, give_up_at: float) -> None:
        while monotonic() < give_up_at:
            depths = [await broker.depth(stage) for stage in Stage]
            waiting = sum(depth.ready + depth.leased + depth.delayed for depth in depths)
            if not waiting and not await self.guest.jobs.of_all_tenants().cleanups_left():
                return
            await asyncio.sleep(LOOK_AGAIN_SECONDS)


def _stored(conn: Connection) -> int:
    return int(conn.execute(select(func.coalesce(func.sum(tables.jobs.c.chunks_stored), 0))).scalar_one())


def _unfinished(conn: Connection) -> int:
    query = select(func.count()).select_from(tables.jobs).where(tables.jobs.c.finished_at.is_(None))
    return int(conn.execute(query).scalar_one())


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a scene is set. `pools`: settings of every pool. `own_models`: the fleet's workers are those of
    `chaos.worker`, whose model takes `seconds_a_chunk`."""

    redis_arguments: Sequence[str] = ()
    proxied: bool = False
    seconds_a_chunk: float | None = None
    traps: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    batch_chunks: int = 8
    pools: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@asynccontextmanager
async def scene(context: Context, plan: Plan) -> AsyncIterator[Scene]:
    """Servers up, no orchestrator yet; all is gone afterwards."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=context.folder)))
        [port] = free_ports(1) if plan.proxied else [0]
        redis = stack.enter_context(RedisServer(*plan.redis_arguments, port=port))
        postgres = stack.enter_context(PostgresServer())
        database_url = stack.enter_context(PostgresDatabases(postgres).migrated())
        chroma = stack.enter_context(ChromaServer(folder / "chroma"))
        config = _config(folder, plan, redis.url, database_url, chroma.url)
        tally, trap = folder / "tally", folder / "trap"
        environment = {"PYTHONPATH": import_path(ROOT), **plan.environment}
        if plan.seconds_a_chunk is not None:
            environment |= {worker.SECONDS_A_CHUNK: str(plan.seconds_a_chunk), worker.TALLY: str(tally)}
        if plan.traps:
            environment |= {boundaries.TRAP: str(trap)}
        direct = Fleet(folder, config)
        network = None
        if plan.proxied:
            network = _network(stack, port, postgres, chroma)
            config = config | _through(network, database_url)
        fleet = Fleet(folder, config, module="chaos.command", environment=environment)
        guest = await stack.enter_async_context(open_guest(direct.settings))
        inputs = InputLedger(folder / "inputs.jsonl")
        yield Scene(redis, postgres, chroma, fleet, guest, inputs, direct, tally, trap, network)


def _network(
    stack: AsyncExitStack, redis_port: int, postgres: PostgresServer, chroma: ChromaServer
) -> Network:
    backends = (
        ("127.0.0.1", redis_port),
        postgres.directory / ".s.PGSQL.5432",
        ("127.0.0.1", chroma.port),
    )
    return Network(*[stack.enter_context(TcpProxy(backend)) for backend in backends])


def _through(network: Network, database_url: str) -> dict[str, Any]:
    name = database_url.partition("@/")[2].partition("?")[0]
    return {
        "redis": {"url": f"redis://127.0.0.1:{network.redis.port}"},
        "database": {"url": f"postgresql://postgres@127.0.0.1:{network.postgresql.port}/{name}"},
        "vector_store": {"url": f"http://127.0.0.1:{network.chroma.port}", "store_documents": False},
    }


def _config(folder: Path, plan: Plan, redis_url: str, database_url: str, chroma_url: str) -> dict[str, Any]:
    pool = {"lease_seconds": LEASE_SECONDS, **plan.pools}
    return {
        "data_dir": str(folder / "unused"),
        "redis": {"url": redis_url},
        "database": {"url": database_url},
        "vector_store": {"url": chroma_url, "store_documents": False},
        "models": {"default": MODEL},
        "chunking": {"batch_chunks": plan.batch_chunks},
        "worker_pools": {stage.value: pool for stage in Stage},
        "orchestrator": {
            "heartbeat_seconds": 0.5,
            "leader_lease_seconds": 2,
            "restart_backoff_seconds": 0.1,
            "restart_backoff_max_seconds": 0.2,
        },
        **plan.settings,
    }


def counted(findings: Sequence[Finding]) -> str:
    """`0 lost, 0 doubled`, and whatever else there is."""
    kinds = [finding.kind for finding in findings]
    doubled = kinds.count(Kind.DOUBLED) + kinds.count(Kind.SURPLUS)
    lost = kinds.count(Kind.LOST) + kinds.count(Kind.UNFINISHED)
    others = len(kinds) - doubled - lost
    return f"{lost} lost, {doubled} doubled" + (f", {others} otherwise wrong" if others else "")


def pids(processes: Sequence[Any]) -> set[int]:
    return {process.pid for process in processes}


def kill(pid: int, how: int) -> None:
    """Send the signal; a process that has just gone is as good."""
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        return
