"""The watch of the vector store: its metrics and its trouble follow the store."""

from __future__ import annotations

import pytest

from embedfleet.errors import VectorStoreUnavailable
from embedfleet.host.store_watch import StoreWatch
from embedfleet.metrics import Metrics
from embedfleet.settings import VectorStoreSettings
from embedfleet.system_parts import Mark
from embedfleet.vectors.null import NullVectorStore
from embedfleet.vectors.port import StoreDebt

SETTINGS = VectorStoreSettings(max_surplus_files=300, max_unindexed_rows=5_000)
OURS = Mark("system", "store", "sqlite").to_text()


class Store(NullVectorStore):
    """The system's store, which has `held` as its mark; None: no answer."""

    part_id = "store"
    held: str | None = ""

    async def mark(self) -> str | None:
        if self.held == "":
            raise VectorStoreUnavailable("no answer")
        return self.held

    async def debt(self) -> StoreDebt:
        return StoreDebt(40, 9_000)


def told(metrics: Metrics, series: str, what: str | None = None) -> float | None:
    labels = {} if what is None else {"what": what}
    return metrics.registry.get_sample_value(f"embedding_{series}", labels)


async def test_a_store_that_is_away_is_told_until_it_answers_again() -> None:
    metrics, store = Metrics(), Store()
    watch = StoreWatch(store=store, settings=SETTINGS, metrics=metrics)
    await watch.look()
    assert told(metrics, "store_up") == 0
    assert watch.trouble.failure is not None
    store.held = OURS
    await watch.look()
    assert told(metrics, "store_up") == 1
    assert watch.trouble.failure is None


@pytest.mark.parametrize("held", [None, Mark("system", "another", "sqlite").to_text()])
async def test_a_place_without_the_mark_of_this_store_is_away(held: str | None) -> None:
    """An unmounted directory answers that it has no rows."""
    metrics, store = Metrics(), Store()
    store.held = held
    watch = StoreWatch(store=store, settings=SETTINGS, metrics=metrics)
    await watch.look()
    assert told(metrics, "store_up") == 0
    assert told(metrics, "store_debt", "surplus_files") is None
    assert watch.trouble.failure is not None


async def test_the_debt_is_told_beside_the_limits_at_which_storage_waits() -> None:
    metrics, store = Metrics(), Store()
    store.held = OURS
    await StoreWatch(store=store, settings=SETTINGS, metrics=metrics).look()
    for what, debt, limit in (("surplus_files", 40, 300), ("unindexed_rows", 9_000, 5_000)):
        assert told(metrics, "store_debt", what) == debt
        assert told(metrics, "store_debt_limit", what) == limit
