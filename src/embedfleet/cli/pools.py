"""`embedfleet pools` and `embedfleet scale`: the worker pools of every host, and their sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.options import AsJson
from embedfleet.cli.output import print_json, readable_time, say
from embedfleet.cli.place import Place, somewhere
from embedfleet.cli.systems.opening import with_system

if TYPE_CHECKING:
    from embedfleet.cli.systems.port import System
    from embedfleet.records.fleet import PoolReport
    from embedfleet.tracking.worker_pools import OrchestratorInfo, OrchestratorsSeen

Host = Annotated[
    str | None, typer.Option("--host", help="Only this host's, or one orchestrator's by its id.")
]


@somewhere
def pools(place: Place, as_json: AsJson = False) -> None:
    """Show the worker pools of every orchestrator that runs, and which were lost within the last hour."""

    async def look(system: System) -> OrchestratorsSeen:
        return await system.orchestrators()

    found = with_system(place, look)
    if as_json:
        print_json(found.json_document())
        return
    if not found.orchestrators:
        say("no orchestrator is running: start one with `embedfleet serve-workers`")
    for one in found.orchestrators:
        say(f"{one.host}  pid {one.pid}  {one.orchestrator_id}")
        for stage, pool in one.pools.items():
            say(f"  {stage:<10} {_described(pool)}")
    for one in found.lost:
        last = readable_time(one.seen_at)
        say(f"{one.host}  pid {one.pid}  {one.orchestrator_id}  lost: killed or frozen, last seen {last}")


@somewhere
def scale(
    place: Place,
    pool: Annotated[str, typer.Argument(help="chunking, embedding, storage or deletion.")],
    workers: Annotated[int, typer.Argument(min=0, help="How many workers from now on.")],
    host: Host = None,
    as_json: AsJson = False,
) -> None:
    """Change a pool's size on every running orchestrator, without a restart. Surplus workers drain.

    Auto-scaling, if it is on, continues from this size.
    """

    async def order(system: System) -> list[OrchestratorInfo]:
        return await system.scale(pool, workers, host=host)

    told = with_system(place, order)
    if as_json:
        document = [{"host": one.host, "pid": one.pid, "id": one.orchestrator_id} for one in told]
        print_json({"pool": pool, "workers": workers, "orchestrators": document})
        return
    for one in told:
        say(f"told {one.host} (pid {one.pid}) to have {workers} {pool} workers")


def _described(pool: PoolReport) -> str:
    words = f"{pool.workers} of {pool.target} workers"
    if pool.draining:
        words += f", {pool.draining} draining"
    if pool.waiting:
        words += f", {pool.waiting} waiting for a node"
    if pool.rate:
        words += f", {pool.rate:,.0f} tokens/s each"
    lacks = pool.trouble or pool.waits_for
    return words + (f"; {lacks}" if lacks else "")
