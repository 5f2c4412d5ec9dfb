"""The checks that `embedfleet doctor` makes, in their order."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from embedfleet.cli.examination import WORK_SECONDS, Check, Doubt
from embedfleet.cli.output import explain
from embedfleet.wording import number_of

if TYPE_CHECKING:
    from embedfleet.records.collections import Collection
    from embedfleet.records.fleet import RunningOrchestrator
    from embedfleet.settings import Settings

_MIN_FREE_BYTES = 1 << 30
# A unit of a worker writes the store and then SQL, within a second.
_LOOKS = 3
_MOST_SHOWN = 5
# A view follows within a second or so, and is filled with some hundred documents a second.
_LATE_SECONDS = 60.0
# Ray takes seconds to join, and tries for more than a minute if its head does not answer.
_RAY_SECONDS = 90.0


def checks_of(settings: Settings) -> Iterator[Check]:
    """Yield the checks that these settings call for. A new check is a function below and a line here."""
    yield Check("settings", _settings)
    if settings.redis.url is None or settings.vector_store.in_data_directory:
        yield Check("data", _data)
        yield Check("owner", _owner, needs=["data"])
    if settings.redis.url is not None:
        yield Check("queues", _queues, needs=["settings"], place=_place_of_queues)
    yield Check("database", _database, needs=["settings"], place=_place_of_database)
    yield Check("workers", _workers, needs=["database"], place=_place_of_database)
    if settings.orchestrator.launcher == "ray":
        yield Check("ray", _ray, needs=["settings"], limit_seconds=_RAY_SECONDS, place=_place_of_ray)
    # Before the vectors: a store that is not this system's should not be advised to be built again.
    yield Check("system", _system, needs=["database", "queues"], place=_place_of_database)
    yield Check("vectors", _vectors, needs=["settings", "database"], place=_place_of_vectors)
    if settings.vector_store.views:
        yield Check("views", _views, needs=["database"], place=_place_of_database)
    yield Check("switches", _switches, needs=["database"], place=_place_of_database)
    yield Check("parser", _parser, limit_seconds=WORK_SECONDS)
    yield Check("models", _models)
    yield Check("model", _model, needs=["models"], limit_seconds=WORK_SECONDS)


def _place_of_queues(settings: Settings) -> str:
    from embedfleet.bootstrap import places

    return places(settings)["queues"]


def _place_of_ray(settings: Settings) -> str:
    from embedfleet.launchers.ray.driver_link import place_of

    return f"Ray at {place_of(settings.ray)}"


def _ray(settings: Settings) -> str:
    """Join the cluster as an orchestrator does, and compare what the pools ask for with what nodes have."""
    from embedfleet.bootstrap import ray_nodes
    from embedfleet.errors import PlacementUnavailable
    from embedfleet.host.host_pools import initial_sizes
    from embedfleet.launchers.ray.placement import fits, why_waiting

    nodes = asyncio.run(ray_nodes(settings))
    # A pool that begins with no worker needs no node now: an autoscaler may rest without one.
    for name in (name for name, workers in initial_sizes(settings).items() if workers):
        asked = settings.worker_pools.of(name).resources
        if not any(fits(node, asked.request, asked.labels) for node in nodes):
            raise PlacementUnavailable(why_waiting(name, asked.request, asked.labels, nodes))
    cores = sum(node.amounts.get("CPU", 0.0) for node in nodes)
    gpus = sum(node.amounts.get("GPU", 0.0) for node in nodes)
    return (
        f"{_place_of_ray(settings)}: {len(nodes)} nodes, {cores:g} CPUs, {gpus:g} GPUs; every pool that "
        "begins with workers has a node that can take them"
    )


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
            for stage in Stage:
                await broker.check_writes(stage)
        finally:
            await broker.close()
        return f"{places(settings)['queues']} answers and takes writes; waiting: " + ", ".join(
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


def _named(orchestrators: Sequence[RunningOrchestrator]) -> str:
    return ", ".join(f"{one.host} (pid {one.pid})" for one in orchestrators)


def _workers(settings: Settings) -> str | Doubt:
    from embedfleet.bootstrap import open_guest
    from embedfleet.clock import SystemClock
    from embedfleet.deployment import deployment_of
    from embedfleet.errors import Transient
    from embedfleet.records import fleet, job_counts

    now = SystemClock().now()

    async def look() -> tuple[list[RunningOrchestrator], list[RunningOrchestrator], float | None]:
        async with open_guest(settings) as guest:
            return await guest.database.read(
                lambda conn: (*fleet.running_and_lost(conn, now), job_counts.unfinished(conn).oldest)
            )

    found, lost, oldest = asyncio.run(look())
    troubles = [
        f"{one.host} {stage}: {pool.trouble}"
        for one in found
        for stage, pool in one.pools.items()
        if pool.trouble
    ]
    if troubles:
        raise Transient("; ".join(troubles))
    waits = "" if oldest is None else f"; the oldest unfinished job waits {_ago(now - oldest)}"
    if lost:
        waits += f"; killed or frozen within the last hour: {_named(lost)}"
    if found:
        words = f"orchestrators on {_named(found)}{waits}"
        return Doubt(words) if lost else words
    idle = f"no orchestrator is running: jobs wait for one (`embedfleet serve-workers`){waits}"
    if oldest is None:
        return idle
    # Embedded, the next command that ingests works off what waits. In a fleet, only an orchestrator does.
    if deployment_of(settings).shared_broker:
        raise Transient(idle)
    return Doubt(idle)


def _ago(seconds: float) -> str:
    """A length of time for a person, in its largest unit."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} seconds"


def _vectors(settings: Settings) -> str | Doubt:
    """Open the store, and compare its number of rows with SQL's. An owner has its own store open already."""
    from embedfleet.bootstrap import places
    from embedfleet.data_directory import ReadersShare, owner_of
    from embedfleet.errors import Remedy, VectorStoreUnavailable
    from embedfleet.vectors.registry import store_kind

    settings = asyncio.run(_where_vectors_are(settings))
    place = places(settings)["vectors"]
    own = store_kind(settings.vector_store.kind).own_directory(settings)
    if own is None:
        return asyncio.run(_compared(settings, place))
    owner = owner_of(settings.data_dir)
    if owner is not None:
        return f"{place}: not opened, as process {owner.pid} has it open"
    if not own.exists():
        stored = sum(asyncio.run(_stored_rows(settings)).values())
        if stored:
            raise VectorStoreUnavailable(
                f"{place} is not there, and SQL knows {stored} stored vectors", remedy=Remedy.REBUILD_VECTORS
            )
        return f"{place}: nothing is stored yet"
    with ReadersShare(settings.data_dir):
        return asyncio.run(_compared(settings, place))


async def _where_vectors_are(settings: Settings) -> Settings:
    """Return these settings with the vector store that the system has now, as its vectors may have moved."""
    from embedfleet.bootstrap import open_guest
    from embedfleet.store_moving.places import settings_of_system

    async with open_guest(settings) as guest:
        return await settings_of_system(settings, guest.database)


async def _stored_rows(settings: Settings) -> Mapping[Collection, int]:
    """The number of vectors that SQL knows as stored, by collection."""
    from embedfleet.bootstrap import open_guest
    from embedfleet.records import collections

    async with open_guest(settings) as guest:
        return await guest.database.read(collections.stored_rows)


async def _compared(settings: Settings, place: str) -> str | Doubt:
    """Compare up to `_LOOKS` times, as workers that write change the two numbers one after the other."""
    from embedfleet.bootstrap import open_store
    from embedfleet.errors import VectorStoreUnavailable

    store = await open_store(settings)
    try:
        for look in range(_LOOKS):
            await asyncio.sleep(look)
            stored = await _stored_rows(settings)
            held = {one: await store.count(one) for one in stored}
            short = [one for one in stored if held[one] < stored[one]]
            if not short:
                break
    finally:
        await store.close()
    if short:
        raise VectorStoreUnavailable(
            f"{place} lacks rows (`embedfleet verify --repair`): {_numbers(short, held, stored)}"
        )
    more = [one for one in stored if held[one] > stored[one]]
    if more:
        return Doubt(
            f"{place} holds rows that SQL does not know, as while workers write or delete; if it stays "
            f"so, run `embedfleet verify`: {_numbers(more, held, stored)}"
        )
    return f"{place} opens and holds what SQL knows: {sum(held.values())} rows"


def _numbers(
    chosen: Sequence[Collection], held: Mapping[Collection, int], stored: Mapping[Collection, int]
) -> str:
    shown = [
        f"tenant {one.tenant}, {one.model}: {held[one]} of {stored[one]}" for one in chosen[:_MOST_SHOWN]
    ]
    return "; ".join(
        [*shown, *([f"and {len(chosen) - _MOST_SHOWN} more"] if len(chosen) > _MOST_SHOWN else [])]
    )


def _system(settings: Settings) -> str:
    """Check that the queues and the vector store are those of the database's system."""
    from contextlib import AsyncExitStack

    from embedfleet.bootstrap import open_broker, open_guest
    from embedfleet.clock import SystemClock
    from embedfleet.joining import Purpose, join, queues_part, vectors_part
    from embedfleet.records import systems
    from embedfleet.store_moving.places import settings_of_system
    from embedfleet.vectors.registry import store_kind

    async def look() -> str:
        async with AsyncExitStack() as stack:
            guest = await stack.enter_async_context(open_guest(settings))
            broker = await open_broker(settings)
            stack.push_async_callback(broker.close)
            # For queries: an embedded store is not opened, as its owner may have it open.
            there = await settings_of_system(settings, guest.database)
            store = await store_kind(there.vector_store.kind).open_for_queries(there)
            stack.push_async_callback(store.close)
            for part in (queues_part(settings, broker), vectors_part(there, store)):
                if part is not None:
                    await join(guest.database, part, SystemClock(), Purpose.READ)
            system = await guest.database.read(systems.recorded)
        if system is None:
            return "new: the first orchestrator records the queues and vectors it starts with"
        return f"{system.system_id}: these settings name its own queues and vectors"

    return asyncio.run(look())


def _views(settings: Settings) -> str | Doubt:
    """Tell how far each view is behind. It opens no view: the reader may have it open."""
    from embedfleet.bootstrap import open_guest
    from embedfleet.clock import SystemClock
    from embedfleet.records import views
    from embedfleet.views.view import open_views

    open_views(settings)  # raises ConfigError for a wrong setting

    async def look() -> Mapping[str, views.Lag]:
        async with open_guest(settings) as guest:
            return await guest.database.read(views.lags)

    lags = asyncio.run(look())
    now = SystemClock().now()
    told, late = [], False
    for name in sorted(view.name for view in settings.vector_store.views):
        lag = lags.get(name)
        if lag is None:
            told.append(f"{name} is new and not filled yet")
            continue
        waits = 0.0 if lag.oldest is None else now - lag.oldest
        late = late or waits > _LATE_SECONDS
        behind = "in step" if not lag.documents else f"{lag.documents} documents wait, one for {_ago(waits)}"
        told.append(f"{name}: {behind}")
    found = "; ".join(told)
    return Doubt(f"{found}: see the log of the orchestrator for the reason") if late else found


def _switches(settings: Settings) -> str | Doubt:
    """Tell which tenants are being switched to another model, and which of these switches do not go on."""
    from embedfleet.bootstrap import open_guest
    from embedfleet.records import model_switches
    from embedfleet.records.model_switches import ModelSwitch
    from embedfleet.sql.states import SwitchPhase

    async def look() -> list[ModelSwitch]:
        async with open_guest(settings) as guest:
            return await guest.database.read(model_switches.running)

    running = asyncio.run(look())
    if not running:
        return "no tenant is switched to another model"
    refused = [one for one in running if one.phase is SwitchPhase.REFUSED]
    waiting = [one for one in running if one.findings.get("waits_for")]
    shown = (refused or waiting or running)[:_MOST_SHOWN]
    told = ", ".join(f"{one.tenant} to {one.to_collection.model} ({one.phase})" for one in shown)
    found = f"{number_of(len(running), 'switch', 'switches')} to another model: {told}"
    if refused:
        return Doubt(
            f"{found}: `embedfleet models switches` says why the gate refuses {len(refused)} of them"
        )
    if waiting:
        return Doubt(f"{found}: the first of them waits: {waiting[0].findings['waits_for']}")
    return found


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
