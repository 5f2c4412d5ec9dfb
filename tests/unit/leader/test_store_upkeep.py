"""A vector store is tended while it has a debt: the system's, and the other one of a move."""

from __future__ import annotations

import pytest

from embedfleet.errors import VectorStoreUnavailable
from embedfleet.leader.store_upkeep import StoreUpkeep
from embedfleet.vectors.null import NullVectorStore
from embedfleet.vectors.port import StoreDebt, VectorStore


class Store(NullVectorStore):
    def __init__(self, *debts: StoreDebt) -> None:
        self._debts = list(debts)
        self.tended = 0

    async def debt(self) -> StoreDebt:
        return self._debts[0]

    async def tend(self) -> None:
        self.tended += 1
        self._debts.pop(0)


class Away(NullVectorStore):
    async def debt(self) -> StoreDebt:
        raise VectorStoreUnavailable("no answer")


async def test_a_step_tends_a_store_that_has_a_debt() -> None:
    store = Store(StoreDebt(40, 9_000), StoreDebt(0, 4_000), StoreDebt())
    duty = StoreUpkeep(store=store)
    for _ in range(4):
        await duty.step()
    assert store.tended == 2, "a store without a debt is left alone"


async def test_the_other_store_of_a_move_is_tended_too_also_while_the_systems_is_away() -> None:
    """Rows that a move copies gather files and wait for an index as those of storage do."""
    other = Store(StoreDebt(40), StoreDebt())

    async def of_move() -> VectorStore | None:
        return other

    with pytest.raises(VectorStoreUnavailable, match="no answer"):
        await StoreUpkeep(store=Away(), other=of_move).step()
    assert other.tended == 1


async def test_without_a_move_there_is_no_other() -> None:
    async def of_move() -> VectorStore | None:
        return None

    await StoreUpkeep(store=Store(StoreDebt()), other=of_move).step()
