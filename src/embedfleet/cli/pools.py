"""`embedfleet pools` and `embedfleet scale`: the worker pools of every host, and their sizes."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedfleet.cli.options import AsJson, ConfigFile, DataDir, settings_from
from embedfleet.cli.output import print_json, readable_time, say
from embedfleet.clock import utc

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from embedfleet.records.fleet import PoolReport, RunningOrchestrator
    from embedfleet.settings import Settings
    from embedfleet.sql.database import Database

Host = Annotated[
    str | None, typer.Option("--host", help="Only this host's, or one orchestrator's by its id.")
]


def pools(as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Show the worker pools of every orchestrator that runs, and which were lost within the last hour."""
    found, lost = asyncio.run(_look(settings_from(data_dir, config)))
    if as_json:
        print_json(
            {"orchestrators": [_document(one) for one in found], "lost": [_document(one) for one in lost]}
        )
        return
    if not found:
        say("no orchestrator is running: start one with `embedfleet serve-workers`")
    for one in found:
        say(f"{one.host}  pid {one.pid}  {one.orchestrator_id}")
        for stage, pool in one.pools.items():
            say(f"  {stage:<10} {_described(pool)}")
    for one in lost:
        last = readable_time(utc(one.seen_at))
        say(f"{one.host}  pid {one.pid}  {one.orchestrator_id}  lost: killed or frozen, last seen {last}")


def scale(
    pool: Annotated[str, typer.Argument(help="chunking, embedding, storage or deletion.")],
    workers: Annotated[int, typer.Argument(min=0, help="How many workers from now on.")],
    host: Host = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Change a pool's size on every running orchestrator, without a restart. Surplus workers drain.

    Auto-scaling, if it is on, continues from this size.
    """
    from embedfleet.settings import with_pool_sizes

    settings = settings_from(data_dir, config)
    with_pool_sizes(settings, {pool: workers})  # raises for an unknown pool
    told = asyncio.run(_order(settings, pool, workers, host))
    if as_json:
        document = [{"host": one.host, "pid": one.pid, "id": one.orchestrator_id} for one in told]
        print_json({"pool": pool, "workers": workers, "orchestrators": document})
        return
    for one in told:
        say(f"told {one.host} (pid {one.pid}) to have {workers} {pool} workers")


def _document(one: RunningOrchestrator) -> dict[str, Any]:
    times = {name: utc(getattr(one, name)).isoformat() for name in ("started_at", "seen_at")}
    return asdict(one) | times | {"pools": {stage: pool.model_dump() for stage, pool in one.pools.items()}}


async def running_orchestrators(database: Database) -> list[RunningOrchestrator]:
    """The orchestrators that have announced themselves recently enough to count as running."""
    from embedfleet.clock import SystemClock
    from embedfleet.records import fleet

    now = SystemClock().now()
    return await database.read(lambda conn: fleet.running(conn, now))


async def _look(settings: Settings) -> tuple[list[RunningOrchestrator], list[RunningOrchestrator]]:
    """Those that run, and those that fell silent within the last hour without an end in good order."""
    from embedfleet.bootstrap import open_guest
    from embedfleet.clock import SystemClock
    from embedfleet.records import fleet

    now = SystemClock().now()
    async with open_guest(settings) as guest:
        return await guest.database.read(lambda conn: fleet.running_and_lost(conn, now))


async def _order(settings: Settings, pool: str, workers: int, host: str | None) -> list[RunningOrchestrator]:
    from embedfleet.bootstrap import open_guest
    from embedfleet.errors import InvalidRequest
    from embedfleet.records import fleet

    async with open_guest(settings) as guest:
        found = await running_orchestrators(guest.database)
        chosen = [one for one in found if host is None or host in (one.host, one.orchestrator_id)]
        if not chosen:
            seen = ", ".join(sorted({one.host for one in found})) or "none"
            raise InvalidRequest(f"no running orchestrator to tell (running on: {seen})")

        def give_orders(conn: Connection) -> None:
            for one in chosen:
                fleet.order_workers(conn, one.orchestrator_id, pool, workers)

        await guest.database.write(give_orders)
        return chosen


def _described(pool: PoolReport) -> str:
    words = f"{pool.workers} of {pool.target} workers"
    if pool.draining:
        words += f", {pool.draining} draining"
    if pool.rate:
        words += f", {pool.rate:,.0f} tokens/s each"
    return words + (f"; {pool.trouble}" if pool.trouble else "")
