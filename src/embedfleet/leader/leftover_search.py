"""Searches every place where something of a deleted document or tenant may be left.

The places are the tables of SQL (`records.traces`), the vector store by the name of the document, the tasks
that the broker knows, the dead tasks that it keeps with their payloads, and the views for others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from embedfleet.queue.broker import Broker, DeadTask, TenantShare
from embedfleet.queue_schemas import Stage
from embedfleet.records import collections, shadows, traces
from embedfleet.records.receipts import ReceiptRow
from embedfleet.records.traces import DocumentKeys
from embedfleet.sql.database import Database
from embedfleet.vectors.port import TenantSpace, VectorStore
from embedfleet.views.leftovers import ViewLeftovers, is_place_of_view

VECTOR_STORE = "vector_store"
QUEUES = "queues"
DEAD_TASKS = "dead_tasks"

# The most dead tasks of a stage that a search reads, as they come with their payloads. Any further ones may
# be what is searched for, so they count as left.
_DEAD_READ = 1_000
# What the name of its document is called in the metadata of the vector store.
_NAME = "media_id"
# The table of the changes that views must still take in.
_CHANGES_OF_VIEWS = "view_changes"
_OTHER_STORE = "store_copies"
_EVIDENCE = frozenset(table.name for table in traces.KEPT)


@dataclass(frozen=True, slots=True)
class Found:
    """What one search found, in numbers by place. `kept` stays as evidence."""

    left: Mapping[str, int]
    kept: Mapping[str, int]

    @property
    def nothing(self) -> bool:
        return not any(self.left.values())

    @property
    def waits_for_move(self) -> bool:
        """Whether it is left only in the other store of a move, from where the mover deletes it."""
        return self.in_hand_only and bool(self.left.get(_OTHER_STORE))

    @property
    def in_hand_only(self) -> bool:
        """Whether it is left only where it goes from soon: queues, views, and the other store of a move."""
        places = {place for place, count in self.left.items() if count}
        return bool(places) and all(
            place in (QUEUES, _CHANGES_OF_VIEWS, _OTHER_STORE) or is_place_of_view(place) for place in places
        )


class LeftoverSearch:
    """Looks into every place. It belongs to one event loop."""

    def __init__(
        self, *, database: Database, broker: Broker, store: VectorStore, views: ViewLeftovers | None = None
    ) -> None:
        self._database = database
        self._broker = broker
        self._store = store
        self._views = views or ViewLeftovers()

    async def of_documents(self, tenant: str, rows: Sequence[ReceiptRow]) -> dict[str, Found]:
        """Search for the documents of these receipts, all of one tenant. Returns by receipt id."""
        keys = {row.receipt_id: _keys(row) for row in rows}
        media_ids = [one.media_id for one in keys.values()]
        await self._database.write(partial(_forget, tenant=tenant, media_ids=media_ids))
        owned, naming = await self._database.read(
            lambda conn: (
                traces.rows_of_documents(conn, list(keys.values())),
                traces.rows_naming_documents(conn, tenant, media_ids),
            )
        )
        stored = await self._stored(tenant, media_ids)
        in_views = await self._views.of_documents(tenant, media_ids)
        queued = await self._queued(keys)
        by_job = {job: one for one, document in keys.items() for job in _known_as(document)}
        dead = await self._dead(lambda task: by_job.get(task.task.job_id))
        found: dict[str, Found] = {}
        for receipt_id, one in keys.items():
            counts = {
                **owned[one.document_id],
                **naming[one.media_id],
                VECTOR_STORE: stored[one.media_id],
                QUEUES: queued[receipt_id],
                DEAD_TASKS: dead[receipt_id] + dead[None],
                **{place: rows[one.media_id] for place, rows in in_views.items()},
            }
            counts["receipts"] -= 1  # this receipt itself
            found[receipt_id] = _divided(counts)
        return found

    async def of_tenant(self, row: ReceiptRow) -> Found:
        """Search for a tenant whose documents were deleted."""
        counts = await self._database.read(lambda conn: traces.rows_of_tenant(conn, row.tenant))
        spaces = [TenantSpace(row.tenant, space, dim) for space, dim in row.findings.spaces]
        ready = [
            stage
            for stage in Stage
            # A room of one task: the tenant fills its share of it if it has any ready task.
            if await self._broker.crowded(stage, [row.tenant], max_tasks=1, max_cost=1)
        ]
        known = await self._broker.known_jobs(row.findings.job_ids)
        dead = await self._dead(lambda task: row.tenant if task.task.tenant == row.tenant else None)
        counts |= {
            VECTOR_STORE: sum([await self._store.count(space) for space in spaces]),
            QUEUES: max(len(known), len(ready)),
            DEAD_TASKS: dead[row.tenant] + dead[None],
            **await self._views.of_tenant(row.tenant),
        }
        counts["receipts"] -= 1
        return _divided(counts)

    async def forget_deleted(self, tenants: Set[str]) -> None:
        """Have the vector store and the views drop what they keep of deleted rows of these tenants."""
        theirs = await self._database.read(
            lambda conn: [one for tenant in sorted(tenants) for one in collections.of_tenant(conn, tenant)]
        )
        # In one call: a store that has many tenants in one table goes through it once.
        await self._store.forget_deleted(*theirs)
        for tenant in sorted(tenants):
            await self._views.forget_deleted(tenant)

    async def forget_tenant(self, tenant: str) -> None:
        """Have the broker forget the share of a tenant."""
        await self._broker.set_shares({tenant: TenantShare()})

    async def _stored(self, tenant: str, media_ids: Sequence[str]) -> Counter[str]:
        stored: Counter[str] = Counter()
        for collection in await self._database.read(lambda conn: collections.of_tenant(conn, tenant)):
            for media_id, ids in (await self._store.ids_with(collection, _NAME, media_ids)).items():
                stored[media_id] += len(ids)
        return stored

    async def _queued(self, keys: Mapping[str, DocumentKeys]) -> dict[str, int]:
        """Count the jobs of each document that the broker knows. A deletion task counts as a job."""
        known = await self._broker.known_jobs({job for one in keys.values() for job in _known_as(one)})
        return {receipt_id: len(known.intersection(_known_as(one))) for receipt_id, one in keys.items()}

    async def _dead(self, owner: Callable[[DeadTask], str | None]) -> Counter[str | None]:
        """Drop the dead tasks that have an owner, and count those that are left by owner.

        Tasks that could not be looked at count for None.
        """
        left: Counter[str | None] = Counter()
        for stage in Stage:
            if not (await self._broker.depth(stage)).dead:
                continue
            seen = await self._broker.dead(stage, limit=_DEAD_READ)
            await self._broker.drop_dead(stage, [one.task.id for one in seen if owner(one) is not None])
            left.update(
                name
                for one in await self._broker.dead(stage, limit=_DEAD_READ)
                if (name := owner(one)) is not None
            )
            left[None] += max(0, (await self._broker.depth(stage)).dead - _DEAD_READ)
        return left


def _forget(conn: Connection, tenant: str, media_ids: Sequence[str]) -> None:
    """Drop the rows that name these documents and are no evidence."""
    traces.forget_answers(conn, tenant, media_ids)
    shadows.forget_documents(conn, tenant, media_ids)


def _keys(row: ReceiptRow) -> DocumentKeys:
    assert row.media_id is not None
    assert row.document_id is not None
    return DocumentKeys(row.media_id, row.document_id, row.findings.generation_ids, row.findings.job_ids)


def _known_as(document: DocumentKeys) -> set[str]:
    """Return what tasks of the document have as their job. That of a deletion task is the document's id."""
    return {*document.job_ids, document.document_id}


def _divided(counts: Mapping[str, int]) -> Found:
    return Found(
        left={place: count for place, count in counts.items() if place not in _EVIDENCE},
        kept={place: count for place, count in counts.items() if place in _EVIDENCE and count},
    )
