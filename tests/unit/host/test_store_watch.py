"""The watch of the vector store: its metric and its trouble follow the store."""

from __future__ import annotations

from embedfleet.errors import VectorStoreUnavailable
from embedfleet.host.store_watch import StoreWatch
from embedfleet.metrics import Metrics
from embedfleet.vectors.null import NullVectorStore
from embedfleet.vectors.port import CollectionKey


class Store(NullVectorStore):
    away = True

    async def count(self, collection: CollectionKey) -> int:
        if self.away:
            raise VectorStoreUnavailable("no answer")
        return 0


async def test_a_store_that_is_away_is_told_until_it_answers_again() -> None:
    metrics, store = Metrics(), Store()
    watch = StoreWatch(store=store, metrics=metrics)
    await watch.look()
    assert metrics.registry.get_sample_value("embedding_store_up") == 0
    assert watch.trouble.failure is not None
    store.away = False
    await watch.look()
    assert metrics.registry.get_sample_value("embedding_store_up") == 1
    assert watch.trouble.failure is None
