"""The vector store port over a Qdrant server, which every process of a fleet shares."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from embedfleet.errors import InvalidRequest, SpaceMismatch, VectorStoreUnavailable
from embedfleet.paging import halves, pages
from embedfleet.vectors.port import CollectionKey, Hit, Metadata, StoreDebt, VectorRows, VectorStore
from embedfleet.vectors.qdrant import layout, upkeep
from embedfleet.vectors.qdrant.connection import Connection
from embedfleet.vectors.qdrant.errors import CollectionMissing, RequestTooLarge
from embedfleet.vectors.qdrant.register import Register
from embedfleet.vectors.server_address import ServerAddress

_REQUEST_BYTES = 4 * 2**20
"""About the most that a write sends. Qdrant takes 32 MiB. A proxy that takes less gets smaller requests."""

_FLOAT_BYTES = 20
_PAYLOAD_BYTES = 4_096
"""What a number of a vector and the rest of a row take as JSON, roughly."""

_IDS_AT_ONCE = 1_000

_SEARCH_WIDTH = 128
"""`hnsw_ef` of a query, at least: how many rows it looks at. Qdrant takes 100 by itself."""


class QdrantStore(VectorStore):
    """The store of a fleet. Cancelling a call may leave its write done or not done.

    Any number of processes may use one server. When two of them write one row at the same moment, one with
    texts and one without, the row may lose its text. After a server was away, the next call uses it again.

    Two promises of the port hold in part. *Durable*: a write is in the server's log before `upsert` returns,
    so it survives the server's death; the log is synced to the disk every few seconds, so what a power cut
    takes must be on another replica. *Forgotten*: Qdrant has no call that empties its log, which keeps the
    texts of deleted rows until newer writes have filled it.
    """

    def __init__(self, connection: Connection) -> None:
        """Create a store over a connection that was checked."""
        self._connection = connection
        self._client = connection.client
        self._speaking = connection.speaking
        self._register = Register(connection)

    @classmethod
    async def open(cls, address: ServerAddress, *, timeout_seconds: float = 30.0) -> Self:
        """Connect, with the errors of `Connection.open`."""
        return cls(await Connection.open(address, timeout_seconds=timeout_seconds))

    def name_in_store(self, collection: CollectionKey) -> str:
        return f"{layout.rows_collection(collection)}, tenant {collection.tenant}"

    async def ensure_collection(self, collection: CollectionKey) -> None:
        name = layout.rows_collection(collection)
        with self._speaking():
            dim = await self._register.dim_of(collection)
            if dim is None:
                await self._register.require_mark()
            if dim is None or (dim == collection.dim and not await self._client.collection_exists(name)):
                # Rows first: what the register has can be written to.
                await self._create_rows_collection(name, collection.dim)
                dim = await self._register.enter(collection)
        if dim != collection.dim:
            raise self._mismatch(collection, held=dim, given=collection.dim)

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        self._require_dim(collection, rows.vectors.shape[1])
        latest = list({row_id: position for position, row_id in enumerate(rows.ids)}.values())
        with self._speaking():
            if await self._register.dim_of(collection) is None:
                raise CollectionMissing(
                    f"collection {self.name_in_store(collection)} is not there: ensure it, then repeat"
                )
            at_once = max(1, _REQUEST_BYTES // (_FLOAT_BYTES * collection.dim + _PAYLOAD_BYTES))
            for part in pages(latest, at_once):
                await self._upsert(collection, rows, part)

    async def update_metadata(
        self, collection: CollectionKey, ids: Sequence[str], metadatas: Sequence[Metadata]
    ) -> None:
        wanted = dict(zip(ids, metadatas, strict=True))
        async with self._if_there():
            for part in pages(list(wanted), _IDS_AT_ONCE):
                answers = await self._client.batch_update_points(
                    layout.rows_collection(collection),
                    _replacements(collection.tenant, {row_id: wanted[row_id] for row_id in part}),
                    wait=True,
                )
                for answer in answers:
                    self._connection.require_done(answer)

    async def vectors(
        self, collection: CollectionKey, ids: Sequence[str]
    ) -> tuple[list[str], NDArray[np.float32]]:
        found: list[str] = []
        parts = [np.empty((0, collection.dim), dtype=np.float32)]
        async with self._if_there():
            for part in pages(list(dict.fromkeys(ids)), _IDS_AT_ONCE):
                by_point = {layout.row_point(collection.tenant, row_id): row_id for row_id in part}
                points = await self._client.retrieve(
                    layout.rows_collection(collection), list(by_point), with_payload=False, with_vectors=True
                )
                if points:
                    found += [by_point[str(point.id)] for point in points]
                    parts.append(np.array([point.vector for point in points], dtype=np.float32))
        return found, np.concatenate(parts)

    async def ids_with(
        self, collection: CollectionKey, key: str, values: Sequence[str]
    ) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        field = layout.metadata_field(key)
        async with self._if_there():
            for part in pages(list(dict.fromkeys(values)), _IDS_AT_ONCE):
                named = models.FieldCondition(
                    key=layout.metadata_path(key), match=models.MatchAny(any=list(part))
                )
                async for points in self._points(
                    collection, named, page=_IDS_AT_ONCE, payload=[layout.ROW_ID, layout.METADATA]
                ):
                    for point in points:
                        value = point.payload[layout.METADATA][field]
                        if isinstance(value, str):  # a list matches too, if one of its texts does
                            found.setdefault(value, []).append(point.payload[layout.ROW_ID])
        return found

    async def delete(self, collection: CollectionKey, ids: Sequence[str]) -> None:
        async with self._if_there():
            for part in pages(list(dict.fromkeys(ids)), _IDS_AT_ONCE):
                points = [layout.row_point(collection.tenant, row_id) for row_id in part]
                await self._delete(collection, models.PointIdsList(points=points))

    async def forget_deleted(self, *collections: CollectionKey) -> None:
        """Do nothing: the class says what Qdrant keeps."""

    async def query(self, collection: CollectionKey, vector: NDArray[np.float32], *, limit: int) -> list[Hit]:
        if limit < 1:
            raise InvalidRequest(f"limit must be at least 1, not {limit}")
        if not np.isfinite(vector).all():
            raise InvalidRequest("the query vector holds a value that is not finite")
        self._require_dim(collection, len(vector))
        async with self._if_there():
            answer = await self._client.query_points(
                layout.rows_collection(collection),
                query=vector.tolist(),
                query_filter=_of(collection.tenant),
                search_params=models.SearchParams(hnsw_ef=max(_SEARCH_WIDTH, 2 * limit)),
                limit=limit,
                with_payload=[layout.ROW_ID],
            )
            return [
                Hit.from_distance(point.payload[layout.ROW_ID], 1.0 - point.score) for point in answer.points
            ]
        return []

    async def scan(
        self, collection: CollectionKey, *, page: int = 1000
    ) -> AsyncIterator[tuple[list[str], NDArray[np.float32]]]:
        # In the order of the points' ids, each page from where the last one ended: no write during the scan
        # hides a row or shows it twice, as it would with an offset.
        async with self._if_there():
            async for points in self._points(collection, page=page, payload=[layout.ROW_ID], vectors=True):
                yield (
                    [point.payload[layout.ROW_ID] for point in points],
                    np.array([point.vector for point in points], dtype=np.float32),
                )

    async def drop_collection(self, collection: CollectionKey) -> None:
        async with self._if_there():
            await self._delete(collection, models.FilterSelector(filter=_of(collection.tenant)))
        # Last: who ensures the collection again may write at once, and these rows are to stay.
        await self._register.remove(collection)

    async def count(self, collection: CollectionKey) -> int:
        async with self._if_there():
            answer = await self._client.count(
                layout.rows_collection(collection), count_filter=_of(collection.tenant), exact=True
            )
            return int(answer.count)
        return 0

    async def debt(self) -> StoreDebt:
        """Return the rows that the server's optimisers have still to index, as it tells them.

        Of a collection whose optimisers have nothing to do, the rows in no index are too few for one.
        """
        unindexed = [upkeep.unindexed_rows(info) async for _, info in self._rows_collections()]
        return StoreDebt(unindexed_rows=sum(unindexed))

    async def tend(self) -> None:
        """Have the server begin what its optimisers wait with, as after its start until the next write.

        Raises VectorStoreUnavailable, with what the server says, if they have failed.
        """
        async for name, info in self._rows_collections():
            if (failure := upkeep.failure_of(info)) is not None:
                raise VectorStoreUnavailable(
                    f"the optimisers of {name} at {self._connection.url} have failed: {failure}"
                )
            if upkeep.waits_for_a_write(info):
                with self._speaking():
                    # Any change of a collection has them look, also one that changes nothing.
                    await self._client.update_collection(
                        name, optimizers_config=models.OptimizersConfigDiff()
                    )

    async def _rows_collections(self) -> AsyncIterator[tuple[str, models.CollectionInfo]]:
        with self._speaking():
            found = await self._client.get_collections()
        for one in found.collections:
            if not layout.has_rows(one.name):
                continue
            try:
                with self._speaking():
                    info = await self._client.get_collection(one.name)
            except CollectionMissing:  # since
                continue
            yield one.name, info

    def not_forgotten(self) -> str | None:
        return (
            "the log of Qdrant has texts of deleted rows until newer writes have filled it, if texts are "
            "stored there (`vector_store.store_documents`)"
        )

    def expect_mark(self) -> None:
        self._register.expect_mark()

    async def mark(self) -> str | None:
        return await self._register.mark()

    async def claim_mark(self, mark: str, *, replacing: str | None = None) -> str:
        return await self._register.claim_mark(mark, replacing=replacing)

    async def close(self) -> None:
        await self._connection.close()

    @asynccontextmanager
    async def _if_there(self) -> AsyncIterator[None]:
        """End the block, without an error, where a collection is missing in a store that is the system's."""
        try:
            with self._speaking():
                yield
        except CollectionMissing:
            await self._register.require_mark()

    async def _create_rows_collection(self, name: str, dim: int) -> None:
        """Create the Qdrant collection of a space, if there is none, and the index by tenants.

        There is no graph over all rows (`m`): each tenant that is large enough has one of its own.
        """
        await self._connection.create_collection(
            name,
            models.VectorParams(size=dim, distance=models.Distance.COSINE),
            models.HnswConfigDiff(m=0, payload_m=16),
        )
        self._connection.require_done(
            await self._client.create_payload_index(
                name,
                layout.TENANT,
                models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True),
                wait=True,
            )
        )

    async def _upsert(self, collection: CollectionKey, rows: VectorRows, positions: Sequence[int]) -> None:
        """Write the rows at these positions, in one request if the server takes it."""
        points = [layout.row_point(collection.tenant, rows.ids[i]) for i in positions]
        try:
            with self._speaking():
                texts = await self._texts_to_keep(collection, points) if rows.documents is None else {}
                batch = models.Batch(
                    ids=points,
                    vectors=rows.vectors[list(positions)].tolist(),
                    payloads=[
                        _payload(collection.tenant, rows, i, texts.get(point))
                        for i, point in zip(positions, points, strict=True)
                    ],
                )
                written = await self._client.upsert(layout.rows_collection(collection), batch, wait=True)
                self._connection.require_done(written)
        except RequestTooLarge:
            if len(positions) == 1:
                raise
            for half in halves(positions):
                await self._upsert(collection, rows, half)

    async def _texts_to_keep(self, collection: CollectionKey, points: list[str]) -> dict[str, str]:
        """Return the texts of those points that have one. A write replaces the whole payload."""
        found = await self._client.retrieve(
            layout.rows_collection(collection), points, with_payload=[layout.TEXT]
        )
        return {str(point.id): point.payload[layout.TEXT] for point in found if point.payload}

    async def _delete(self, collection: CollectionKey, chosen: models.PointsSelector) -> None:
        done = await self._client.delete(layout.rows_collection(collection), chosen, wait=True)
        self._connection.require_done(done)

    async def _points(
        self,
        collection: CollectionKey,
        *conditions: models.FieldCondition,
        page: int,
        payload: list[str],
        vectors: bool = False,
    ) -> AsyncIterator[list[models.Record]]:
        """Yield the points of a collection that meet the conditions, in pages that are not empty."""
        start: Any = None
        while True:
            points, start = await self._client.scroll(
                layout.rows_collection(collection),
                scroll_filter=_of(collection.tenant, *conditions),
                limit=page,
                offset=start,
                with_payload=payload,
                with_vectors=vectors,
            )
            if points:
                yield points
            if start is None:
                return

    def _require_dim(self, collection: CollectionKey, dim: int) -> None:
        if dim != collection.dim:
            raise self._mismatch(collection, held=collection.dim, given=dim)

    def _mismatch(self, collection: CollectionKey, *, held: int, given: int) -> SpaceMismatch:
        return SpaceMismatch(
            f"collection {self.name_in_store(collection)} holds vectors of {held} dimensions, not {given}"
        )


def _of(tenant: str, *conditions: models.FieldCondition) -> models.Filter:
    """Return the filter for the rows of a tenant that meet the conditions."""
    own = models.FieldCondition(key=layout.TENANT, match=models.MatchValue(value=tenant))
    return models.Filter(must=[own, *conditions])


def _payload(tenant: str, rows: VectorRows, position: int, kept_text: str | None) -> dict[str, Any]:
    payload = {
        layout.TENANT: tenant,
        layout.ROW_ID: rows.ids[position],
        layout.METADATA: _stored(rows.metadatas[position]),
    }
    text = kept_text if rows.documents is None else rows.documents[position]
    return payload if text is None else {**payload, layout.TEXT: text}


def _stored(metadata: Metadata) -> dict[str, Any]:
    return {layout.metadata_field(key): value for key, value in metadata.items()}


def _replacements(tenant: str, wanted: Mapping[str, Metadata]) -> list[models.SetPayloadOperation]:
    """Return one operation for each metadata: many rows, such as those of a document, have the same."""
    groups: dict[str, tuple[Metadata, list[str]]] = {}
    for row_id, metadata in wanted.items():
        _, points = groups.setdefault(repr(sorted(metadata.items())), (metadata, []))
        points.append(layout.row_point(tenant, row_id))
    return [
        models.SetPayloadOperation(
            set_payload=models.SetPayload(
                payload={layout.METADATA: _stored(metadata)},
                # A filter, since a list of points may name none that is missing.
                filter=models.Filter(must=[models.HasIdCondition(has_id=points)]),
            )
        )
        for metadata, points in groups.values()
    ]
