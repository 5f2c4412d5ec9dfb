"""The situations that `chaos.operators` brings about, each on servers of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.signs import LogWatch, Signs, settled
from embedfleet.bootstrap import GuestSystem
from support.chroma_server import ChromaServer
from support.databases import PostgresDatabases
from support.fleet import Fleet, Orchestrator, ended
from support.postgres_server import PostgresServer
from support.redis_server import RedisServer, free_ports

_TENANT = "default"
_DOCUMENTS = 30
# Long enough that a look of the leader (every few seconds) and a heartbeat have passed.
_UNTIL_IT_SHOWS_SECONDS = 12.0


@dataclass(frozen=True, slots=True)
class Limits:
    """`away_seconds`: how long a server is away. `watch_seconds`: how long other situations are watched."""

    folder: Path
    away_seconds: float
    watch_seconds: float


Bring = Callable[[Limits], Coroutine[Any, Any, Signs]]


@dataclass(frozen=True, slots=True)
class Servers:
    """One system's servers, and its first host."""

    redis: RedisServer
    postgres: PostgresServer
    databases: PostgresDatabases
    chroma: ChromaServer
    host: Fleet
    stack: AsyncExitStack

    def other_host(self, name: str, **services: Any) -> Fleet:
        """A host with a data directory of its own, and only these services in its settings."""
        return a_host(self.host.folder.parent / name, **services)

    def other_database(self) -> str:
        return self.stack.enter_context(self.databases.migrated())

    def other_chroma(self) -> ChromaServer:
        return self.stack.enter_context(ChromaServer(self.host.folder.parent / "other-chroma"))

    def other_redis(self) -> RedisServer:
        return self.stack.enter_context(RedisServer())


def a_host(folder: Path, **services: Any) -> Fleet:
    folder.mkdir(parents=True, exist_ok=True)
    data = {"data_dir": str(folder / "data"), "models": {"default": "stub"}}
    sections = {name: {"url": url} for name, url in services.items() if url is not None}
    return Fleet(folder, data | sections)


@asynccontextmanager
async def servers(limits: Limits) -> AsyncIterator[Servers]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=limits.folder)))
        [port] = free_ports(1)
        redis = stack.enter_context(RedisServer("--appendonly", "yes", port=port))
        postgres = stack.enter_context(PostgresServer())
        databases = PostgresDatabases(postgres)
        chroma = stack.enter_context(ChromaServer(folder / "chroma"))
        host = a_host(
            folder / "one",
            redis=f"redis://127.0.0.1:{port}/0",
            database=stack.enter_context(databases.migrated()),
            vector_store=chroma.url,
        )
        yield Servers(redis, postgres, databases, chroma, host, stack)


async def submit(guest: GuestSystem, name: str, documents: int = _DOCUMENTS) -> list[str]:
    text = "A paragraph of this document. " * 40
    return [
        await guest.jobs.create_job(
            media_id=f"{name}-{number}", user_id=_TENANT, content=f"{name} {number}. {text}"
        )
        for number in range(documents)
    ]


async def look(signs: Signs, fleet: Fleet, one: Orchestrator, limits: Limits) -> None:
    """Watch a situation that stands: the log for a time, then what the host and its `doctor` say."""
    log = LogWatch(one)
    await asyncio.sleep(limits.watch_seconds)
    await asyncio.to_thread(signs.ask_readyz, one)
    await asyncio.to_thread(signs.consult_doctor, fleet)
    log.report(signs)


async def vectors_lost(at: Servers, host: Fleet) -> str:
    """How many vectors that SQL records are not in the store of this host."""
    async with host.guest() as guest:
        ledger = await host.ledger(guest)
    lost = len(ledger.recorded - ledger.held)
    return f"{lost} of {len(ledger.recorded)} vectors are not in the store" if lost else "nothing lost"


async def in_order(limits: Limits) -> Signs:
    signs = Signs()
    async with servers(limits) as at, at.host.guest() as guest:
        with at.host.orchestrator() as one:
            job_ids = await submit(guest, "doc")
            await look(signs, at.host, one, limits)
            await ended(guest, job_ids)
            signs.ended("serve-workers", one.stop(), one.log.read_text())
        signs.harm = await vectors_lost(at, at.host)
    return signs


async def half_configured_host(limits: Limits) -> Signs:
    return await _second_host(limits, lambda at: {"database": at.host.config["database"]["url"]})


async def two_systems_on_one_redis(limits: Limits) -> Signs:
    def services(at: Servers) -> Mapping[str, Any]:
        redis = at.host.config["redis"]["url"]
        return {"redis": redis, "database": at.other_database(), "vector_store": at.other_chroma().url}

    return await _second_host(limits, services)


async def _second_host(limits: Limits, services: Callable[[Servers], Mapping[str, Any]]) -> Signs:
    """A second host with these services tries to join while the first one works."""
    signs = Signs()
    async with servers(limits) as at, at.host.guest() as guest:
        second = at.other_host("second", **services(at))
        with at.host.orchestrator():
            await ended(guest, await submit(guest, "before", 3))
            unfinished = await _joins(signs, second, limits, guest)
        signs.harm = unfinished + await vectors_lost(at, at.host)
    return signs


async def two_systems_on_one_chroma(limits: Limits) -> Signs:
    """The second mends its vectors, and so would delete the first one's."""
    signs = Signs()
    async with servers(limits) as at, at.host.guest() as guest:
        second = at.other_host(
            "second",
            redis=f"unix://{at.other_redis().socket}",
            database=at.other_database(),
            vector_store=at.host.config["vector_store"]["url"],
        )
        with at.host.orchestrator():
            await ended(guest, await submit(guest, "before", 3))
            async with second.guest() as of_second:
                await submit(of_second, "own", 3)  # so that both have a collection of the same name
            unfinished = await _joins(signs, second, limits, guest)
            mending = await asyncio.to_thread(second.command, "verify", "--repair")
            signs.ended("verify --repair", mending.returncode, mending.stderr or mending.stdout)
        signs.harm = unfinished + await vectors_lost(at, at.host)
    return signs


async def _joins(signs: Signs, second: Fleet, limits: Limits, guest: GuestSystem) -> str:
    """Start an orchestrator with the second's settings, and work for the first system beside it.

    Return which jobs did not end, as a beginning of what was harmed.
    """
    with second.orchestrator(ready=False) as other:
        code = await asyncio.to_thread(settled, other)
        signs.ended("serve-workers", code, other.log.read_text())
        job_ids = await submit(guest, "beside")
        if code is None:
            await look(signs, second, other, limits)
        else:
            await asyncio.to_thread(signs.consult_doctor, second)
            await asyncio.sleep(limits.watch_seconds)
    return await unfinished_jobs(guest, job_ids)


async def unfinished_jobs(guest: GuestSystem, job_ids: Sequence[str]) -> str:
    """How many of the jobs have not ended by now, as a beginning of what was harmed; empty if all have."""
    jobs = await guest.jobs.of_all_tenants().statuses(job_ids)
    left = sum(not info.status.terminal for info in jobs)
    return f"{left} of {len(jobs)} jobs not done in time; " if left else ""


async def no_orchestrator(limits: Limits) -> Signs:
    signs = Signs()
    async with servers(limits) as at, at.host.guest() as guest:
        await submit(guest, "waiting", 8)
        await asyncio.to_thread(signs.consult_doctor, at.host)
        with at.host.orchestrator():
            await ended(guest, await submit(guest, "waiting", 8))
        signs.harm = await vectors_lost(at, at.host)
    return signs


async def redis_out_of_memory(limits: Limits) -> Signs:
    signs = Signs()
    async with servers(limits) as at, at.host.guest() as guest:
        with at.host.orchestrator() as one, at.redis.client() as client:
            await ended(guest, await submit(guest, "before", 3))
            client.config_set("maxmemory", "1")
            job_ids = await submit(guest, "during")
            await asyncio.sleep(_UNTIL_IT_SHOWS_SECONDS)
            await look(signs, at.host, one, limits)
            unfinished = await unfinished_jobs(guest, job_ids)
            client.config_set("maxmemory", "0")
            await ended(guest, job_ids)
            signs.ended("serve-workers", one.stop(), one.log.read_text())
        signs.harm = unfinished + await vectors_lost(at, at.host)
    return signs


def away(service: str) -> Bring:
    """The situation in which one server is stopped for a time while there is work."""

    async def bring(limits: Limits) -> Signs:
        signs = Signs()
        async with servers(limits) as at, at.host.guest() as guest:
            with at.host.orchestrator() as one:
                job_ids = await submit(guest, "before")
                log = LogWatch(one)
                with _down(at, service):
                    await asyncio.sleep(0.8 * limits.away_seconds)
                    await asyncio.to_thread(signs.ask_readyz, one)
                    await asyncio.to_thread(signs.consult_doctor, at.host)
                    await asyncio.sleep(0.2 * limits.away_seconds)
                await ended(guest, job_ids)
                log.report(signs)
                signs.ended("serve-workers", one.stop(), one.log.read_text())
            signs.harm = await vectors_lost(at, at.host)
        return signs

    return bring


@contextmanager
def _down(at: Servers, service: str) -> Iterator[None]:
    stop, start = {
        "redis": (at.redis.kill, at.redis.start),
        "postgresql": (at.postgres.stop, at.postgres.start),
        "chroma": (at.chroma.kill, at.chroma.start),
    }[service]
    stop()
    try:
        yield
    finally:
        start()


async def unmounted_root(limits: Limits) -> Signs:
    """Embedded: the folder of the last ingest is empty now, as a share that is not mounted."""
    signs = Signs()
    with tempfile.TemporaryDirectory(dir=limits.folder) as folder:
        host, root = a_host(Path(folder)), Path(folder) / "share"
        root.mkdir()
        for number in range(20):
            (root / f"{number}.txt").write_text(f"Document {number} of the share.")
        first = await asyncio.to_thread(host.command, "ingest", str(root))
        if first.returncode:
            raise RuntimeError(f"the first ingest failed: {first.stderr}")
        shutil.rmtree(root)
        root.mkdir()
        again = await asyncio.to_thread(host.command, "ingest", "--prune", str(root))
        signs.ended("ingest --prune", again.returncode, again.stderr or again.stdout)
        listing = await asyncio.to_thread(host.command, "documents", "list", "--json")
        left = len(json.loads(listing.stdout)["documents"])
        signs.harm = "nothing lost" if left == 20 else f"{20 - left} of 20 documents deleted"
        await asyncio.to_thread(signs.consult_doctor, host)
    return signs


async def broken_store(limits: Limits) -> Signs:
    """Embedded: the vector store's file is random bytes."""
    signs = Signs()
    with tempfile.TemporaryDirectory(dir=limits.folder) as folder:
        host, file = a_host(Path(folder)), Path(folder) / "note.txt"
        file.write_text("A note about something.")
        await asyncio.to_thread(host.command, "ingest", str(file))
        [store] = (Path(folder) / "data").rglob("chroma.sqlite3")
        store.write_bytes(os.urandom(store.stat().st_size))
        await asyncio.to_thread(signs.consult_doctor, host)
        with host.orchestrator(ready=False) as one:
            code = await asyncio.to_thread(settled, one)
            signs.ended("serve-workers", code, one.log.read_text())
            if code is None:
                await look(signs, host, one, limits)
        rebuilt = await asyncio.to_thread(host.command, "rebuild", "--yes")
        signs.harm = "nothing lost: `rebuild` mends it" if rebuilt.returncode == 0 else "`rebuild` fails"
    return signs


SITUATIONS: dict[str, tuple[str, Bring]] = {
    "in-order": ("all in order", in_order),
    "half-configured": ("a host with only `database.url` joins a fleet", half_configured_host),
    "one-redis": ("two systems on one Redis prefix", two_systems_on_one_redis),
    "one-chroma": ("two systems on one Chroma server", two_systems_on_one_chroma),
    "unmounted-root": ("`ingest --prune` of a root that is not mounted", unmounted_root),
    "broken-store": ("the store's file is random bytes", broken_store),
    "no-orchestrator": ("jobs wait, no orchestrator runs", no_orchestrator),
    "redis-full": ("Redis is out of memory (`noeviction`)", redis_out_of_memory),
    "redis-away": ("Redis is away", away("redis")),
    "postgresql-away": ("PostgreSQL is away", away("postgresql")),
    "chroma-away": ("Chroma is away", away("chroma")),
}
