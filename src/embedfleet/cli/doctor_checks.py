"""The checks that `embedfleet doctor` makes, in their order."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from embedfleet.cli.examination import WORK_SECONDS, Check
from embedfleet.cli.output import explain

if TYPE_CHECKING:
    from embedfleet.records.fleet import RunningOrchestrator
    from embedfleet.settings import Settings

_MIN_FREE_BYTES = 1 << 30


def checks_of(settings: Settings) -> Iterator[Check]:
    """Yield the checks that these settings call for. A new check is a function below and a line here."""
    yield Check("settings", _settings)
    if settings.redis.url is None or settings.vector_store.url is None:
        yield Check("data", _data)
        yield Check("owner", _owner, needs=["data"])
    if settings.redis.url is not None:
        yield Check("queues", _queues, needs=["settings"], place=_place_of_queues)
    yield Check("database", _database, needs=["settings"], place=_place_of_database)
    yield Check("workers", _workers, needs=["database"], place=_place_of_database)
    if settings.vector_store.url is not None:
        yield Check("vectors", _vectors, needs=["settings"], place=_place_of_vectors)
    yield Check("system", _system, needs=["database", "queues", "vectors"], place=_place_of_database)
    yield Check("parser", _parser, limit_seconds=WORK_SECONDS)
    yield Check("models", _models)
    yield Check("model", _model, needs=["models"], limit_seconds=WORK_SECONDS)


def _place_of_queues(settings: Settings) -> str:
    from embedfleet.bootstrap import places

    return places(settings)["queues"]


def _place_of_database(settings: Settings) -> str:
    from embedfleet.sql.opening import open_database

    return open_database(settings).location


def _place_of_vectors(settings: Settings) -> str:
    from embedfleet.bootstrap import places

    return places(settings)["vectors"]


def _settings(settings: Settings) -> str:
    from embedfleet.deployment import deployment_of

    if deployment_of(settings).shared_broker:
        return "a fleet: queues in Redis, workers on any number of hosts"
    return "embedded: queues and workers in one process"


def _data(settings: Settings) -> str:
    from embedfleet.data_directory import create_data_dir
    from embedfleet.errors import StorageFull

    create_data_dir(settings.data_dir)
    free = shutil.disk_usage(settings.data_dir).free
    if free < _MIN_FREE_BYTES:
        raise StorageFull(f"{settings.data_dir}: only {free / 1e6:.0f} MB free: make room before ingesting")
    return f"{settings.data_dir}, {free / 1e9:.1f} GB free"


def _owner(settings: Settings) -> str:
    from embedfleet.data_directory import owner_of

    owner = owner_of(settings.data_dir)
    if owner is None:
        return "no process: a command that needs workers starts its own"
    return f"process {owner.pid} on {owner.host} ({owner.purpose}) since {owner.since:%Y-%m-%d %H:%M:%S} UTC"


def _queues(settings: Settings) -> str:
    from embedfleet.bootstrap import open_broker, places
    from embedfleet.queue_schemas import Stage

    async def look() -> str:
        broker = await open_broker(settings)
        try:
            ready = {stage: (await broker.depth(stage)).ready for stage in Stage}
        finally:
            await broker.close()
        return f"{places(settings)['queues']} answers; waiting: " + ", ".join(
            f"{n} {stage}" for stage, n in ready.items()
        )

    return asyncio.run(look())


def _database(settings: Settings) -> str:
    from embedfleet.bootstrap import open_guest
    from embedfleet.queue_schemas import JobStatus

    async def look() -> str:
        async with open_guest(settings) as guest:
            jobs = await guest.jobs.of_all_tenants().count_jobs()
            unfinished = sum(number for status, number in jobs.items() if not status.terminal)
            failed = jobs.get(JobStatus.FAILED, 0)
            return (
                f"{guest.database.location}: {sum(jobs.values())} jobs, {unfinished} unfinished, "
                f"{failed} failed"
            )

    return asyncio.run(look())


def _workers(settings: Settings) -> str:
    from embedfleet.bootstrap import open_guest
    from embedfleet.cli.pools import running_orchestrators
    from embedfleet.errors import Transient

    async def look() -> list[RunningOrchestrator]:
        async with open_guest(settings) as guest:
            return await running_orchestrators(guest.database)

    found = asyncio.run(look())
    troubles = [
        f"{one.host} {stage}: {pool.trouble}"
        for one in found
        for stage, pool in one.pools.items()
        if pool.trouble
    ]
    if troubles:
        raise Transient("; ".join(troubles))
    if not found:
        return "no orchestrator is running: jobs wait for one (`embedfleet serve-workers`)"
    return "orchestrators on " + ", ".join(f"{one.host} (pid {one.pid})" for one in found)


def _vectors(settings: Settings) -> str:
    from embedfleet.bootstrap import open_store, places

    async def look() -> str:
        store = await open_store(settings)
        await store.close()
        return f"{places(settings)['vectors']} answers"

    return asyncio.run(look())


def _system(settings: Settings) -> str:
    """Check that the queues and the vector store are those of the database's system."""
    from contextlib import AsyncExitStack

    from embedfleet.bootstrap import open_broker, open_guest
    from embedfleet.clock import SystemClock
    from embedfleet.joining import Purpose, join, queues_part, vectors_part
    from embedfleet.records import systems
    from embedfleet.vectors.registry import store_kind

    async def look() -> str:
        async with AsyncExitStack() as stack:
            guest = await stack.enter_async_context(open_guest(settings))
            broker = await open_broker(settings)
            stack.push_async_callback(broker.close)
            # For queries: an embedded store is not opened, as its owner may have it open.
            store = await store_kind(settings.vector_store.kind).open_for_queries(settings)
            stack.push_async_callback(store.close)
            for part in (queues_part(settings, broker), vectors_part(settings, store)):
                if part is not None:
                    await join(guest.database, part, SystemClock(), Purpose.READ)
            system = await guest.database.read(systems.recorded)
        if system is None:
            return "new: the first orchestrator records the queues and vectors it starts with"
        return f"{system.system_id}: these settings name its own queues and vectors"

    return asyncio.run(look())


def _parser(settings: Settings) -> str:
    from embedfleet.parsing.sandbox import ParserSandbox

    async def parse() -> str:
        async with ParserSandbox(settings.parsing) as parser:
            parsed = await parser.parse_bytes(b"# Title\n\nA paragraph.\n", name="probe.md")
            return f"works in a child process of {settings.parsing.memory_mb} MB ({parsed.content_type})"

    return asyncio.run(parse())


def _models(settings: Settings) -> str:
    """Check the files of all configured models. Only the next check loads a model."""
    from embedfleet.cli.models_loading import configured_models
    from embedfleet.errors import EmbedfleetError, ModelError
    from embedfleet.inference.catalogue import Catalogue

    catalogue = Catalogue(settings.models)
    names = configured_models(settings)
    troubles = []
    for name in names:
        try:
            catalogue.info(name)
        except EmbedfleetError as exc:
            troubles.append(explain(exc))
    if troubles:
        raise ModelError("; ".join(troubles))
    return f"{', '.join(names)}: their files are here"


def _model(settings: Settings) -> str:
    import numpy as np

    from embedfleet.inference.backend import TokenBatch
    from embedfleet.inference.catalogue import Catalogue

    catalogue = Catalogue(settings.models)
    backend = catalogue.open(settings.models.default)
    try:
        probe = TokenBatch(np.array([2000], dtype=np.uint32), np.array([1], dtype=np.int64), ("probe",))
        dim = backend.embed_tokens(probe).shape[1]
    finally:
        backend.close()
    return f"{settings.models.default} loads and embeds ({dim} dimensions)"
