"""Brings a view in step with the documents that changed.

For each document the keeper reads from SQL what the view must hold, and takes the vectors from the main
store. It writes these rows, deletes all other rows of the document, and only then drops the change from the
list. Every step may be repeated, and each repetition ends the same. A change that comes in between stays in
the list.

Of a document that the view shows, all rows with its media id are replaced, also those that another system
wrote before the document moved to this one. Of a document that the view does not show (any more), only the
rows go that this system wrote: it may have moved back, and then the others are its newest version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np
from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.errors import (
    Permanent,
    Remedy,
    SpaceMismatch,
    StorageFull,
    Transient,
    VectorStoreDied,
    ViewUnavailable,
)
from embedfleet.paging import pages
from embedfleet.records import views as view_records
from embedfleet.records.collections import Collection
from embedfleet.records.views import Change
from embedfleet.sql.database import Database
from embedfleet.vectors.port import VectorRows, VectorStore
from embedfleet.vectors.view_port import ViewCollection
from embedfleet.views.expected import Expected, ExpectedRow, present_collection, rows_of, texts_of
from embedfleet.views.view import View

# The documents of a look, and the rows of a write: 500 vectors of 1,024 dimensions are 2 MB.
_DOCUMENTS_AT_ONCE = 100
# After this number of looks the caller has a turn, to tell how far the view is.
_LOOKS_AT_ONCE = 20
_ROWS_AT_ONCE = 500
# A tenant whose place is away or in use is tried again soon. One whose collection holds vectors of another
# model needs a person, and so does a document whose vectors are lost.
_BUSY_SECONDS = 2.0
_REFUSED_SECONDS = 30.0
_LOSS_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Truth:
    """What SQL says of some documents of a tenant. `collection` is None if the view shows none of them."""

    collection: Collection | None
    rows: Sequence[ExpectedRow]


@dataclass(frozen=True, slots=True)
class _Rest:
    """Why something waits, and until when (Unix seconds)."""

    failure: ViewUnavailable
    until: float


class ViewKeeper:
    """Writes one view. It belongs to one event loop, and one keeper writes a view at a time."""

    def __init__(self, view: View, *, database: Database, store: VectorStore, clock: Clock) -> None:
        """`store` is the main vector store."""
        self.view = view
        self._database = database
        self._store = store
        self._clock = clock
        # What cannot be written now: why, and when to try again, by tenant and by document.
        self._resting_tenants: dict[str, _Rest] = {}
        self._refused: dict[str, _Rest] = {}
        # Since when these documents lack vectors, and when to look again, by document.
        self._incomplete: dict[str, tuple[float, float]] = {}

    async def catch_up(self) -> int:
        """Take in waiting changes of up to 2,000 documents. Return how many were taken in; 0: none waits.

        Tenants whose place cannot be written, and documents that it refuses, are left for later. As long as
        there are any, ViewUnavailable is raised at the end, after all others were taken in.
        """
        done = 0
        try:
            for _ in range(_LOOKS_AT_ONCE):
                if not (changes := await self._waiting()):
                    break
                changes.sort(key=lambda change: change.tenant)
                for tenant, mine in groupby(changes, key=lambda change: change.tenant):
                    done += await self._take_in_or_leave(tenant, list(mine))
        finally:
            await self.view.store.rest()
        self._raise_what_is_left()
        return done

    def _raise_what_is_left(self) -> None:
        for rest in (*self._resting_tenants.values(), *self._refused.values()):
            raise rest.failure
        if (loss := self._lasting_loss()) is not None:
            raise loss

    async def _waiting(self) -> list[Change]:
        now = self._clock.now()
        for resting in (self._resting_tenants, self._refused):
            for over in [name for name, rest in resting.items() if rest.until <= now]:
                del resting[over]
        incomplete = [document for document, (_, until) in self._incomplete.items() if now < until]
        look = partial(
            view_records.waiting,
            name=self.view.name,
            limit=_DOCUMENTS_AT_ONCE,
            tenants_left_out=list(self._resting_tenants),
            documents_left_out=[*self._refused, *incomplete],
        )
        return await self._database.read(look)

    async def _take_in_or_leave(self, tenant: str, changes: Sequence[Change]) -> int:
        """Bring these documents in step, except for those that cannot be written now. Returns their number.

        Raises ViewUnavailable if the place of all tenants is away.
        """
        try:
            return await self._take_in(tenant, changes)
        except ViewUnavailable as exc:
            cause, now = exc.__cause__, self._clock.now()
            passes = isinstance(cause, Transient | VectorStoreDied)
            if passes and not self.view.place_of_each_tenant:
                raise
            is_refusal = isinstance(cause, Permanent) and not isinstance(cause, SpaceMismatch)
            if is_refusal and len(changes) > 1:  # one of them is refused: find out which
                return sum([await self._take_in_or_leave(tenant, [one]) for one in changes])
            if is_refusal:
                self._refused[changes[0].document_id] = _Rest(exc, now + _REFUSED_SECONDS)
            else:
                seconds = _BUSY_SECONDS if passes else _REFUSED_SECONDS
                self._resting_tenants[tenant] = _Rest(exc, now + seconds)
            return 0

    async def _take_in(self, tenant: str, changes: Sequence[Change]) -> int:
        """Bring these documents of a tenant in step. Returns how many are in step now."""
        if not self.view.shows(tenant):
            return await self._settle(changes)
        truth = await self._database.read(lambda conn: self._truth(conn, tenant, changes))
        collection = self.view.collection(tenant)
        if truth.collection is not None and truth.rows:
            dim, space = truth.collection.dim, truth.collection.space
            collection = self.view.collection(tenant, dim=dim, space=space)
            with self._named():
                await self.view.store.ensure(collection)
        lost = await self._write(collection, truth)
        complete = [one for one in changes if one.document_id not in lost]
        await self._delete_others(collection, truth, complete)
        return await self._settle(complete)

    def _truth(self, conn: Connection, tenant: str, changes: Sequence[Change]) -> _Truth:
        collection = present_collection(conn, tenant, self.view.model)
        if collection is None:
            return _Truth(None, ())
        ids = [change.document_id for change in changes]
        return _Truth(collection, rows_of(conn, self.view, collection, ids))

    async def _write(self, collection: ViewCollection, truth: _Truth) -> set[str]:
        """Write the rows. Returns the documents of which a vector or a text is not there."""
        lost: set[str] = set()
        if truth.collection is None:
            return lost
        for page in pages(truth.rows, _ROWS_AT_ONCE):
            texts = await self._database.read(partial(texts_of, rows=page))
            ids, vectors = await self._store.vectors(truth.collection, [row.chunk.chunk_id for row in page])
            place_of = {chunk_id: place for place, chunk_id in enumerate(ids)}
            whole = [
                (row, text, place_of[row.chunk.chunk_id])
                for row, text in zip(page, texts, strict=True)
                if text is not None and row.chunk.chunk_id in place_of
            ]
            kept = {row.row_id for row, _, _ in whole}
            lost |= {row.generation.document_id for row in page if row.row_id not in kept}
            if whole:
                rows = VectorRows(
                    ids=[row.row_id for row, _, _ in whole],
                    vectors=np.ascontiguousarray(vectors[[place for _, _, place in whole]]),
                    metadatas=[row.metadata for row, _, _ in whole],
                    documents=[text for _, text, _ in whole],
                )
                with self._named():
                    await self.view.store.upsert(collection, rows)
        self._note_incomplete(lost)
        return lost

    def _note_incomplete(self, lost: set[str]) -> None:
        """Leave these documents for later: each just changes again, or the main store has lost vectors."""
        now = self._clock.now()
        for document_id in lost:
            since, _ = self._incomplete.get(document_id, (now, now))
            self._incomplete[document_id] = since, now + _BUSY_SECONDS

    def _lasting_loss(self) -> ViewUnavailable | None:
        """Return the failure to tell if documents have lacked vectors for longer than a change takes."""
        now = self._clock.now()
        lasting = [one for one, (since, _) in self._incomplete.items() if now - since > _LOSS_SECONDS]
        if not lasting:
            return None
        return ViewUnavailable(
            f"view `{self.view.name}` waits: the vector store lacks vectors of {len(lasting)} documents "
            f"({lasting[0]}): verify it and mend it",
            remedy=Remedy.REBUILD_VECTORS,
        )

    async def _delete_others(
        self, collection: ViewCollection, truth: _Truth, changes: Sequence[Change]
    ) -> None:
        """Delete the rows of the documents that are not those of now: after the new ones are written."""
        view, expected = self.view, Expected.of(truth.rows)
        media_ids = [change.media_id for change in changes]
        with self._named():
            found = await view.store.labels_with(collection, view.layout.document_key, media_ids)
            surplus = [row_id for row_id, labels in found.items() if expected.forbids(view, row_id, labels)]
            if surplus:
                await view.store.delete(collection, surplus)

    async def _settle(self, changes: Sequence[Change]) -> int:
        late = await self._database.write(
            partial(view_records.settle, name=self.view.name, done=list(changes))
        )
        for change in changes:
            self._incomplete.pop(change.document_id, None)
        return len(changes) - len(late)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Raise ViewUnavailable, which names the view, for what its store raises."""
        try:
            yield
        except (Transient, VectorStoreDied, StorageFull, SpaceMismatch, Permanent) as exc:
            raise ViewUnavailable(f"view `{self.view.name}` waits: {exc}") from exc


def recipes_of(views: Sequence[View]) -> Mapping[str, str]:
    """Return what decides the content of each view, by its name."""
    return {view.name: view.recipe for view in views}
