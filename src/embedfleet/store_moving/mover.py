"""Takes a move of the vectors from phase to phase. All that it knows is in SQL (ADR 31)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic

from loguru import logger

from embedfleet.clock import Clock
from embedfleet.records import collections, store_moves
from embedfleet.records.collections import Collection
from embedfleet.records.scope import EveryTenant
from embedfleet.records.store_moves import MoveWentOn, Standing, StoreMove
from embedfleet.settings import Settings
from embedfleet.sql.database import Database, Sole
from embedfleet.sql.states import MovePhase
from embedfleet.store_moving.copying import Copying, Progress
from embedfleet.store_moving.places import current_part, settings_at
from embedfleet.store_moving.target import claim_target, is_other_store, require_other_store
from embedfleet.store_moving.telling import MoveTelling
from embedfleet.vectors.port import VectorStore
from embedfleet.vectors.store_room import StoreRoom

# A store that is kept in step is looked at again after twenty times as long as the last look took: the look
# reads all of `vectors`.
_REST_FACTOR = 20.0
# If the rows that differ after a pass are fewer, the store is closed: they are copied in a second or so.
_FEW_ROWS = 2_000
# The store is closed for this long, beside the time in which SQL reads its tables and the page that is under
# way at the end. What is left is copied after the store was opened again, and the next time is longer.
_CLOSED_SECONDS = 10.0
_MOST_CLOSED_SECONDS = 120.0
# How often a switch reads the tables whole.
_READINGS = 4
# A store that another mover has closed for longer is opened again: that mover hangs or is stopped.
_LONGEST_CLOSED_SECONDS = 60.0
# A step that is cancelled is waited for this long. It ends at the next page.
_PAGE_SECONDS = 10.0
_LOCK = "move"

OtherStore = Callable[[str], Awaitable[VectorStore]]
"""Returns the open store with this part id. It stays open until its process ends."""


class _ClosedTooLong(Exception):
    """The store is opened again, and the last rows are copied in the open first."""


class StoreMover:
    """Moves the vectors, in steps that may be interrupted anywhere.

    It belongs to the leader. Of several movers of a system, one at a time does anything: a lock that lives
    with its process says which one.
    """

    def __init__(
        self,
        database: Database,
        store: VectorStore,
        other: OtherStore,
        clock: Clock,
        settings: Settings,
        *,
        place: Callable[[Settings], str],
        telling: MoveTelling | None = None,
    ) -> None:
        """`store` follows the system's store. `place` says where a store is, for messages."""
        self._database = database
        self._store = store
        self._other = other
        self._clock = clock
        self._settings = settings
        self._place = place
        self._telling = telling or MoveTelling()
        self._closed_seconds = _CLOSED_SECONDS
        self._few_rows = _FEW_ROWS
        self._not_before = 0.0
        self._closed: tuple[float, float] | None = None
        self._ending = False
        self._open_again_at: float | None = None

    async def step(self) -> None:
        """Take the move that is under way as far as it goes now. Without one, do nothing.

        Cancelled, it ends after the page that is under way: no call of a store is left running when another
        mover begins. If the page takes long, it ends on its own later, and holds the lock until then.
        """
        move = await self._database.read(store_moves.running)
        self._telling.tell(move)
        if move is None or self._rests(move):
            return
        self._ending = False
        task = asyncio.create_task(self._alone())
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            self._ending = True
            await asyncio.wait([task], timeout=_PAGE_SECONDS)
            task.add_done_callback(_drop_error)
            raise

    def forget(self) -> None:
        """Say nothing more of a move: another process has taken it over."""
        self._telling.forget()

    def _rests(self, move: StoreMove) -> bool:
        return move.phase is MovePhase.KEEPING and monotonic() < self._not_before

    async def _alone(self) -> None:
        async with self._database.sole(_LOCK) as sole:
            if sole is None:
                await self._look_after_closed()
                return
            move = await self._database.read(store_moves.running)
            while move is not None and await self._took(move, sole):
                move = await self._database.read(store_moves.running)
                self._telling.tell(move)

    async def _took(self, move: StoreMove, sole: Sole) -> bool:
        try:
            return await self._take(move, sole)
        except MoveWentOn:
            return not self._ending

    async def _look_after_closed(self) -> None:
        """Open a store again that another mover has closed and left so. That one keeps its lock."""
        move = await self._database.read(store_moves.running)
        if move is None or move.phase is not MovePhase.CLOSING:
            self._closed = None
            return
        now = monotonic()
        if self._closed is None or self._closed[0] != move.changed_at:
            self._closed = move.changed_at, now
        if now - self._closed[1] > _LONGEST_CLOSED_SECONDS:
            logger.warning("the process that moves the vectors has closed the store too long: open again")
            await self._enter(move, MovePhase.VERIFYING)

    async def other_store(self) -> VectorStore | None:
        """Return the other store of the move that is under way, once it is marked; None without one."""
        move = await self._database.read(store_moves.running)
        part = await self._database.read(current_part)
        if move is None or part is None:
            return None
        other_id = move.other_than(part.part_id)
        other = await self._other(other_id)
        return other if await is_other_store(self._database, other, other_id) else None

    async def _take(self, move: StoreMove, sole: Sole) -> bool:
        """Do the work of the phase. Return whether another phase follows at once."""
        if move.phase is MovePhase.CLOSING:
            # The mover that closed the store has ended. This needs no other store, so it comes first.
            return await self._enter(move, MovePhase.VERIFYING)
        if move.phase is MovePhase.DROPPING and not await self._is_to_empty(move):
            return await self._end(move)
        await self._store.follow()
        part = await self._database.read(current_part)
        assert part is not None  # a move begins only if the store is recorded
        other_id = move.other_than(part.part_id)
        other = await self._other(other_id)
        standing = Standing(move.move_id, move.phase, part.part_id)
        match move.phase:
            case MovePhase.COPYING:
                await claim_target(self._database, other, other_id)
                other.expect_mark()
                await self._count_remaining()
                await self._catch_up(self._copying(other, standing, sole, count=self._telling.copied))
                return await self._enter(move, MovePhase.VERIFYING)
            case MovePhase.VERIFYING:
                await require_other_store(self._database, other, other_id)
                other.expect_mark()
                copying = self._copying(other, standing, sole)
                if not await self._read_back(move, copying, standing):
                    return True
                await self._catch_up(copying)
                return await self._cut_over(standing, other, other_id, sole)
            case MovePhase.KEEPING:
                await require_other_store(self._database, other, other_id)
                other.expect_mark()
                await self._keep(self._copying(other, standing, sole))
                return False
            case _:
                return await self._drop(move, other, other_id, standing, sole)

    def _copying(
        self, other: VectorStore, standing: Standing, sole: Sole, *, count: Progress | None = None
    ) -> Copying:
        return Copying(
            self._database,
            self._store,
            other,
            standing,
            partial(self._begin_page, sole),
            with_documents=self._settings.vector_store.store_documents,
            room=StoreRoom(other, self._settings.vector_store),
            count=count or self._telling.count,
        )

    async def _count_remaining(self) -> float:
        """Count the rows that are to be copied. Return how many seconds SQL took to read the tables."""
        begun = monotonic()
        found = await self._database.read(store_moves.progress)
        self._telling.remain(found.rows - found.copied)
        return monotonic() - begun

    async def _begin_page(self, sole: Sole) -> None:
        if self._ending:
            raise MoveWentOn
        if self._open_again_at is not None and monotonic() > self._open_again_at:
            raise _ClosedTooLong
        await sole.require()

    async def _enter(self, move: StoreMove, phase: MovePhase, **found: object) -> bool:
        now = self._clock.now()
        entered = await self._database.write(lambda conn: store_moves.enter(conn, move, phase, now, **found))
        if entered:
            logger.info("the move of the vectors is {}", phase)
        return True

    async def _catch_up(self, copying: Copying) -> None:
        """Copy until few rows differ, however many are written at the same time.

        What was deleted goes first: it must not wait for rows that cannot be copied.
        """
        await copying.delete_surplus()
        while await copying.copy_all() >= self._few_rows:
            pass
        await copying.delete_surplus()

    async def _read_back(self, move: StoreMove, copying: Copying, standing: Standing) -> bool:
        """Read the collections that were not read yet. Return whether all of them are right now."""
        for collection in await self._unread(move.read_to):
            found = await copying.read_back(collection)
            if found.faults:
                logger.warning(
                    "the target store lost rows: {} wrong, {} missing, {} extra; they are copied again",
                    found.wrong,
                    found.missing,
                    found.extra,
                )
                now = await self._database.read(store_moves.running)
                assert now is not None
                await self._enter(now, MovePhase.COPYING)
                return False
            await self._database.write(
                partial(
                    store_moves.record_read,
                    standing=standing,
                    collection_id=collection.collection_id,
                    rows=found.right,
                )
            )
        return True

    async def _unread(self, read_to: int) -> list[Collection]:
        every = await self._database.read(partial(collections.within, scope=EveryTenant()))
        unread = [one for one in every if one.collection_id > read_to]
        return sorted(unread, key=lambda one: one.collection_id)

    async def _cut_over(self, standing: Standing, other: VectorStore, other_id: str, sole: Sole) -> bool:
        """Copy the last rows while no unit records vectors, and make the other store the system's.

        Whatever goes wrong, the store is open again when this returns. If the process dies, the next mover
        opens it.
        """
        move = await self._database.read(store_moves.running)
        if move is None or move.phase is not MovePhase.VERIFYING:
            return True
        reading = await self._count_remaining()
        await self._enter(move, MovePhase.CLOSING)
        closed = await self._database.read(store_moves.running)
        if closed is None or closed.phase is not MovePhase.CLOSING:
            return True
        self._telling.tell(closed)
        switched = False
        self._open_again_at = monotonic() + self._closed_seconds + _READINGS * reading
        try:
            copying = self._copying(other, Standing(move.move_id, closed.phase, standing.part_id), sole)
            await copying.delete_rows()
            await copying.copy_all(closed=True)
            switched = await self._switch(closed, other_id)
        except _ClosedTooLong:
            # What few rows are depends on the store.
            self._few_rows = max(1, self._few_rows // 2)
            self._closed_seconds = min(2 * self._closed_seconds, _MOST_CLOSED_SECONDS)
            logger.warning("the last rows took too long: the store is open again, and they are copied so")
        finally:
            self._open_again_at = None
            if not switched:
                await self._enter(closed, MovePhase.VERIFYING)
        return True

    async def _switch(self, move: StoreMove, other_id: str) -> bool:
        place = self._place(settings_at(self._settings, move.places[other_id]))
        now = self._clock.now()
        switched = await self._database.write(partial(store_moves.switch, move=move, place=place, now=now))
        await self._store.follow()
        if switched:
            self._few_rows = _FEW_ROWS
            logger.info("the vectors are {} now; the previous store is kept in step", place)
        return switched

    async def _keep(self, copying: Copying) -> None:
        begun = monotonic()
        try:
            await copying.delete_surplus()
            await copying.copy_all()
        finally:
            self._not_before = monotonic() + _REST_FACTOR * (monotonic() - begun)

    async def _is_to_empty(self, move: StoreMove) -> bool:
        """Whether the other store may hold rows that are to go. Otherwise it need not even be reached."""
        if move.findings.get("leave"):
            return False
        return move.switched_at is not None or await self._database.read(store_moves.any_copies)

    async def _drop(
        self, move: StoreMove, other: VectorStore, other_id: str, standing: Standing, sole: Sole
    ) -> bool:
        """Empty the other store, and end the move. A store without this move's mark is not touched."""
        if not await is_other_store(self._database, other, other_id):
            logger.warning("the other store does not carry the mark of this move: its rows are left")
            return await self._end(move)
        other.expect_mark()
        dropped = 0
        for collection in await self._database.read(partial(collections.within, scope=EveryTenant())):
            await self._begin_page(sole)
            await self._database.read(partial(store_moves.require, standing=standing))
            rows = await other.count(collection)
            await other.drop_collection(collection)
            dropped += rows
            self._telling.count(rows)
        while await self._database.write(store_moves.drop_copies):
            pass
        return await self._end(move, dropped=dropped)

    async def _end(self, move: StoreMove, **found: object) -> bool:
        """End the move. Rows that the other store may still have are left there, and counted."""
        rows = await self._database.read(store_moves.count_copies)
        part = await self._database.read(current_part)
        if rows and part is not None:
            found |= {"left": rows, "left_in": move.places[move.other_than(part.part_id)]}
        while await self._database.write(store_moves.drop_copies):
            pass
        return await self._enter(move, MovePhase.ENDED, **found)


def _drop_error(task: asyncio.Task[None]) -> None:
    """Take the error of a step that nothing waits for, so that it is not told as one that was lost."""
    if not task.cancelled() and task.exception() is not None:
        logger.debug("the last step of the move ended with {}", task.exception())
