"""Compares a view with SQL and the main store, row by row, also while a leader writes it.

A document that has changes which the view must still take in is not judged. For any other one, a difference
counts only if the document did not change from before the look until after it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet.errors import EmbedfleetError
from embedfleet.paging import pages
from embedfleet.records import documents, identity
from embedfleet.records import views as view_records
from embedfleet.sql.database import Database
from embedfleet.vectors.checksums import same_direction
from embedfleet.vectors.port import VectorStore
from embedfleet.vectors.view_port import ViewCollection
from embedfleet.views.expected import Expected, ExpectedRow, present_collection, rows_of, texts_of
from embedfleet.views.layout import DOCUMENT
from embedfleet.views.view import View

_DOCUMENTS_PER_PAGE = 100
_ROWS_PER_PAGE = 500

Progress = Callable[[int], None]
"""Called with the number of rows that were compared so far."""


@dataclass(slots=True)
class ViewDifferences:
    """How a tenant's collection in a view differs from SQL: lists of row ids.

    `missing`: the view must hold the row and does not. `extra`: it must not hold it. `wrong`: it holds
    another vector, text or metadata. `behind` counts documents that the view must still take in: they are
    not judged. `problem` says why the view could not be read; None if it could.
    """

    view: str
    tenant: str
    name_in_store: str
    rows: int = 0
    behind: int = 0
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    # The documents of the missing and the wrong rows.
    documents: set[str] = field(default_factory=set)
    problem: str | None = None

    @property
    def count(self) -> int:
        """How many differences a reader could notice."""
        return len(self.missing) + len(self.extra) + len(self.wrong) + (self.problem is not None)


@dataclass(slots=True)
class _Look:
    """What one look at some documents found."""

    expected: Expected
    missing: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)

    @property
    def suspects(self) -> set[str]:
        return {*self.missing.values(), *self.wrong.values()}


class ViewVerification:
    """Reads and changes nothing. Keeps the ids of one collection and a page of its rows in memory."""

    def __init__(self, database: Database, store: VectorStore) -> None:
        """`store` is the main vector store."""
        self._database = database
        self._store = store

    async def check(self, view: View, tenant: str, *, progress: Progress | None = None) -> ViewDifferences:
        """Compare all rows of the tenant. A view that cannot be read has a `problem`."""
        collection = view.collection(tenant)
        found = ViewDifferences(view.name, tenant, collection.name)
        if not view.shows(tenant):
            return found
        try:
            await self._check(view, collection, found, progress)
        except EmbedfleetError as exc:
            found.problem = str(exc)
        finally:
            await view.store.rest()
        return found

    async def _check(
        self, view: View, collection: ViewCollection, found: ViewDifferences, progress: Progress | None
    ) -> None:
        suspects: set[str] = set()
        row_ids: set[str] = set()
        media_ids: set[str] = set()
        async for page in self._document_pages(found.tenant):
            look = await self._look(view, collection, page)
            suspects |= look.suspects
            row_ids |= look.expected.row_ids
            media_ids |= look.expected.media_ids
            found.rows += len(look.expected.row_ids)
            if progress is not None:
                progress(found.rows)
        forbidden = await self._forbidden(view, collection, Expected(row_ids, media_ids))
        for suspect_page in pages(sorted(suspects | forbidden.keys()), _DOCUMENTS_PER_PAGE):
            rows = [row_id for one in suspect_page for row_id in forbidden.get(one, ())]
            await self._judge(view, collection, suspect_page, rows, found)

    async def _forbidden(
        self, view: View, collection: ViewCollection, expected: Expected
    ) -> dict[str, list[str]]:
        """Return the rows that the view must not hold, by their document."""
        found: dict[str, list[str]] = {}
        async for ids, labels in view.store.labels(collection):
            for row_id, one in zip(ids, labels, strict=True):
                if expected.forbids(view, row_id, one):
                    found.setdefault(_document_of(view, collection.tenant, one), []).append(row_id)
        return found

    async def _document_pages(self, tenant: str) -> AsyncIterator[list[str]]:
        after = ""
        while page := await self._database.read(
            partial(documents.ids_after, tenant=tenant, after=after, limit=_DOCUMENTS_PER_PAGE)
        ):
            yield page
            after = page[-1]

    async def _look(self, view: View, collection: ViewCollection, document_ids: Sequence[str]) -> _Look:
        """Compare the rows that the view must hold of these documents."""

        def read(conn: Connection) -> list[ExpectedRow]:
            main = present_collection(conn, collection.tenant, view.model)
            return [] if main is None else rows_of(conn, view, main, document_ids)

        rows = await self._database.read(read)
        look = _Look(Expected.of(rows))
        for page in pages(rows, _ROWS_PER_PAGE):
            await self._compare(view, collection, page, look)
        return look

    async def _compare(
        self, view: View, collection: ViewCollection, page: Sequence[ExpectedRow], look: _Look
    ) -> None:
        texts = await self._database.read(partial(texts_of, rows=page))
        true_vectors = await self._vectors(page)
        held = await view.store.rows(collection, [row.row_id for row in page])
        place_of = {row_id: place for place, row_id in enumerate(held.ids)}
        for row, text in zip(page, texts, strict=True):
            document_id = row.generation.document_id
            if row.row_id not in place_of:
                look.missing[row.row_id] = document_id
                continue
            place = place_of[row.row_id]
            true_vector = true_vectors.get(row.chunk.chunk_id)
            if not (
                held.texts[place] == text
                and _holds(held.metadatas[place], row.metadata)
                and view.layout.is_ours(held.metadatas[place])
                # A vector that the main store lacks is a difference of the main store.
                and (true_vector is None or _same(held.vectors[place], true_vector))
            ):
                look.wrong[row.row_id] = document_id

    async def _vectors(self, page: Sequence[ExpectedRow]) -> Mapping[str, NDArray[np.float32]]:
        [main] = {row.generation.collection for row in page}
        ids, vectors = await self._store.vectors(main, [row.chunk.chunk_id for row in page])
        return dict(zip(ids, vectors, strict=True))

    async def _judge(
        self,
        view: View,
        collection: ViewCollection,
        document_ids: Sequence[str],
        forbidden: Sequence[str],
        found: ViewDifferences,
    ) -> None:
        """Look at these documents again, and note the differences of those that did not change.

        `forbidden` are rows of theirs that the view must not hold, by the first look.
        """
        stamps = partial(view_records.stamps, name=view.name, document_ids=document_ids)
        before = await self._database.read(stamps)
        look = await self._look(view, collection, document_ids)
        held = await view.store.rows(collection, forbidden)
        extra = {
            row_id: _document_of(view, collection.tenant, labels)
            for row_id, labels in zip(held.ids, held.metadatas, strict=True)
            if look.expected.forbids(view, row_id, labels)
        }
        after = await self._database.read(stamps)
        steady = {one for one in document_ids if before.get(one) == after.get(one) and not _waits(after, one)}
        found.behind += sum(_waits(after, one) for one in document_ids)
        found.missing += [row_id for row_id, owner in look.missing.items() if owner in steady]
        found.wrong += [row_id for row_id, owner in look.wrong.items() if owner in steady]
        found.extra += [row_id for row_id, owner in extra.items() if owner in steady]
        found.documents |= look.suspects & steady


def _document_of(view: View, tenant: str, labels: Mapping[str, Any]) -> str:
    """Return the id of the document of a row: the one that this system noted, or that of its media id."""
    noted = labels.get(DOCUMENT)
    return str(noted or identity.document_id(tenant, str(labels.get(view.layout.document_key))))


def _waits(stamps: Mapping[str, view_records.Stamp], document_id: str) -> bool:
    stamp = stamps.get(document_id)
    return stamp is not None and stamp.waits


def _holds(held: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Whether all expected entries are there. The reader may have added others."""
    return all(key in held and held[key] == value for key, value in expected.items())


def _same(left: NDArray[np.float32], right: NDArray[np.float32]) -> bool:
    return left.shape == right.shape and bool(same_direction(left[None, :], right[None, :])[0])
