"""Receipts of deletions tell the truth: they name what is left in every place, and end when nothing is."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, Table, insert, select

from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.clock import ManualClock, SystemClock
from embedfleet.document_filter import DocumentFilter
from embedfleet.errors import UnknownReceipt, UnknownTenant
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.leader.beyond_reach import Outside
from embedfleet.leader.erasure import Erasure
from embedfleet.leader.leftover_search import DEAD_TASKS, QUEUES, VECTOR_STORE, LeftoverSearch
from embedfleet.leader.waiting_work import WaitingWork
from embedfleet.lifecycle import cleanup
from embedfleet.queue.broker import Task
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue_schemas import JobRequest, Receipt, ReceiptState, Stage
from embedfleet.records import collections, identity, traces
from embedfleet.records.audit import LOCAL
from embedfleet.records.receipts import Findings, ReceiptRow
from embedfleet.repair.backup import database_file, write_backup
from embedfleet.sql import experiment_tables, model_tables, tables, traffic_tables
from embedfleet.sql.database import Database
from embedfleet.sql.schema import SCHEMA
from embedfleet.vectors.chroma.embedded import ChromaVectorStore
from embedfleet.vectors.null import NullVectorStore
from embedfleet.vectors.port import CollectionKey, VectorRows, VectorStore
from support.databases import on_both_databases
from support.hangs import HANG_SECONDS
from support.statements import statements
from support.system import TENANT, Configure, make_settings, running, take_ledger

OUTSIDE = Outside(backups_kept_days=None, has_webhook=False)
# A search that finds something looks again a few times, which tests need not wait for.
FOREVER = 10_000.0


@dataclass(frozen=True)
class Bench:
    """The duty, and what it works on. No worker is at work: `cleaned_up` does what one would do."""

    jobs: EmbeddingJobManager
    database: Database
    broker: MemoryBroker
    store: VectorStore
    clock: ManualClock
    duty: Erasure

    async def submit(self, media_id: str) -> str:
        return await self.jobs.create_job(
            media_id=media_id, user_id=TENANT, content="Text.", source=f"/docs/{media_id}"
        )

    async def delete(self, media_id: str) -> str:
        receipt_id = await self.jobs.of(TENANT).delete_document(media_id=media_id)
        assert receipt_id is not None
        return receipt_id

    async def cleaned_up(self, media_id: str) -> None:
        document_id = identity.document_id(TENANT, media_id)
        await self.database.write(lambda conn: cleanup.drop_unneeded_rows(conn, document_id, 1, 0.0))

    async def deleted(self, media_id: str) -> str:
        """Submit, delete and clean up. Return the id of the receipt, which is still open."""
        await self.submit(media_id)
        receipt_id = await self.delete(media_id)
        await self.cleaned_up(media_id)
        return receipt_id

    async def receipt(self, receipt_id: str) -> Receipt:
        return await self.jobs.of(TENANT).receipt(receipt_id)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_in(tmp_path, NullVectorStore()) as made:
        yield made


@pytest.fixture
async def bench_with_vectors(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_in(tmp_path, await ChromaVectorStore.open(tmp_path / "chroma")) as made:
        yield made


@asynccontextmanager
async def bench_in(folder: Path, store: VectorStore) -> AsyncIterator[Bench]:
    settings = make_settings(folder)
    settings.data_dir.mkdir()
    database = Database(settings.database_url, synchronous="normal")
    await database.open()
    clock, broker = ManualClock(), MemoryBroker()
    jobs = EmbeddingJobManager(JobManagerConfig(settings=settings), database=database, clock=clock)
    search = LeftoverSearch(database=database, broker=broker, store=store)
    duty = Erasure(
        search, WaitingWork(database), database=database, store=store, clock=clock, outside=OUTSIDE
    )
    yield Bench(jobs, database, broker, store, clock, duty)
    await jobs.close()
    await store.close()
    await database.close()


async def add(database: Database, table: Table, row: dict[str, Any]) -> None:
    def write(conn: Connection) -> None:
        conn.execute(insert(table).values(row))

    await database.write(write)


def found(receipt: Receipt) -> dict[str, int]:
    assert receipt.left is not None
    return {place: count for place, count in receipt.left.items() if count}


@on_both_databases
async def test_a_deleted_document_is_gone_from_every_place(configure: Configure) -> None:
    settings = configure()
    async with running(settings) as fleet:
        jobs = fleet.jobs.of(TENANT)
        await fleet.ingest("secret", "A secret text.", source="/secret.txt", title="Secret title")
        await fleet.ingest("kept", "Another text.")
        receipt_id = await jobs.delete_document(media_id="secret")
        assert receipt_id is not None
        async with asyncio.timeout(HANG_SECONDS):
            receipt = await jobs.searched_receipt(receipt_id)
        (await take_ledger(fleet.system)).assert_exact()
        holding = await fleet.system.database.read(lambda conn: rows_with(conn, "secret"))
        assert [event.media_id for event in await jobs.events()] == ["", "kept"]

    store = settings.data_dir / "chroma" / "chroma.sqlite3"
    assert "secret" not in rows_of(store), "not in its log either"
    assert receipt.state is ReceiptState.ERASED
    assert receipt.finished_at is not None
    assert found(receipt) == {}
    there_was = {"documents", "generations", "segments", "chunks", "vectors", "embeddings", "jobs", "batches"}
    assert {place for place, count in receipt.held.items() if count} == there_was
    assert holding == {"receipts"}, "the name of the document is in no other table"


def rows_of(file: Path) -> str:
    """Every row of every table of an SQLite database, in small letters."""
    with closing(sqlite3.connect(file)) as conn:
        tables = [name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return "".join(repr(conn.execute(f'SELECT * FROM "{name}"').fetchall()) for name in tables).lower()


def rows_with(conn: Connection, text: str) -> set[str]:
    """The tables with a row that has the text somewhere."""
    return {
        table.name
        for table in SCHEMA.sorted_tables
        for row in conn.execute(select(table))
        if text.lower() in repr(row).lower()
    }


def test_every_table_is_searched_or_exempt_with_a_reason() -> None:
    searched = {
        table.name
        for table in (
            *traces.OF_DOCUMENT,
            *traces.OF_GENERATION,
            *traces.OF_JOB,
            *traces.NAMING,
            *traces.OF_COLLECTION,
            *traces.OF_TENANT,
            *traces.KEPT,
        )
    }
    assert not searched & set(traces.NOT_SEARCHED)
    assert searched | set(traces.NOT_SEARCHED) == set(SCHEMA.tables)


MEDIA_ID = 'the "näme"'
DOCUMENT = identity.document_id(TENANT, MEDIA_ID)
ANSWER = json.dumps({"job": {"media_id": MEDIA_ID}})
_HASH = bytes(16)


def _values(table: Table, **given: Any) -> dict[str, Any]:
    """A whole row: the given values, and something for every other column that must have a value."""
    fillers: dict[type, Any] = {str: "x", int: 1, float: 1.0, bytes: b"x", bool: False}
    return {
        column.key: fillers[column.type.python_type]
        for column in table.columns
        if not column.nullable and column.key not in given
    } | given


PLANTED: dict[str, Callable[[], list[tuple[Table, dict[str, Any]]]]] = {
    "documents": lambda: [_document()],
    "generations": lambda: [_document(), _collection(), _generation()],
    "segments": lambda: [
        _document(),
        _collection(),
        _generation(),
        (tables.segments, _values(tables.segments, generation_id=7)),
    ],
    "chunks": lambda: [
        _document(),
        _collection(),
        _generation(),
        (tables.chunks, _values(tables.chunks, generation_id=7, chunk_id=_HASH)),
    ],
    "vectors": lambda: [
        _collection(),
        (tables.vectors, _values(tables.vectors, chunk_id=_HASH, document_id=DOCUMENT, collection_id=3)),
    ],
    "embeddings": lambda: [
        _collection(),
        (
            tables.embeddings,
            _values(tables.embeddings, content_hash=_HASH, document_id=DOCUMENT, collection_id=3),
        ),
    ],
    "store_copies": lambda: [
        (tables.store_copies, _values(tables.store_copies, chunk_id=_HASH, document_id=DOCUMENT)),
    ],
    "jobs": lambda: [(tables.jobs, _values(tables.jobs, tenant=TENANT, document_id=DOCUMENT))],
    "batches": lambda: [(tables.batches, _values(tables.batches, job_id="job_7"))],
    "dead_letters": lambda: [(tables.dead_letters, _values(tables.dead_letters, job_id="job_7"))],
    "deaths": lambda: [(tables.deaths, _values(tables.deaths, job_id="job_7"))],
    "events": lambda: [(tables.events, _values(tables.events, tenant=TENANT, media_id=MEDIA_ID))],
    "searches": lambda: [
        (tables.searches, _values(tables.searches, tenant=TENANT, response=ANSWER)),
    ],
    "idempotency_keys": lambda: [
        (tables.idempotency_keys, _values(tables.idempotency_keys, tenant=TENANT, response=ANSWER)),
    ],
    "audit": lambda: [(tables.audit, _values(tables.audit, tenant=TENANT, details=ANSWER))],
    "traffic_removals": lambda: [
        (
            traffic_tables.traffic_removals,
            _values(traffic_tables.traffic_removals, tenant=TENANT, media_id=MEDIA_ID),
        ),
    ],
    "shadow_differences": lambda: [
        (
            traffic_tables.shadow_differences,
            _values(traffic_tables.shadow_differences, tenant=TENANT, media_id=MEDIA_ID),
        ),
    ],
    "switch_questions": lambda: [
        (tables.collections, _values(tables.collections, collection_id=7)),
        (
            model_tables.model_switches,
            _values(model_tables.model_switches, switch_id=7, from_collection=7, to_collection=7),
        ),
        (
            model_tables.switch_questions,
            _values(model_tables.switch_questions, switch_id=7, tenant=TENANT, document_id=DOCUMENT),
        ),
    ],
    "experiment_questions": lambda: [*_experiment(), _naming(experiment_tables.experiment_questions)],
    "experiment_answers": lambda: [*_experiment(), _naming(experiment_tables.experiment_answers)],
    "experiment_hits": lambda: [*_experiment(), _naming(experiment_tables.experiment_hits)],
    "impression_hits": lambda: [
        (experiment_tables.impressions, _values(experiment_tables.impressions, impression_id="imp")),
        _naming(experiment_tables.impression_hits, impression_id="imp", chunk_id=_HASH),
    ],
    "view_changes": lambda: [
        (tables.views, _values(tables.views, view_id=7)),
        (
            tables.view_changes,
            _values(tables.view_changes, view_id=7, tenant=TENANT, media_id=MEDIA_ID, document_id=DOCUMENT),
        ),
    ],
}


def _document() -> tuple[Table, dict[str, Any]]:
    return tables.documents, _values(tables.documents, document_id=DOCUMENT, tenant=TENANT, media_id=MEDIA_ID)


def _experiment() -> list[tuple[Table, dict[str, Any]]]:
    row = _values(experiment_tables.experiments, experiment_id="x", collection_a=3, collection_b=3)
    return [_collection(), (experiment_tables.experiments, row)]


def _naming(table: Table, **given: Any) -> tuple[Table, dict[str, Any]]:
    return table, _values(table, tenant=TENANT, document_id=DOCUMENT, **given)


def _collection() -> tuple[Table, dict[str, Any]]:
    return tables.collections, _values(tables.collections, collection_id=3, tenant=TENANT)


def _generation() -> tuple[Table, dict[str, Any]]:
    return tables.generations, _values(
        tables.generations, generation_id=7, document_id=DOCUMENT, collection_id=3
    )


@on_both_databases
async def test_a_row_that_is_left_in_any_table_is_found(database_url: str) -> None:
    """Plants a row of the document in each table, one after the other."""
    database = Database(database_url, synchronous="normal")
    await database.open()
    keys = traces.DocumentKeys(MEDIA_ID, DOCUMENT, [7], ["job_7"])

    def look(conn: Connection) -> dict[str, int]:
        naming = traces.rows_naming_documents(conn, TENANT, [MEDIA_ID])[MEDIA_ID]
        return traces.rows_of_documents(conn, [keys])[DOCUMENT] | naming

    class Undone(Exception):
        def __init__(self, counts: dict[str, int]) -> None:
            self.counts = counts

    def plant(conn: Connection, rows: list[tuple[Table, dict[str, Any]]]) -> None:
        for table, values in rows:
            conn.execute(insert(table).values(values))
        raise Undone(look(conn))

    expected = {table.name for table in SCHEMA.sorted_tables} - set(traces.NOT_SEARCHED)
    of_tenants_only = {"collections", "api_keys", "tenants", "usage", "receipts", "model_switches"}
    of_tenants_only |= {"score_backgrounds", "experiments", "impressions"}
    assert set(PLANTED) == expected - of_tenants_only
    try:
        assert not any((await database.read(look)).values())
        for name, rows in PLANTED.items():
            with pytest.raises(Undone) as planted:
                await database.write(partial(plant, rows=rows()))
            assert planted.value.counts[name] == 1, name
    finally:
        await database.close()


class Forgetting(NullVectorStore):
    def __init__(self) -> None:
        self.calls: list[set[str]] = []

    async def forget_deleted(self, *collections: CollectionKey) -> None:
        self.calls.append({collection.tenant for collection in collections})


class Logging(NullVectorStore):
    def not_forgotten(self) -> str | None:
        return "its log has deleted texts for a day"


async def test_a_receipt_says_where_the_vector_store_may_have_deleted_texts(tmp_path: Path) -> None:
    async with bench_in(tmp_path, Logging()) as bench:
        receipt_id = await bench.deleted("one")
        await bench.duty.step()
        receipt = await bench.receipt(receipt_id)
    assert receipt.beyond["vector_store"] == "its log has deleted texts for a day"


async def test_deletions_of_several_tenants_have_the_store_forget_once(tmp_path: Path) -> None:
    """A store that has all tenants in one table goes through it as a whole, whatever their number."""
    store = Forgetting()
    async with bench_in(tmp_path, store) as bench:
        for tenant in (TENANT, "bob"):
            await bench.jobs.create_job(media_id="one", user_id=tenant, content="Text.")
            assert await bench.jobs.of(tenant).delete_document(media_id="one") is not None
            gone = partial(cleanup.drop_unneeded_rows, document_id=identity.document_id(tenant, "one"))
            await bench.database.write(lambda conn, gone=gone: gone(conn, requests=1, now=0.0))  # type: ignore[misc]
        await bench.duty.step()
    assert store.calls == [{TENANT, "bob"}]


async def test_a_vector_that_is_left_is_found_and_searched_again(bench_with_vectors: Bench) -> None:
    bench = bench_with_vectors
    await bench.submit("stray")
    (collection,) = await bench.database.read(lambda conn: collections.of_tenant(conn, TENANT))
    await bench.store.ensure_collection(collection)
    vectors = np.ones((2, collection.dim), dtype=np.float32)
    await bench.store.upsert(
        collection, VectorRows(["one", "two"], vectors, [{"media_id": "stray"}, {"media_id": "other"}], None)
    )
    receipt_id = await bench.delete("stray")
    await bench.cleaned_up("stray")
    assert (await bench.receipt(receipt_id)).state is ReceiptState.PENDING

    await bench.duty.step()
    receipt = await bench.receipt(receipt_id)
    assert receipt.state is ReceiptState.LEFT
    assert found(receipt) == {VECTOR_STORE: 1}
    assert receipt.finished_at is None

    await bench.store.delete(collection, ["one"])
    await bench.duty.step()  # too early
    assert (await bench.receipt(receipt_id)).state is ReceiptState.LEFT
    bench.clock.advance(5.0)
    await bench.duty.step()
    receipt = await bench.receipt(receipt_id)
    assert receipt.state is ReceiptState.ERASED
    assert found(receipt) == {}


async def test_tasks_of_it_are_found_in_the_queues(bench: Bench) -> None:
    job_id = await bench.submit("queued")
    await bench.broker.enqueue(Stage.STORAGE, [Task("t1", TENANT, job_id, 1, b"vectors of it")])
    receipt_id = await bench.delete("queued")
    await bench.cleaned_up("queued")
    await bench.duty.step()
    # A worker may have the task in hand, and be just about to ack it.
    assert (await bench.receipt(receipt_id)).state is ReceiptState.PENDING
    bench.clock.advance(30.0)
    await bench.duty.step()
    assert found(await bench.receipt(receipt_id)) == {QUEUES: 1}
    await bench.broker.cancel_job(job_id)
    bench.clock.advance(5.0)
    await bench.duty.step()
    assert (await bench.receipt(receipt_id)).state is ReceiptState.ERASED


async def test_dead_tasks_with_its_text_are_dropped_and_those_of_others_are_kept(bench: Bench) -> None:
    job_id = await bench.submit("dead")
    ours = Task("d1", TENANT, job_id, 1, b"tokens of it")
    await bench.broker.enqueue(Stage.EMBEDDING, [ours, Task("d2", TENANT, "job_other", 1, b"others")])
    for lease in await bench.broker.claim(
        Stage.EMBEDDING, worker="w", max_tasks=9, max_cost=9, lease_seconds=FOREVER
    ):
        await bench.broker.dead_letter(lease, reason="poison")
    receipt_id = await bench.delete("dead")
    await bench.cleaned_up("dead")
    await bench.duty.step()
    assert (await bench.receipt(receipt_id)).state is ReceiptState.ERASED
    assert [one.task.id for one in await bench.broker.dead(Stage.EMBEDDING)] == ["d2"]


async def test_dead_tasks_that_could_not_be_looked_at_count_as_left(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedfleet.leader.leftover_search._DEAD_READ", 1)
    tasks = [Task(f"u{n}", TENANT, "job_other", 1, b"others") for n in range(3)]
    await bench.broker.enqueue(Stage.STORAGE, tasks)
    for lease in await bench.broker.claim(
        Stage.STORAGE, worker="w", max_tasks=9, max_cost=9, lease_seconds=FOREVER
    ):
        await bench.broker.dead_letter(lease, reason="poison")
    receipt_id = await bench.deleted("unread")
    await bench.duty.step()
    assert found(await bench.receipt(receipt_id)) == {DEAD_TASKS: 2}
    await bench.broker.drop_dead(Stage.STORAGE, [task.id for task in tasks])


async def test_kept_answers_that_name_it_are_forgotten(bench: Bench) -> None:
    def answers(conn: Connection) -> list[str]:
        return list(conn.execute(select(tables.idempotency_keys.c.key)).scalars())

    for key, media_id in (("a", "answered"), ("b", "other")):
        row = _values(
            tables.idempotency_keys, tenant=TENANT, key=key, response=json.dumps({"media_id": media_id})
        )
        await add(bench.database, tables.idempotency_keys, row)
    receipt_id = await bench.deleted("answered")
    await bench.duty.step()
    assert (await bench.receipt(receipt_id)).state is ReceiptState.ERASED
    assert await bench.database.read(answers) == ["b"]


async def test_a_document_that_is_submitted_again_is_not_called_erased(bench: Bench) -> None:
    receipt_id = await bench.deleted("again")
    await bench.submit("again")
    await bench.duty.step()
    receipt = await bench.receipt(receipt_id)
    assert receipt.state is ReceiptState.SUBMITTED_AGAIN
    assert found(receipt)["documents"] == 1


async def test_a_later_document_never_has_the_number_of_a_deleted_one(bench: Bench) -> None:
    """Otherwise the rows of the later one would be taken for what is left of the deleted one."""
    await bench.submit("gone")
    receipt_id = await bench.delete("gone")
    await bench.cleaned_up("gone")
    await bench.submit("later")
    await bench.duty.step()
    receipt = await bench.receipt(receipt_id)
    assert (receipt.state, found(receipt)) == (ReceiptState.ERASED, {})


async def test_evidence_that_stays_is_counted(bench: Bench) -> None:
    first = await bench.deleted("twice")
    await bench.duty.step()
    row = _values(tables.audit, tenant=TENANT, details=json.dumps({"media_id": "twice"}))
    await add(bench.database, tables.audit, row)
    second = await bench.deleted("twice")
    await bench.duty.step()
    assert (await bench.receipt(first)).kept == {}
    receipt = await bench.receipt(second)
    assert receipt.state is ReceiptState.ERASED
    assert receipt.kept == {"audit": 1, "receipts": 1}


async def test_backups_that_may_hold_it_are_named(bench: Bench, tmp_path: Path) -> None:
    database = database_file(make_settings(tmp_path))
    old, new = tmp_path / "old.tar", tmp_path / "new.tar"
    write_backup(database, old, overwrite=False)
    await bench.submit("in one")
    # The instants of backups are of the machine's clock. That of the bench is far behind.
    bench.clock.advance(1e10)
    receipt_id = await bench.delete("in one")
    await bench.cleaned_up("in one")
    write_backup(database, new, overwrite=False)
    await bench.duty.step()
    receipt = await bench.receipt(receipt_id)
    assert [backup.file for backup in receipt.backups] == [str(new), str(old)]
    assert "2 backups are named" in receipt.beyond["backups"]


async def test_an_unknown_receipt_is_said_so(bench: Bench) -> None:
    with pytest.raises(UnknownReceipt, match="no receipt `rcp_0`"):
        await bench.receipt("rcp_0")


@on_both_databases
async def test_a_tenant_is_deleted_with_all_it_has(configure: Configure) -> None:
    settings = configure()
    async with running(settings) as fleet:
        for n in range(3):
            await fleet.ingest(f"doc {n}", f"Text {n} of it.")
        await fleet.ingest("bob's", "Text of bob.", user_id="bob")
        key = _values(tables.api_keys, prefix="abc", tenant=TENANT, scopes="write")
        await fleet.system.database.write(
            lambda conn: conn.execute(insert(tables.api_keys).values(key)) and None
        )
        operator = fleet.jobs.of_all_tenants()
        door = OperatorAdministration(fleet.system.database, SystemClock(), settings, actor=LOCAL)
        receipt_id = await door.delete_tenant(TENANT)
        async with asyncio.timeout(HANG_SECONDS):
            receipt = await operator.searched_receipt(receipt_id)
        (key_row,) = (await door.of(TENANT).list_keys())[:1]
        ledger = await take_ledger(fleet.system)
        ledger.assert_exact()
        holding = await fleet.system.database.read(lambda conn: rows_with(conn, f"'{TENANT}'"))
        with pytest.raises(UnknownTenant, match="nothing to delete"):  # there is only evidence
            await door.delete_tenant(TENANT)
        (left,) = await fleet.system.database.read(lambda conn: collections.of_tenant(conn, "bob"))
    assert receipt.state is ReceiptState.ERASED
    assert receipt.media_id is None
    assert receipt.held["documents"] == 3
    assert receipt.kept == {"usage": 1, "audit": 1, "api_keys": 1}
    assert found(receipt) == {}
    assert holding == {"receipts", "usage", "audit", "api_keys"}
    assert key_row.revoked_at is not None
    assert len(ledger.held) == 1
    assert left.tenant == "bob"


async def test_a_row_of_a_tenant_that_is_left_in_the_store_is_found(
    bench_with_vectors: Bench, tmp_path: Path
) -> None:
    bench = bench_with_vectors
    await bench.submit("1")
    (collection,) = await bench.database.read(lambda conn: collections.of_tenant(conn, TENANT))
    await bench.store.ensure_collection(collection)
    vectors = np.ones((1, collection.dim), dtype=np.float32)
    await bench.store.upsert(collection, VectorRows(["one"], vectors, [{"media_id": "?"}], None))
    operator = bench.jobs.of_all_tenants()
    settings = make_settings(tmp_path)
    door = OperatorAdministration(bench.database, bench.clock, settings, actor=LOCAL)
    receipt_id = await door.delete_tenant(TENANT)
    assert await door.delete_tenant(TENANT) == receipt_id, "it is under way"
    await bench.duty.step()
    await bench.cleaned_up("1")
    await bench.duty.step()
    assert found(await operator.receipt(receipt_id)) == {VECTOR_STORE: 1}
    await bench.store.delete(collection, ["one"])
    bench.clock.advance(5.0)
    await bench.duty.step()
    assert (await operator.receipt(receipt_id)).state is ReceiptState.ERASED


def test_what_a_receipt_stores_comes_back() -> None:
    findings = Findings(since=1.5, held={"documents": 1}, job_ids=["job_1"], backups=[("/a", 2.0)])
    row = ReceiptRow("rcp_1", TENANT, "1", "d", 1.0, None, Findings.of_json(findings.written()))
    assert row.findings.held == {"documents": 1}
    assert [tuple(backup) for backup in row.findings.backups] == [("/a", 2.0)]


async def test_the_statements_of_a_deletion_do_not_grow_with_its_documents(bench: Bench) -> None:
    counts = []
    for count in (5, 50):
        requests = [
            JobRequest(media_id=f"{count}-{n}", user_id=TENANT, content="Text.") for n in range(count)
        ]
        await bench.jobs.create_jobs(requests)
        with statements() as executed:
            matching = DocumentFilter(media_ids=[one.media_id for one in requests])
            receipt_ids = await bench.jobs.of(TENANT).delete_documents(matching=matching)
        assert len(receipt_ids) == count
        counts.append(len(executed))
        for media_id in receipt_ids:
            await bench.cleaned_up(media_id)
        await bench.duty.step()
        found_for = [await bench.receipt(receipt_id) for receipt_id in receipt_ids.values()]
        assert {receipt.state for receipt in found_for} == {ReceiptState.ERASED}
    assert counts[0] == counts[1]
