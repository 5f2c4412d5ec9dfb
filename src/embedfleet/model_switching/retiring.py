"""Empties the side of a switch that answers no query any more, and counts what is left of it.

Each document keeps its generation on the other side, and what the retired one had is dropped. Every step may
be repeated. A space that was filled beside the route keeps the documents that only it has: they are of the
route, too.
"""

from __future__ import annotations

from collections import Counter
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
    for way in switch.home:
        after = ""
        while True:
            found = await database.read(
                partial(
                    twins.to_settle,
                    tenant=switch.tenant,
                    kept=way.target,
                    dropped=way.source,
                    limit=_DOCUMENTS_PER_UNIT,
                    after=after,
                )
            )
            if not found:
                break
            await database.write(partial(_settle, switch=switch, way=way, document_ids=found, now=now))
            after = found[-1]


async def finish(database: Database, store: VectorStore, switch: ModelSwitch) -> dict[str, Any] | None:
    """Empty the side and return the receipt.

    None: a document is not settled, or a worker has written a vector in between. A collection that keeps no
    document is dropped as a whole, which is a thousand times as quick as a deletion for each document. The
    records follow, so that a crash in between leaves records of vectors that are gone, and not vectors
    without a record. Raises StoreMoved if the vectors move to another store in between, which has these
    collections too: they are emptied there when this is done again.
    """
    part_id = store.part_id
    left = {one: await database.read(partial(_left, switch=switch, dropped=one)) for one in switch.emptied}
    if not all(one.settled for one in left.values()):
        return None
    total: Counter[str] = Counter()
    for dropped, one in left.items():
        if one.stays:
            await _settle_staying(database, switch)
            await _leave_to_deletion_workers(database, switch)
            total.update(documents_left=one.documents, vectors_left=one.vectors)
            continue
        counted = await _dropped(database, store, switch, dropped, part_id)
        if counted is None:
            return None
        total.update(counted)
    keys = ("documents_left", "records_of_vectors_deleted", "cached_vectors_deleted", "vectors_left")
    return {
        "model": ", ".join(one.model for one in left),
        "space": ", ".join(one.space for one in left),
        **{key: total[key] for key in keys},
    }


async def _dropped(
    database: Database, store: VectorStore, switch: ModelSwitch, dropped: Collection, part_id: str | None
) -> dict[str, int] | None:
    """Drop the collection with its records, and return what was deleted. None: vectors were written since."""
    await store.drop_collection(dropped)
    deleted = 0
    async for page in _documents(database, switch):
        drop = partial(_drop_records, document_ids=page, switch=switch, dropped=dropped, part_id=part_id)
        deleted += await database.write(drop)
    cached = await _drop_cached(database, dropped)
    if await store.count(dropped):
        return None
    return {"records_of_vectors_deleted": deleted, "cached_vectors_deleted": cached}


@dataclass(frozen=True, slots=True)
class _Left:
    """What is in use in a collection that is emptied. `settled`: all its documents are those that stay there.

    `stays`: the collection must not be dropped as a whole.
    """

    settled: bool
    stays: bool
    documents: int
    vectors: int


def _left(conn: Connection, switch: ModelSwitch, dropped: Collection) -> _Left:
    """Documents stay that readers see, and that could not be copied to the side that is kept.

    Where the route is kept, the documents stay, too, that only the new space has, and more may come in.
    """
    keeps_own = switch.leaves_route and switch.main.is_route
    in_use = twins.count_in_use(conn, dropped)
    copies = twins.count_copies_in_use(conn, dropped, switch.sources) if keeps_own else in_use
    homes = [way for way in switch.home if way.source == dropped]
    staying = sum(switch_gaps.measure(conn, way).documents for way in homes)
    stays = keeps_own or in_use > 0
    return _Left(copies == staying, stays, in_use, twins.recorded_chunks(conn, dropped))


async def _documents(database: Database, switch: ModelSwitch) -> AsyncIterator[list[str]]:
    """Yield the ids of all documents of the tenant, in pages."""
    page = [""]
    while page:
        look = partial(documents.ids_after, tenant=switch.tenant, after=page[-1], limit=_DOCUMENTS_PER_UNIT)
        page = await database.read(look)
        yield page


def _settle(conn: Connection, switch: ModelSwitch, way: Way, document_ids: Sequence[str], now: float) -> None:
    document_lock.lock(conn, document_ids)
    present = model_switches.get(conn, switch.switch_id)
    if present is None or present.phase is not SwitchPhase.RETIRING:
        return
    ending.supersede(conn, twins.unfinished_jobs_of(conn, document_ids, switch.switch_id), now)
    twins.settle(conn, document_ids, kept=way.target, dropped=way.source)


async def _settle_staying(database: Database, switch: ModelSwitch) -> None:
    """Retire the older versions, on the side that is kept, of the documents that stay on the other one."""

    def settle(conn: Connection, way: Way, document_ids: Sequence[str]) -> None:
        document_lock.lock(conn, document_ids)
        older = twins.live_in(conn, switch_gaps.among(conn, way, document_ids), way.target)
        twins.settle(conn, older, kept=way.source, dropped=way.target)

    async for page in _documents(database, switch):
        for way in switch.home:
            await database.write(partial(settle, way=way, document_ids=page))


def _drop_records(
    conn: Connection,
    document_ids: Sequence[str],
    switch: ModelSwitch,
    dropped: Collection,
    part_id: str | None,
) -> int:
    """Drop what these documents have in the collection. Return how many vectors were recorded.

    The text of a document stays that the other side has not: its job has failed and may be tried again.
    """
    document_lock.lock(conn, document_ids)
    present = model_switches.get(conn, switch.switch_id)
    if present is None or present.phase is not SwitchPhase.RETIRING:
        return 0
    retired = twins.retired_in(conn, document_ids, dropped)
    deleted = twins.drop_vectors(conn, document_ids, dropped)
    chunks.drop(conn, retired)
    batches.drop(conn, retired)
    for way in switch.home:
        if way.source == dropped:
            kept = twins.live_in(conn, document_ids, way.target)
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
