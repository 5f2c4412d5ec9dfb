"""The register: a Qdrant collection that says which collections of the port there are, and whose they are."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from qdrant_client import models

from embedfleet.errors import VectorStoreUnavailable
from embedfleet.vectors.port import CollectionKey
from embedfleet.vectors.qdrant import layout
from embedfleet.vectors.qdrant.connection import Connection
from embedfleet.vectors.qdrant.errors import CollectionMissing


class Register:
    """Entries of collections, and the mark of the system. It is created by its first write."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._expects_mark = False

    async def dim_of(self, collection: CollectionKey) -> int | None:
        """Return the dimension of a collection that is entered; None if it is not."""
        held = await self._payload(layout.register_point(collection))
        return None if held is None else int(held[layout.DIM])

    async def enter(self, collection: CollectionKey) -> int:
        """Enter the collection unless it is there. Return the dimension that is there now."""
        payload = {
            layout.TENANT: collection.tenant,
            layout.SPACE: collection.space,
            layout.DIM: collection.dim,
        }
        await self._write(layout.register_point(collection), payload, models.UpdateMode.INSERT_ONLY)
        held = await self.dim_of(collection)
        if held is None:
            raise VectorStoreUnavailable("another process drops the collection just now: try again")
        return held

    async def remove(self, collection: CollectionKey) -> None:
        points = models.PointIdsList(points=[layout.register_point(collection)])
        with suppress(CollectionMissing), self._connection.speaking():
            self._connection.require_done(
                await self._connection.client.delete(layout.REGISTER, points, wait=True)
            )

    def expect_mark(self) -> None:
        self._expects_mark = True

    async def require_mark(self) -> None:
        """Raise VectorStoreUnavailable if the mark of the system should be here and is not."""
        if self._expects_mark and await self.mark() is None:
            raise VectorStoreUnavailable(
                f"the vector store at {self._connection.url} has no mark of its system: it was emptied, or "
                "another server answers there now"
            )

    async def mark(self) -> str | None:
        held = await self._payload(layout.mark_point())
        return None if held is None else str(held[layout.MARK])

    async def claim_mark(self, mark: str, *, replacing: str | None) -> str:
        """Write the mark if there is none, or if `replacing` is there. Return the one that is there now."""
        payload = {layout.MARK: mark}
        await self._write(layout.mark_point(), payload, models.UpdateMode.INSERT_ONLY)
        if replacing is not None:
            holds = models.FieldCondition(key=layout.MARK, match=models.MatchValue(value=replacing))
            await self._write(
                layout.mark_point(), payload, models.UpdateMode.UPDATE_ONLY, models.Filter(must=[holds])
            )
        held = await self.mark()
        if held is None:
            raise VectorStoreUnavailable("the mark of the vector store changes just now: try again")
        return held

    async def _payload(self, point: str) -> Mapping[str, Any] | None:
        """Return what the register has of this point."""
        with suppress(CollectionMissing), self._connection.speaking():
            found = await self._connection.client.retrieve(layout.REGISTER, [point], with_payload=True)
            return found[0].payload if found else None
        return None

    async def _write(
        self,
        point: str,
        payload: Mapping[str, Any],
        mode: models.UpdateMode,
        only: models.Filter | None = None,
    ) -> None:
        """Write a point; if it is there, only if it meets the filter."""
        with self._connection.speaking():
            # A point must have a vector, so each has the same one.
            await self._connection.create_collection(
                layout.REGISTER, models.VectorParams(size=1, distance=models.Distance.DOT)
            )
            written = await self._connection.client.upsert(
                layout.REGISTER,
                [models.PointStruct(id=point, vector=[1.0], payload=dict(payload))],
                wait=True,
                # Writes of several processes into a cluster get one order, which every replica keeps.
                ordering=models.WriteOrdering.STRONG,
                update_mode=mode,
                update_filter=only,
            )
            self._connection.require_done(written)
