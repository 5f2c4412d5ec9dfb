"""A tenant is switched to another model while it submits and searches, and nothing is lost or mixed."""

from __future__ import annotations

import asyncio
from time import time

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import func, select, update

from embedfleet.errors import InvalidRequest, NotReady
from embedfleet.model_switching import orders
from embedfleet.queue_schemas import JobStatus, ReceiptState, Stage
from embedfleet.records import model_switches, switch_questions
from embedfleet.records.model_switches import BACKFILL_FLOW
from embedfleet.sql import tables
from embedfleet.sql.model_tables import model_switches as switches
from embedfleet.sql.states import GenerationState, SwitchPhase
from embedfleet.vectors.chroma.embedded import ChromaVectorStore
from embedfleet.vectors.chroma.kind import chroma_directory
from embedfleet.vectors.passing import PassingStore
from embedfleet.vectors.port import CollectionKey, Hit, VectorStore
from support.databases import on_both_databases
from support.hangs import HANG_SECONDS
from support.model_switches import (
    MODELS,
    NEW,
    OLD,
    HeldCatalogue,
    begin,
    document,
    found_media,
    order,
    search,
    switch_of,
    until_phase,
)
from support.stages_by_hand import StagesByHand, stages_by_hand
from support.system import TENANT, Configure, Running, running, take_ledger, until

pytestmark = on_both_databases

SOME = 12


async def submit_some(fleet: Running, count: int = SOME) -> None:
    job_ids = [await fleet.submit(**document(number)) for number in range(count)]
    for job_id in job_ids:
        await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)


async def live_spaces(fleet: Running, media_id: str) -> dict[str, str]:
    """The content that readers see of a document, by the model of the space."""
    query = (
        select(tables.collections.c.model, tables.generations.c.content_hash)
        .join(tables.generations, tables.generations.c.collection_id == tables.collections.c.collection_id)
        .join(tables.documents, tables.documents.c.document_id == tables.generations.c.document_id)
        .where(tables.documents.c.media_id == media_id, tables.generations.c.state == GenerationState.LIVE)
    )
    rows = await fleet.system.database.read(lambda conn: conn.execute(query).all())
    assert len({row.model for row in rows}) == len(rows), "two versions are live in one space"
    return {row.model: row.content_hash for row in rows}


async def test_all_documents_move_to_the_new_space_and_the_old_one_is_emptied(configure: Configure) -> None:
    async with running(configure(models=MODELS)) as fleet:
        await submit_some(fleet)
        assert (await search(fleet, "copper gardens")).model == OLD
        await begin(fleet)
        served = await until_phase(fleet, SwitchPhase.SERVING)
        assert served.findings["coverage"]["share"] == 1.0
        assert served.findings["gate"]["measured"]["questions"] > SOME
        hits = await search(fleet, "How copper gardens of bakers are made in winter")
        assert (hits.model, hits.not_searched, hits.notice) == (NEW, (), None)

        await order(fleet, orders.retire, now=time())
        ended = await until_phase(fleet, SwitchPhase.ENDED)
        assert ended.findings["receipt"]["vectors_left"] == 0
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()
        collections = await fleet.jobs.of(TENANT).list_collections()
        assert {one.model: one.documents for one in collections} == {OLD: 0, NEW: SOME}
        # What names no model goes to the new one from now on, and nothing is made twice any more.
        assert (await fleet.ingest(**document(99))).model == NEW
        assert set(await live_spaces(fleet, "doc-99")) == {NEW}
        assert "doc-99" in await found_media(fleet, document(99)["title"])


async def test_a_submission_is_in_both_spaces_counted_once_and_told_once(configure: Configure) -> None:
    async with running(configure(models=MODELS)) as fleet:
        await submit_some(fleet, 2)
        await order_begin_paused(fleet)
        await fleet.ingest(**document(7))
        await until(lambda: has_both(fleet, "doc-7"), fleet.system.database)

        listed = await fleet.jobs.of(TENANT).list_jobs(media_id="doc-7")
        assert [one.model for one in listed] == [OLD]
        events = await fleet.jobs.of(TENANT).events(after=0)
        assert [one.media_id for one in events].count("doc-7") == 1
        ledger = select(func.sum(tables.usage.c.jobs))
        assert await fleet.system.database.read(lambda conn: conn.execute(ledger).scalar_one()) == 3
        # The documents of before are not begun while the switch is paused.
        assert set(await live_spaces(fleet, "doc-0")) == {OLD}
        await order(fleet, orders.resume)
        await until_phase(fleet, SwitchPhase.SERVING)
        assert set(await live_spaces(fleet, "doc-0")) == {OLD, NEW}
        assert await backfilled(fleet) == 2
        assert await fleet.jobs.of_all_tenants().count_jobs() == {JobStatus.COMPLETED: 3}


async def order_begin_paused(fleet: Running) -> None:
    info = fleet.system.catalogue.info(NEW)

    def begin_paused(conn) -> None:  # type: ignore[no-untyped-def]
        orders.begin(conn, [TENANT], orders.Wanted(info), time())
        orders.pause(conn, TENANT)

    await fleet.system.database.write(begin_paused)


async def has_both(fleet: Running, media_id: str) -> bool:
    return set(await live_spaces(fleet, media_id)) == {OLD, NEW}


async def backfilled(fleet: Running) -> int:
    query = select(func.count()).where(tables.jobs.c.flow == BACKFILL_FLOW)
    return int(await fleet.system.database.read(lambda conn: conn.execute(query).scalar_one()))


async def test_after_the_gate_a_job_ends_together_with_its_twin(configure: Configure) -> None:
    settings = configure(models=MODELS)
    catalogue = HeldCatalogue(settings.models)
    async with running(settings, catalogue=catalogue) as fleet:
        await submit_some(fleet, 2)
        await begin(fleet)
        await until_phase(fleet, SwitchPhase.SERVING)
        await order(fleet, orders.rollback, now=time())
        catalogue.goes_on.clear()
        try:
            job_id = await fleet.submit(**document(7))

            async def is_stored() -> bool:
                info = await fleet.jobs.get_job_status(job_id)
                return info.progress.sealed and info.progress.chunks_stored == info.progress.chunks_total

            await until(is_stored, fleet.system.database)
            assert (await fleet.jobs.get_job_status(job_id)).status is JobStatus.STORING
            assert await live_spaces(fleet, "doc-7") == {}
        finally:
            catalogue.goes_on.set()
        info = await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
        assert info.status is JobStatus.COMPLETED
        assert set(await live_spaces(fleet, "doc-7")) == {OLD, NEW}


async def test_a_twin_that_is_cancelled_holds_up_its_job_no_longer(configure: Configure) -> None:
    settings = configure(models=MODELS)
    catalogue = HeldCatalogue(settings.models)
    async with running(settings, catalogue=catalogue) as fleet:
        await submit_some(fleet, 2)
        await begin(fleet)
        await until_phase(fleet, SwitchPhase.SERVING)
        await order(fleet, orders.rollback, now=time())
        catalogue.goes_on.clear()
        try:
            job_id = await fleet.submit(**document(7))
            twin = select(tables.jobs.c.job_id).where(
                tables.jobs.c.switch_id.is_not(None), tables.jobs.c.finished_at.is_(None)
            )
            [twin_id] = await fleet.system.database.read(lambda conn: conn.execute(twin).scalars().all())
            await fleet.jobs.of_all_tenants().cancel(twin_id)
            info = await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
        finally:
            catalogue.goes_on.set()
        assert info.status is JobStatus.COMPLETED
        # The switch knows that it lacks the document, and has not given it up: it was not a failure.
        switch = await switch_of(fleet.system.database)
        assert await fleet.system.database.read(lambda conn: model_switches.count_lacking(conn, switch)) == 1


async def test_a_broken_model_is_refused_with_reasons_and_passes_by_force_only(configure: Configure) -> None:
    settings = configure(models=MODELS)
    catalogue = HeldCatalogue(settings.models, spoilt=0.3)
    async with running(settings, catalogue=catalogue) as fleet:
        await submit_some(fleet, 40)
        await begin(fleet)
        refused = await until_phase(fleet, SwitchPhase.REFUSED)
        [reason] = refused.findings["gate"]["reasons"]
        assert "known items" in reason
        assert "max_recall_loss" in reason
        worst = await fleet.system.database.read(lambda conn: switch_questions.of_switch(conn, refused))
        assert len(worst) == 10
        assert [one.new_rank for one in worst[:3]] == [None] * 3
        assert (await search(fleet, "copper gardens")).model == OLD

        await order(fleet, orders.force, now=time(), actor="op")
        served = await until_phase(fleet, SwitchPhase.SERVING)
        assert (served.findings["forced_by"], served.findings["gate"]["reasons"]) == ("op", [reason])
        assert (await search(fleet, "copper gardens")).model == NEW


async def test_a_rollback_is_instant_and_finds_what_came_in_after_the_switch(configure: Configure) -> None:
    async with running(configure(models=MODELS)) as fleet:
        await submit_some(fleet, 3)
        await begin(fleet)
        await until_phase(fleet, SwitchPhase.SERVING)
        info = await fleet.ingest(**document(42))
        assert info.model == NEW
        await order(fleet, orders.rollback, now=time())
        hits = await search(fleet, document(42)["title"])
        assert hits.model == OLD
        assert "doc-42" in [hit.media_id for hit in hits]
        # Given up: the old space stays as the only one.
        await order(fleet, orders.retire, now=time())
        await until_phase(fleet, SwitchPhase.ENDED)
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()
        collections = await fleet.jobs.of(TENANT).list_collections()
        assert {one.model: one.documents for one in collections} == {OLD: 4, NEW: 0}


async def submit_without_a_copy(stages: StagesByHand, number: int) -> str:
    """A document comes in whose copy in the other space is cancelled. Return the job of the copy."""
    database = stages.system.database
    await stages.submit([(TENANT, f"doc-{number}", document(number)["content"])])
    twin = select(tables.jobs.c.job_id).where(
        tables.jobs.c.switch_id.is_not(None), tables.jobs.c.finished_at.is_(None)
    )
    [twin_id] = await database.read(lambda conn: conn.execute(twin).scalars().all())
    await stages.system.jobs.of_all_tenants().cancel(twin_id)
    for stage in (Stage.CHUNKING, Stage.EMBEDDING, Stage.STORAGE):
        assert await stages.do(stage, 1) == 1
    return str(twin_id)


async def test_a_space_with_documents_of_its_own_is_retired_by_force_and_keeps_what_cannot_be_copied(
    configure: Configure,
) -> None:
    settings = configure(models=MODELS)
    async with running(settings) as fleet:
        await submit_some(fleet, 2)
        await begin(fleet)
        await until_phase(fleet, SwitchPhase.SERVING)
    async with stages_by_hand(settings) as stages:
        await submit_without_a_copy(stages, 7)
        again = await submit_without_a_copy(stages, 8)
        # That of the second one may be tried again: no operator has cancelled it.
        lost = update(tables.jobs).where(tables.jobs.c.job_id == again).values(reason=None)
        await stages.system.database.write(lambda conn: conn.execute(lost))
        await order(stages, orders.rollback, now=time())
        with pytest.raises(NotReady, match=f"2 documents are only, or are newer, in the space of `{NEW}`"):
            await order(stages, orders.retire, now=time())
        await order(stages, orders.retire, now=time(), force=True)
    async with running(settings) as fleet:
        ended = await until_phase(fleet, SwitchPhase.ENDED)
        assert ended.findings["receipt"]["documents_left"] == 1
        collections = await fleet.jobs.of(TENANT).list_collections()
        assert {one.model: one.documents for one in collections} == {OLD: 3, NEW: 1}
        assert {"doc-7", "doc-8"} <= set(await found_media(fleet, document(7)["title"], limit=4))
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()


async def test_an_old_space_is_retired_by_itself_in_time_though_it_lacks_a_document(
    configure: Configure,
) -> None:
    settings = configure(models=MODELS)
    async with running(settings) as fleet:
        await submit_some(fleet, 2)
        await begin(fleet)
        await until_phase(fleet, SwitchPhase.SERVING)
    async with stages_by_hand(settings) as stages:
        database = stages.system.database
        await submit_without_a_copy(stages, 7)
        switch = await switch_of(database)
        assert await database.read(lambda conn: model_switches.count_lacking(conn, switch)) == 1
        long_ago = update(switches).values(switched_at=0.0)
        await database.write(lambda conn: conn.execute(long_ago))
    async with running(settings) as fleet:
        await until_phase(fleet, SwitchPhase.ENDED)
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()


async def test_a_share_of_the_queries_is_sticky_and_both_spaces_are_kept(configure: Configure) -> None:
    async with running(configure(models=MODELS)) as fleet:
        await submit_some(fleet, 2)
        await begin(fleet, percent=40.0)
        await until_phase(fleet, SwitchPhase.SERVING)
        queries = [f"the {number}th question" for number in range(40)]
        answered = [(await search(fleet, query)).model for query in queries]
        assert answered == [(await search(fleet, query)).model for query in queries]
        assert {OLD, NEW} == set(answered)
        with pytest.raises(NotReady, match="both spaces answer"):
            await order(fleet, orders.retire, now=time())


async def test_a_document_that_changes_in_the_backfill_is_new_in_both_spaces(
    configure: Configure,
) -> None:
    settings = configure(models=MODELS)
    catalogue = HeldCatalogue(settings.models)
    async with running(settings, catalogue=catalogue) as fleet:
        await submit_some(fleet, 3)
        catalogue.goes_on.clear()
        try:
            await begin(fleet)

            async def has_begun() -> bool:
                return await backfilled(fleet) == 3

            await until(has_begun, fleet.system.database)
            job_id = await fleet.submit(**document(1, more="It rains."))
            changed = await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
            assert changed.status is JobStatus.COMPLETED
        finally:
            catalogue.goes_on.set()
        await until_phase(fleet, SwitchPhase.SERVING)
        contents = await live_spaces(fleet, "doc-1")
        assert set(contents) == {OLD, NEW}
        assert len(set(contents.values())) == 1
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()


async def test_changed_metadata_and_a_deletion_reach_both_spaces(configure: Configure) -> None:
    async with running(configure(models=MODELS)) as fleet:
        await submit_some(fleet, 3)
        await begin(fleet)
        await until_phase(fleet, SwitchPhase.SERVING)
        mine = fleet.jobs.of(TENANT)
        await mine.set_metadata(media_id="doc-1", patch={"shelf": 7})
        for model in (OLD, NEW):
            assert await found_media(fleet, "winter", where={"shelf": 7}, model=model) == ["doc-1"]
        receipt_id = await mine.delete_document(media_id="doc-1")
        assert receipt_id is not None
        await fleet.settled()
        for model in (OLD, NEW):
            assert "doc-1" not in await found_media(fleet, "winter", model=model)

        async def is_done() -> bool:
            return (await mine.receipt(receipt_id)).state is ReceiptState.ERASED

        await until(is_done, fleet.system.database)
        (await take_ledger(fleet.system)).assert_exact()


async def test_what_cannot_be_switched_is_said(configure: Configure) -> None:
    async with running(configure(models=MODELS)) as fleet:
        await fleet.ingest(**document(1))
        await fleet.ingest(**document(2), model=NEW)
        with pytest.raises(InvalidRequest, match="several models"):
            await begin(fleet, to="minilm")
        with pytest.raises(InvalidRequest, match="no documents of model `minilm`"):
            await begin(fleet, from_model="minilm")
        with pytest.raises(InvalidRequest, match="has no switch"):
            await order(fleet, orders.rollback, now=time())
        # A tenant without documents only gets the model.
        info = fleet.system.catalogue.info(NEW)
        begun = await fleet.system.database.write(
            lambda conn: orders.begin(conn, ["new"], orders.Wanted(info), time())
        )
        assert (begun.switches, begun.without_documents) == ([], ["new"])
        assert (await fleet.ingest(**document(3), user_id="new")).model == NEW


class SlowSearches(PassingStore):
    """A search of the store waits until it may go on. `begun` tells that one waits."""

    def __init__(self, inner: VectorStore) -> None:
        super().__init__(inner)
        self.begun = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def query(self, collection: CollectionKey, vector: NDArray[np.float32], *, limit: int) -> list[Hit]:
        if not self.goes_on.is_set():
            self.begun.set()
            await self.goes_on.wait()
        return await super().query(collection, vector, limit=limit)


async def test_a_query_that_began_before_its_space_was_emptied_is_answered_in_the_other(
    configure: Configure,
) -> None:
    settings = configure(models=MODELS)
    store = SlowSearches(await ChromaVectorStore.open(chroma_directory(settings.data_dir)))
    async with running(settings, store=store) as fleet:
        await submit_some(fleet, 3)
        await begin(fleet)
        await until_phase(fleet, SwitchPhase.SERVING)
        await order(fleet, orders.rollback, now=time())
        store.goes_on.clear()
        slow = asyncio.create_task(search(fleet, document(1)["title"]))
        await store.begun.wait()
        await order(fleet, orders.serve, percent=100.0, now=time())
        await order(fleet, orders.retire, now=time())
        await until_phase(fleet, SwitchPhase.ENDED)
        store.goes_on.set()
        hits = await slow
        assert (hits.model, len(hits)) == (NEW, 3)
