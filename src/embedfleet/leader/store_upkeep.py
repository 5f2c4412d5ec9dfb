"""The duty that pays off the debt of vector stores: merges their files, and puts rows into their indexes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

from embedfleet.errors import EmbedfleetError
from embedfleet.leader.service import LeaderDuty
from embedfleet.vectors.port import StoreDebt, VectorStore

TEND_SECONDS = 5.0
"""The pause between two looks at the debt. A store gathers a few hundred files in it at most."""

OtherStore = Callable[[], Awaitable[VectorStore | None]]
"""Returns the other store of a move of the vectors; None if none is under way."""


class StoreUpkeep(LeaderDuty):
    """Tends the system's vector store, and the other one of a move, whenever it has put off upkeep."""

    name: ClassVar = "store upkeep"
    works_again: ClassVar = "the vector store is kept in order again"
    # The store goes on with a step that is cancelled, and ends it before it is closed.
    stops_in_mid_step: ClassVar = True

    def __init__(self, *, store: VectorStore, other: OtherStore | None = None) -> None:
        self._store = store
        self._other = other

    async def step(self) -> None:
        """Tend each store. One that fails does not hold up the other; the first failure is raised then."""
        failures: list[EmbedfleetError] = []
        for find in (self._own, self._other):
            try:
                store = None if find is None else await find()
                if store is not None and await store.debt() != StoreDebt():
                    await store.tend()
            except EmbedfleetError as exc:
                failures.append(exc)
        if failures:
            raise failures[0]

    async def _own(self) -> VectorStore:
        return self._store

    def pause_after_failure_seconds(self) -> float:
        """Wait as long as after a success: a store that is away is told of by its watch."""
        return TEND_SECONDS
