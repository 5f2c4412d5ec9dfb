"""The vector store of a process whose system may move its vectors to another one while it works."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from embedfleet.errors import ConfigError
from embedfleet.vectors.passing import PassingStore
from embedfleet.vectors.port import VectorStore


class SwitchingStore(PassingStore):
    """Passes every call on to the store that is the system's, as far as this process knows.

    `follow` looks again which one that is. A store that was opened stays open until the end, so a call that
    is under way during a switch ends as it would have.
    """

    def __init__(
        self,
        part_id: str | None,
        store: VectorStore,
        *,
        current: Callable[[], Awaitable[str | None]],
        opening: Callable[[str], Awaitable[VectorStore]],
        check: Callable[[VectorStore, str], Awaitable[None]],
        marked: bool = True,
    ) -> None:
        """`current` returns the part id of the system's store; `opening` opens the store with a part id.

        `check` raises ConfigError if a store is not that of a part id, by the mark it carries. `marked`:
        whether `store` carries one. It may have lost it with its content, and be examined.
        """
        super().__init__(store)
        self._part_id = part_id
        self._current = current
        self._opening = opening
        self._check = check
        self._open: dict[str | None, VectorStore] = {part_id: store}
        self._lock = asyncio.Lock()
        if part_id is not None and marked:
            store.expect_mark()

    @property
    def part_id(self) -> str | None:
        return self._part_id

    async def follow(self) -> None:
        part_id = await self._current()
        if part_id is None or part_id == self._part_id:
            return
        if self._part_id is None and await self._is(self._store, part_id):
            self._open = {part_id: self._store}  # it was marked and recorded since it was opened
        store = await self.part(part_id)
        await self._check(store, part_id)
        store.expect_mark()
        self._store = store
        self._part_id = part_id

    async def _is(self, store: VectorStore, part_id: str) -> bool:
        try:
            await self._check(store, part_id)
        except ConfigError:
            return False
        return True

    async def part(self, part_id: str) -> VectorStore:
        """Return the store with this part id, which is opened if it is not. The caller does not close it.

        The mark of the store is not looked at.
        """
        async with self._lock:
            if part_id not in self._open:
                self._open[part_id] = await self._opening(part_id)
            return self._open[part_id]

    async def close(self) -> None:
        for store in {id(one): one for one in self._open.values()}.values():
            await store.close()
