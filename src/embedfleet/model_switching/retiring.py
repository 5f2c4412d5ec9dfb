"""Empties the space that answers no query any more, and counts what is left of it.

Each document keeps its generation in the other space, and what the retired one had is dropped. Every step may
be repeated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection

from embedfleet.lifecycle import ending
from embedfleet.records import (
    batches,
    chunks,
    documents,
    embedding_cache,
    model_switches,
    segments,
    store_fence,
    switch_gaps,
    twins,
)
from embedfleet.records.collections import Collection
from embedfleet.records.model_switches import ModelSwitch
from embedfleet.records.switch_gaps import Way
from embedfleet.sql import document_lock
from embedfleet.sql.database import Database
from embedfleet.sql.states import SwitchPhase
from embedfleet.vectors.port import VectorStore

# Other units wait for a unit, so it takes some hundredths of a second at most.
_DOCUMENTS_PER_UNIT = 200
_CACHED_VECTORS_PER_UNIT = 5_000


async def settle_all(database: Database, switch: ModelSwitch, now: float) -> None:
    """Settle all documents that can be settled now."""
    after = ""
    while True:
        found = await database.read(
            partial(
                twins.to_settle,
                tenant=switch.tenant,
                kept=switch.main,
                dropped=switch.other,
                limit=_DOCUMENTS_PER_UNIT,
                after=after,
            )
        )
        if not found:
            return
        await database.write(partial(_settle, switch=switch, document_ids=found, now=now))
        after = found[-1]


async def finish(database: Database, store: VectorStore, switch: ModelSwitch) -> dict[str, Any] | None:
    """Empty the space and return the receipt.

    None: a document is not settled, or a worker has written a vector in between. If the space keeps no
    document, its collection is dropped as a whole, which is a thousand times as quick as a deletion for each
    document. The records follow, so that a crash in between leaves records of vectors that are gone, and not
    vectors without a record. Raises StoreMoved if the vectors move to another store in between, which has
    this collection too: it is emptied there when this is done again.
    """
    dropped = switch.other
    part_id = store.part_id
    left = await database.read(partial(_left, switch=switch))
    if not left.settled:
        return None
    if left.documents:
        await _settle_staying(database, switch)
        await _leave_to_deletion_workers(database, switch)
        return {**_names(dropped), "documents_left": left.documents, "vectors_left": left.vectors}
    await store.drop_collection(dropped)
    deleted = 0
    async for page in _documents(database, switch):
        drop = partial(_drop_records, document_ids=page, switch=switch, part_id=part_id)
        deleted += await database.write(drop)
    cached = await _drop_cached(database, dropped)
    if await store.count(dropped):
        return None
    return {
        **_names(dropped),
        "documents_left": 0,
        "records_of_vectors_deleted": deleted,
        "cached_vectors_deleted": cached,
        "vectors_left": 0,
    }


@dataclass(frozen=True, slots=True)
class _Left:
    """What is in use in the space that is emptied. `settled`: all its documents are those that stay there."""

    settled: bool
    documents: int
    vectors: int


def _left(conn: Connection, switch: ModelSwitch) -> _Left:
    """Documents stay that readers see, and that could not be copied into the space that is kept."""
    in_use = twins.count_in_use(conn, switch.other)
    staying = switch_gaps.measure(conn, switch.other, switch.main).documents
    return _Left(in_use == staying, in_use, twins.recorded_chunks(conn, switch.other))


def _names(collection: Collection) -> dict[str, Any]:
    return {"model": collection.model, "space": collection.space}


async def _documents(database: Database, switch: ModelSwitch) -> AsyncIterator[list[str]]:
    """Yield the ids of all documents of the tenant, in pages."""
    page = [""]
    while page:
        look = partial(documents.ids_after, tenant=switch.tenant, after=page[-1], limit=_DOCUMENTS_PER_UNIT)
        page = await database.read(look)
        yield page


def _settle(conn: Connection, switch: ModelSwitch, document_ids: Sequence[str], now: float) -> None:
    document_lock.lock(conn, document_ids)
    present = model_switches.get(conn, switch.switch_id)
    if present is None or present.phase is not SwitchPhase.RETIRING:
        return
    ending.supersede(conn, twins.unfinished_jobs_of(conn, document_ids, switch.switch_id), now)
    twins.settle(conn, document_ids, kept=switch.main, dropped=switch.other)


async def _settle_staying(database: Database, switch: ModelSwitch) -> None:
    """Retire the older versions, in the space that is kept, of the documents that stay in the other one."""
    way = Way(switch.switch_id, switch.other, switch.main)

    def settle(conn: Connection, document_ids: Sequence[str]) -> None:
        document_lock.lock(conn, document_ids)
        older = twins.live_in(conn, switch_gaps.among(conn, way, document_ids), switch.main)
        twins.settle(conn, older, kept=switch.other, dropped=switch.main)

    async for page in _documents(database, switch):
        await database.write(partial(settle, document_ids=page))


def _drop_records(
    conn: Connection, document_ids: Sequence[str], switch: ModelSwitch, part_id: str | None
) -> int:
    """Drop what these documents have in the space. Return how many vectors were recorded.

    The text of a document stays that the other space has not: its job has failed and may be tried again.
    """
    dropped = switch.other
    document_lock.lock(conn, document_ids)
    present = model_switches.get(conn, switch.switch_id)
    if present is None or present.phase is not SwitchPhase.RETIRING:
        return 0
    retired = twins.retired_in(conn, document_ids, dropped)
    deleted = twins.drop_vectors(conn, document_ids, dropped)
    chunks.drop(conn, retired)
    batches.drop(conn, retired)
    kept = twins.live_in(conn, document_ids, switch.main)
    segments.drop(conn, twins.retired_in(conn, kept, dropped))
    store_fence.require_open(conn, part_id)
    return deleted


async def _leave_to_deletion_workers(database: Database, switch: ModelSwitch) -> None:
    """Have the vectors of the retired generations deleted one by one: the space keeps others."""

    def leave(conn: Connection, document_ids: Sequence[str]) -> None:
        document_lock.lock(conn, document_ids)
        ending.leave_rest_to_cleanup(conn, document_ids)

    async for page in _documents(database, switch):
        await database.write(partial(leave, document_ids=page))


async def _drop_cached(database: Database, dropped: Collection) -> int:
    cached = 0
    drop = partial(
        embedding_cache.drop_oldest, collection_id=dropped.collection_id, rows=_CACHED_VECTORS_PER_UNIT
    )
    while gone := await database.write(drop):
        cached += gone
    return cached
