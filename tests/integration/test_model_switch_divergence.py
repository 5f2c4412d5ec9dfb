"""A document that only one space of a switch to another model has is found, whichever space answers."""

from __future__ import annotations

from functools import partial
from time import time

from sqlalchemy import select

from embedfleet.lifecycle import cleanup
from embedfleet.model_switching import orders
from embedfleet.queue_schemas import JobStatus
from embedfleet.records import identity
from embedfleet.sql import tables
from embedfleet.sql.states import SwitchPhase
from support.databases import on_both_databases
from support.hangs import HANG_SECONDS
from support.model_switches import (
    MODELS,
    NEW,
    OLD,
    HeldCatalogue,
    begin,
    document,
    order,
    search,
    until_phase,
)
from support.statements import Statement, statements
from support.system import TENANT, Configure, Running, running, until

pytestmark = on_both_databases

SOME = 3
QUERY = "old things of the north"


async def look(fleet: Running) -> tuple[set[str], set[str]]:
    """The documents that a search finds, and the models that answered it."""
    hits = await search(fleet, QUERY, limit=100)
    return {hit.media_id for hit in hits}, set(hits.models)


async def unfinished_twin(fleet: Running) -> str:
    twin = select(tables.jobs.c.job_id).where(
        tables.jobs.c.switch_id.is_not(None), tables.jobs.c.finished_at.is_(None)
    )
    return await fleet.system.database.read(lambda conn: conn.execute(twin).scalar_one())


async def submit_without_its_twin(fleet: Running, catalogue: HeldCatalogue, number: int) -> str:
    """Have the document in the new space alone: its twin in the old one is cancelled. Return the twin."""
    catalogue.goes_on.clear()
    try:
        job_id = await fleet.submit(**document(number))
        twin_id = await unfinished_twin(fleet)
        await fleet.jobs.of_all_tenants().cancel(twin_id)
    finally:
        catalogue.goes_on.set()
    info = await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
    assert (info.status, info.model) == (JobStatus.COMPLETED, NEW)
    # Whenever a cleanup comes: it leaves what the twin needs to be tried again.
    document_id = identity.document_id(TENANT, f"doc-{number}")
    clean = partial(cleanup.drop_unneeded_rows, document_id=document_id, requests=0, now=time())
    await fleet.system.database.write(clean)
    return twin_id


def looks_for_others(some: list[Statement]) -> int:
    """How many statements looked whether a space has documents that the other one lacks."""
    counts = [one.sql for one in some if one.sql.startswith("SELECT count(*)")]
    return sum("generations AS there" in sql and "sum(" not in sql for sql in counts)


async def test_a_document_whose_twin_was_given_up_is_found_after_a_rollback(configure: Configure) -> None:
    settings = configure(models=MODELS)
    catalogue = HeldCatalogue(settings.models)
    async with running(settings, catalogue=catalogue) as fleet:
        for number in range(SOME):
            await fleet.ingest(**document(number))
        before = {f"doc-{number}" for number in range(SOME)}
        await begin(fleet)
        # From here on, the process may remember that the new space has nothing of its own.
        assert await look(fleet) == (before, {OLD})
        await until_phase(fleet, SwitchPhase.SERVING)
        await order(fleet, orders.rollback, now=time())
        assert await look(fleet) == (before, {OLD})
        await order(fleet, orders.serve, percent=100.0, now=time())
        assert await look(fleet) == (before, {NEW})
        twin_id = await submit_without_its_twin(fleet, catalogue, 7)
        every = {*before, "doc-7"}
        assert await look(fleet) == (every, {NEW})

        await order(fleet, orders.rollback, now=time())
        assert await look(fleet) == (every, {OLD, NEW})

        # When the other space has it too, the search of two spaces ends.
        await fleet.jobs.of_all_tenants().retry(twin_id)

        async def is_there() -> bool:
            return (await look(fleet))[1] == {OLD}

        await until(is_there, fleet.system.database)
        with statements() as executed:
            for _ in range(5):
                assert await look(fleet) == (every, {OLD})
        assert not looks_for_others(executed), "that there are none is remembered"
