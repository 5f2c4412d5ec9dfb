"""The vector store, or the database, is away in the middle of a switch: it goes on when that is back.

No answer is mixed, lacks a document or is empty meanwhile: it fails, and says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import time
from typing import Any, TypeVar

import pytest

from embedfleet.errors import DatabaseUnavailable, EmbedfleetError, VectorStoreUnavailable
from embedfleet.inference.catalogue import Catalogue
from embedfleet.model_switching import coverage, orders, switcher
from embedfleet.model_switching.arm_asking import ArmAsking
from embedfleet.queue_schemas import JobInfo, JobStatus
from embedfleet.repair.true_vectors import TrueVectors
from embedfleet.repair.verification import Verification
from embedfleet.settings import Settings
from embedfleet.sql.states import SwitchPhase
from embedfleet.vectors.chroma.server import ChromaServerStore
from support.chroma_server import ChromaServer
from support.databases import PostgresDatabases
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
    switch_of,
    until_phase,
)
from support.postgres_server import PostgresServer
from support.switch_process import completed
from support.system import Configure, Running, make_settings, running, take_ledger, until

SOME = 6

T = TypeVar("T")


@pytest.fixture
def own_chroma(tmp_path: Path) -> Iterator[ChromaServer]:
    """One that the test may stop."""
    with ChromaServer(tmp_path / "chroma") as server:
        yield server


class Searching:
    """Searches without a pause, and looks at every answer. `away`, `answered`: set by the next such one."""

    def __init__(self, fleet: Running, *awaited: type[EmbedfleetError]) -> None:
        """`awaited`: how a search may fail."""
        self._fleet = fleet
        self._awaited = awaited
        self.away = asyncio.Event()
        self.answered = asyncio.Event()

    async def run(self) -> None:
        while True:
            try:
                expected = await self._fleet.system.database.read(completed)
                hits = await search(self._fleet, "boats in winter", limit=1000)
            except self._awaited:
                self.away.set()
                continue
            assert expected <= {hit.media_id for hit in hits}, hits.notice
            assert (len(hits.models), hits.notice, hits.not_searched) == (1, None, ())
            self.answered.set()

    async def until_away(self) -> None:
        self.away.clear()
        await self.away.wait()

    async def until_answered(self) -> None:
        self.answered.clear()
        await self.answered.wait()


@asynccontextmanager
async def searched(fleet: Running, *awaited: type[EmbedfleetError]) -> AsyncIterator[Searching]:
    """Searches while the block runs. A wrong answer ends it."""
    searching = Searching(fleet, *awaited)
    async with asyncio.timeout(10 * HANG_SECONDS), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(searching.run())
        yield searching
        task.cancel()


async def submit_some(fleet: Running) -> None:
    for job_id in [await fleet.submit(**document(number)) for number in range(SOME)]:
        await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)


async def ended(fleet: Running, job_id: str) -> JobInfo:
    return await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)


class Held:
    """A call that waits where it is held up. `reached` tells that one waits."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._goes_on = asyncio.Event()

    async def wait(self) -> None:
        self.reached.set()
        await self._goes_on.wait()

    def go_on(self) -> None:
        self._goes_on.set()


def hold_reading_back(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(*given: Any) -> coverage.Coverage:
        await held.wait()
        return await coverage.read_coverage(*given)

    monkeypatch.setattr(switcher, "read_coverage", read)


def hold_asking(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of the questions of the gate."""
    really_ask, asked = ArmAsking.ask, 0

    async def ask(self: ArmAsking, *given: Any, **more: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 5:
            await held.wait()
        return await really_ask(self, *given, **more)

    monkeypatch.setattr(ArmAsking, "ask", ask)


def hold_dropping(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    really_drop = ChromaServerStore.drop_collection

    async def drop(self: ChromaServerStore, *given: Any) -> None:
        await held.wait()
        await really_drop(self, *given)

    monkeypatch.setattr(ChromaServerStore, "drop_collection", drop)


async def until_it_waits(fleet: Running, why: str | None) -> None:
    """Return when the switch says that it waits for this; None: that nothing is in its way."""

    async def says_so() -> bool:
        told = (await switch_of(fleet.system.database)).findings.get("waits_for")
        return told is None if why is None else why in (told or "")

    await until(says_so, fleet.system.database)


async def cannot_verify(fleet: Running, settings: Settings) -> None:
    """What cannot be read is not called missing."""
    system = fleet.system
    truth = TrueVectors(system.database, Catalogue(settings.models), system.models, caching=True, now=0.0)
    switch = await switch_of(system.database)
    with pytest.raises(VectorStoreUnavailable):
        await Verification(system.database, system.store, truth).check(switch.to_collection)


async def comes_back(store: ChromaServer, fleet: Running, searching: Searching, job_id: str) -> None:
    """The store is back: what was submitted without it is stored, searches are answered, the switch ends."""
    store.start()
    assert (await ended(fleet, job_id)).status is JobStatus.COMPLETED
    await searching.until_answered()
    await serves_and_ends(fleet, SOME + 1)


async def serves_and_ends(fleet: Running, documents: int) -> None:
    """The switch comes to its end, with all documents and no others."""
    switch = await until_phase(fleet, SwitchPhase.SERVING)
    assert switch.findings["gate"]["reasons"] == []
    found = switch.findings["coverage"]
    assert (found["share"], found["missing"], found["wrong"]) == (1.0, 0, 0)
    await until_it_waits(fleet, None)
    await order(fleet, orders.rollback, now=time())
    assert await answer(fleet) == (OLD, documents)
    await order(fleet, orders.serve, percent=100.0, now=time())
    assert await answer(fleet) == (NEW, documents)
    await order(fleet, orders.retire, now=time())
    await is_emptied(fleet, documents)


async def is_emptied(fleet: Running, documents: int) -> None:
    switch = await until_phase(fleet, SwitchPhase.ENDED)
    assert switch.findings["receipt"]["vectors_left"] == 0
    assert await answer(fleet) == (NEW, documents)
    await fleet.settled()
    (await take_ledger(fleet.system)).assert_exact()


async def answer(fleet: Running) -> tuple[str, int]:
    hits = await search(fleet, "old in winter", limit=99)
    [model] = hits.models
    return model, len({hit.media_id for hit in hits})


@pytest.mark.slow
async def test_a_store_that_is_away_while_the_new_space_is_filled(
    configure: Configure, own_chroma: ChromaServer
) -> None:
    settings = configure(models=MODELS, vector_store={"url": own_chroma.url})
    catalogue = HeldCatalogue(settings.models)
    async with running(settings, catalogue=catalogue) as fleet:
        await submit_some(fleet)
        async with searched(fleet, VectorStoreUnavailable) as searching:
            catalogue.goes_on.clear()
            try:
                await begin(fleet)
                own_chroma.stop()
            finally:
                catalogue.goes_on.set()
            job_id = await fleet.submit(**document(7))
            await until_it_waits(fleet, own_chroma.url)
            await searching.until_away()
            await cannot_verify(fleet, settings)
            assert not (await fleet.jobs.get_job_status(job_id)).status.terminal
            await comes_back(own_chroma, fleet, searching, job_id)


@pytest.mark.parametrize(
    "hold",
    [
        pytest.param(hold_reading_back, id="reading back", marks=pytest.mark.slow),
        pytest.param(hold_asking, id="asking"),
    ],
)
async def test_a_store_that_is_away_while_the_gate_checks_the_new_space(
    configure: Configure,
    own_chroma: ChromaServer,
    monkeypatch: pytest.MonkeyPatch,
    hold: Callable[[Held, pytest.MonkeyPatch], None],
) -> None:
    settings = configure(models=MODELS, vector_store={"url": own_chroma.url})
    held = Held()
    hold(held, monkeypatch)
    async with running(settings) as fleet:
        await submit_some(fleet)
        async with searched(fleet, VectorStoreUnavailable) as searching:
            await begin(fleet)
            await held.reached.wait()
            own_chroma.stop()
            held.go_on()
            await until_it_waits(fleet, own_chroma.url)
            switch = await switch_of(fleet.system.database)
            # Nothing was found, so nothing is said: neither that vectors are there, nor that they are lost.
            assert switch.phase is SwitchPhase.CHECKING
            assert {"gate", "coverage"}.isdisjoint(switch.findings)
            job_id = await fleet.submit(**document(7))
            await searching.until_away()
            await cannot_verify(fleet, settings)
            assert not (await fleet.jobs.get_job_status(job_id)).status.terminal
            await comes_back(own_chroma, fleet, searching, job_id)


@pytest.mark.slow
async def test_a_store_that_is_away_while_the_new_space_answers(
    configure: Configure, own_chroma: ChromaServer
) -> None:
    settings = configure(models=MODELS, vector_store={"url": own_chroma.url})
    async with running(settings) as fleet:
        await submit_some(fleet)
        async with searched(fleet, VectorStoreUnavailable) as searching:
            await begin(fleet)
            await until_phase(fleet, SwitchPhase.SERVING)
            own_chroma.stop()
            job_id = await fleet.submit(**document(7))
            await until_it_waits(fleet, own_chroma.url)
            await searching.until_away()
            # An order needs no store.
            await order(fleet, orders.serve, percent=40.0, now=time())
            assert not (await fleet.jobs.get_job_status(job_id)).status.terminal
            await comes_back(own_chroma, fleet, searching, job_id)


@pytest.mark.slow
async def test_a_store_that_is_away_while_the_old_space_is_emptied(
    configure: Configure, own_chroma: ChromaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = configure(models=MODELS, vector_store={"url": own_chroma.url})
    held = Held()
    hold_dropping(held, monkeypatch)
    async with running(settings) as fleet:
        await submit_some(fleet)
        async with searched(fleet, VectorStoreUnavailable) as searching:
            await begin(fleet)
            await until_phase(fleet, SwitchPhase.SERVING)
            await order(fleet, orders.retire, now=time())
            await held.reached.wait()
            own_chroma.stop()
            held.go_on()
            await until_it_waits(fleet, own_chroma.url)
            job_id = await fleet.submit(**document(7))
            await searching.until_away()
            own_chroma.start()
            assert (await ended(fleet, job_id)).status is JobStatus.COMPLETED
            await searching.until_answered()
            await is_emptied(fleet, SOME + 1)


@pytest.fixture
def own_postgres(postgres_databases: PostgresDatabases) -> Iterator[PostgresDatabases]:
    """A server that the test may stop. (The shared one is named so that it is skipped alike.)"""
    with PostgresServer() as server:
        yield PostgresDatabases(server)


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The answer of the call when the database is back."""
    async with asyncio.timeout(HANG_SECONDS):
        while True:
            try:
                return await call()
            except DatabaseUnavailable:
                await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_a_database_that_is_away_in_a_switch(tmp_path: Path, own_postgres: PostgresDatabases) -> None:
    """While the new space is filled, and again while it answers. What is not admitted is not lost."""
    server = own_postgres.server
    with own_postgres.migrated() as url:
        settings = make_settings(tmp_path, database_url=url, models=MODELS)
        catalogue = HeldCatalogue(settings.models)
        async with running(settings, catalogue=catalogue) as fleet:
            await submit_some(fleet)
            async with searched(fleet, DatabaseUnavailable) as searching:
                catalogue.goes_on.clear()
                try:
                    await begin(fleet)
                    job_id = await fleet.submit(**document(7))
                    with server.down():
                        catalogue.goes_on.set()
                        await is_refused(fleet, searching)
                finally:
                    catalogue.goes_on.set()
                info = await patiently(lambda: ended(fleet, job_id))
                assert info.status is JobStatus.COMPLETED
                served = await patiently(lambda: until_phase(fleet, SwitchPhase.SERVING))
                assert served.findings["gate"]["reasons"] == []
                await searching.until_answered()

                job_id = await fleet.submit(**document(8))
                server.crash()
                try:
                    await is_refused(fleet, searching)
                finally:
                    server.start()
                info = await patiently(lambda: ended(fleet, job_id))
                assert info.status is JobStatus.COMPLETED
                job_id = await patiently(lambda: fleet.submit(**document(9)))
                assert (await patiently(lambda: ended(fleet, job_id))).status is JobStatus.COMPLETED
                await searching.until_answered()
                await serves_and_ends(fleet, SOME + 3)


async def is_refused(fleet: Running, searching: Searching) -> None:
    await searching.until_away()
    with pytest.raises(DatabaseUnavailable):
        await fleet.submit(**document(9))
