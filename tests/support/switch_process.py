"""A process that owns a system, is switched to another model, and kills itself at a named point.

While it lives it searches and submits. It ends with `WRONG` after a wrong answer, and with 0 at the end of
its switch. Run: `python -m support.switch_process FOLDER STORY [POINT]`.

In the story `ordered` somebody else gives the orders, and the switch goes forward. In `refused` the new model
is broken, and the process orders the way there and back itself: it has the gate check again, forces it, has
the new space answer a part of the queries, rolls back and retires the new space. In `route` the tenant has
documents of three models: the process has its route compared with one of them, which it then promotes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import time
from typing import Any

from sqlalchemy import Connection, select

from embedfleet.bootstrap import OwnerSystem
from embedfleet.model_switching import coverage, orders, switcher
from embedfleet.model_switching.asking import TenantQuestions
from embedfleet.queue_schemas import JobStatus
from embedfleet.records import model_switches
from embedfleet.records.arms import ROUTE
from embedfleet.records.model_switches import ModelSwitch
from embedfleet.searching.search import SearchRequest
from embedfleet.settings import Settings
from embedfleet.sql import tables
from embedfleet.sql.database import Database
from embedfleet.sql.states import ExperimentPhase, SwitchPhase
from embedfleet.vectors.chroma.embedded import ChromaVectorStore
from support.experiments import administration
from support.experiments import begin as begin_experiment
from support.experiments import ended as ended_experiment
from support.model_switches import MODEL_OF, OLD, THREE, HeldCatalogue, document, switch_of
from support.system import TENANT, Running, make_settings, running, take_ledger

WRONG = 3
SOME = 6

UNITS = ("_begin", "enter checking", "record", "_open", "_settle", "enter ended")
"""Units of work of a switch, in their order. Each is killed `within`, before it commits, and `after`."""

POINTS = (
    *(f"{when} {unit}" for unit in UNITS[:2] for when in ("within", "after")),
    "after reading back",
    "after asking",
    *(f"{when} {unit}" for unit in UNITS[2:5] for when in ("within", "after")),
    "before dropping",
    "after dropping",
    *(f"{when} {UNITS[5]}" for when in ("within", "after")),
)

ORDERED, REFUSED, FROM_ROUTE = "ordered", "refused", "route"

POINTS_THERE_AND_BACK = (
    *(f"{when} record" for when in ("within", "after")),
    "after submitting",
    *(
        f"{when} {order}"
        for order in ("recheck", "force", "serve", "rollback")
        for when in ("within", "after")
    ),
    *(f"{when} {unit}" for unit in ("retire", "_settle") for when in ("within", "after")),
    "before dropping",
    "after dropping",
    *(f"{when} {unit}" for unit in ("_drop_records", "enter ended") for when in ("within", "after")),
)
"""In the order in which the story `refused` passes them. `after submitting`: in the phase `refused`."""


POINTS_FROM_ROUTE = (
    *(
        f"{when} {unit}"
        for unit in ("begin", "_begin", "enter piloting", "enter asking")
        for when in ("within", "after")
    ),
    *(f"{when} {unit}" for unit in ("end_experiment", "promote") for when in ("within", "after")),
    *(f"{when} enter checking" for when in ("within", "after")),
    "after reading back",
    "after asking",
    *(f"{when} {unit}" for unit in ("record", "_open", "retire", "_settle") for when in ("within", "after")),
    "before dropping",
    "after dropping",
    *(f"{when} {unit}" for unit in ("_drop_records", "enter ended") for when in ("within", "after")),
)
"""In the order in which the story `route` passes them."""


def settings_in(folder: Path) -> Settings:
    # With so few documents the right one is always among the first ten, so the gate looks at the first one.
    gate = {"max_latency_ratio": 1e6, "k": 1}
    return make_settings(
        folder,
        models=THREE,
        monitoring={"metrics_port": 0},
        model_switching={"gate": gate},
        experiments={"pilot_questions": 10, "questions_per_step": 60},
    )


def home_of(media_id: str) -> str:
    """The model that a document has by the route."""
    number = int(media_id.removeprefix("doc-"))
    return MODEL_OF[number % 3] if number < SOME else OLD


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def name_of(work: Callable[..., Any]) -> str:
    """The name of the function of a unit; with the phase, if it is one that a switch or experiment enters."""
    if not isinstance(work, partial):
        return getattr(work, "__name__", "")
    phase = work.keywords.get("phase")
    return work.func.__name__ + (f" {phase}" if isinstance(phase, SwitchPhase | ExperimentPhase) else "")


def set_trap(point: str) -> None:
    """Have this process killed where it passes the point."""
    write = Database.write

    async def write_and_die(database: Database, work: Callable[[Connection], Any]) -> Any:
        def do(conn: Connection) -> Any:
            result = work(conn)
            if point == f"within {name_of(work)}":
                die()
            return result

        result = await write(database, do)
        if point == f"after {name_of(work)}":
            die()
        return result

    Database.write = write_and_die  # type: ignore[method-assign, assignment]
    read_coverage, ask, drop = coverage.read_coverage, TenantQuestions.ask, ChromaVectorStore.drop_collection

    async def dying_after(what: Any, name: str, *given: Any) -> Any:
        result = await what(*given)
        if point == name:
            die()
        return result

    async def dying_drop(*given: Any) -> None:
        if point == "before dropping":
            die()
        await dying_after(drop, "after dropping", *given)

    vars(switcher)["read_coverage"] = partial(dying_after, read_coverage, "after reading back")
    TenantQuestions.ask = lambda *given: dying_after(ask, "after asking", *given)  # type: ignore[method-assign]
    ChromaVectorStore.drop_collection = dying_drop  # type: ignore[method-assign, assignment]


def completed(conn: Connection) -> set[str]:
    """The documents of which readers must see a version."""
    query = (
        select(tables.documents.c.media_id)
        .join(tables.jobs, tables.jobs.c.document_id == tables.documents.c.document_id)
        .where(tables.jobs.c.status == JobStatus.COMPLETED, tables.jobs.c.switch_id.is_(None))
    )
    return set(conn.execute(query).scalars())


async def search_on(system: OwnerSystem, story: str) -> None:
    """Search without a pause, and end the process after a wrong answer."""
    while True:
        expected = await system.database.read(completed)
        hits = await system.search.search(TENANT, SearchRequest(query="boats in winter", limit=1000))
        found = {hit.media_id for hit in hits}
        models = {hit.model for hit in hits}
        is_of_route = story == FROM_ROUTE and all(hit.model == home_of(hit.media_id) for hit in hits)
        if not expected <= found or not (is_of_route or len(models) == 1):
            sys.stderr.write(f"lacking {sorted(expected - found)}, models {models}, {hits.notice}\n")
            sys.stderr.flush()
            os._exit(WRONG)


async def submit_on(fleet: Running, story: str) -> None:
    """Submit documents, new ones and changed ones by turns.

    While the tenant has its route, each names its model. It is left by an order of this process that comes
    after the submissions. None comes in while the route is asked twice: an answer that differs for that would
    end the comparison before it has come to the next point.
    """
    if story == FROM_ROUTE:
        await fleet.system.database.until(partial(pilot_is_over, fleet))
    switch = await fleet.system.database.read(partial(model_switches.newest_of, tenant=TENANT))
    has_route = switch is None or switch.writes_both
    for number in range(2):
        new = 100 + os.getpid() * 2 % 800 + number
        for fields in (document(new), document(number, more=f"It is {os.getpid()}.")):
            more = {"model": home_of(fields["media_id"])} if story == FROM_ROUTE and has_route else {}
            await fleet.jobs.wait(await fleet.submit(**fields, **more))


async def pilot_is_over(fleet: Running) -> bool | None:
    """Whether no comparison is before, or among, the first questions, which the route is asked twice."""
    asking = (ExperimentPhase.PREPARING, ExperimentPhase.PILOTING)
    return not any(one.phase in asking for one in await administration(fleet).list_experiments()) or None


async def order_on(fleet: Running, point: str, submitting: asyncio.Task[None]) -> None:
    """Order the way there and back: what comes next is told by the switch alone."""
    database = fleet.system.database

    async def is_up() -> bool | None:
        phase = (await switch_of(database)).phase
        return phase in (SwitchPhase.REFUSED, SwitchPhase.SERVING, SwitchPhase.ENDED) or None

    while True:
        await database.until(is_up)
        await submitting
        switch = await switch_of(database)
        order = next_order(switch, point)
        if order is None:
            return
        if switch.phase is SwitchPhase.REFUSED and point == "after submitting":
            die()
        await database.write(order)


def next_order(switch: ModelSwitch, point: str) -> Callable[[Connection], Any] | None:
    if switch.phase is SwitchPhase.REFUSED and "recheck" in point:
        return partial(orders.recheck, tenant=TENANT, now=time())
    if switch.phase is SwitchPhase.REFUSED:
        return partial(orders.force, tenant=TENANT, now=time(), actor="op")
    if switch.phase is not SwitchPhase.SERVING:
        return None
    if switch.percent >= 100:
        return partial(orders.serve, tenant=TENANT, percent=40.0, now=time())
    if switch.percent > 0:
        return partial(orders.rollback, tenant=TENANT, now=time())
    return partial(orders.retire, tenant=TENANT, now=time())


async def promote_on(fleet: Running, submitting: asyncio.Task[None]) -> None:
    """Have the route compared with a model, promote it, and retire the other spaces.

    What comes next is told by the experiment and the switch alone.
    """
    database, door = fleet.system.database, administration(fleet)
    known = await door.list_experiments()
    if not known:
        await submitting
    begun = known[0] if known else await begin_experiment(fleet, model_a=ROUTE, keep=True)
    await ended_experiment(fleet, begun.experiment_id)
    if (await switch_of(database)).is_trial:
        await door.promote(begun.experiment_id)

    async def is_up() -> bool | None:
        return (await switch_of(database)).phase not in (SwitchPhase.FILLING, SwitchPhase.CHECKING) or None

    await database.until(is_up)
    await submitting
    if (await switch_of(database)).phase is not SwitchPhase.ENDED:
        await database.write(partial(orders.retire, tenant=TENANT, now=time()))


async def live(folder: Path, story: str, point: str) -> None:
    set_trap(point)
    settings = settings_in(folder)
    catalogue = HeldCatalogue(settings.models, spoilt=1.0 if story == REFUSED else 0.0)
    async with running(settings, catalogue=catalogue) as fleet:
        searching = asyncio.create_task(search_on(fleet.system, story))
        submitting = asyncio.create_task(submit_on(fleet, story))
        if story == REFUSED:
            await order_on(fleet, point, submitting)
        elif story == FROM_ROUTE:
            await promote_on(fleet, submitting)

        async def ended() -> bool | None:
            switch = await switch_of(fleet.system.database)
            return switch.phase is SwitchPhase.ENDED or None

        await fleet.system.database.until(ended)
        await submitting
        await fleet.settled()
        searching.cancel()
        (await take_ledger(fleet.system)).assert_exact()


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else ""))
