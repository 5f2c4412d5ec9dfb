"""Removes documents from the path that does not answer for them, again and again until it succeeds."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import ClassVar, TypeVar

from loguru import logger

from embedfleet.clock import Clock
from embedfleet.errors import DatabaseUnavailable, EmbedfleetError, one_line
from embedfleet.metrics import Metrics
from embedfleet.paging import pages
from embedfleet.records import removals
from embedfleet.records.removals import Removal, RemovalKey, Unclaimed
from embedfleet.retry import BackOff
from embedfleet.sql.database import Database
from embedfleet.traffic.document_turns import DocumentTurns
from embedfleet.traffic.paths import FollowingPath, IngestFunction, Path, RemovingPath, ShowingPath
from embedfleet.trouble import Trouble
from embedfleet.waiting import first_of, wait_briefly

T = TypeVar("T")

TRY_AGAIN_SECONDS = 3.5
"""A removal that failed is tried again after this time: longer than `_HEARD_SECONDS`."""
_LONGEST_PAUSE_SECONDS = 60.0
# Within this time every process has heard of a removal that was kept, or has told that it is void.
_HEARD_SECONDS = 3.0
# A removal may be saved late, if SQL was away. Answers are remembered for this time to void it then.
_REMEMBERED_SECONDS = 60.0
_APART_SECONDS = 0.1
_LOOK_SECONDS = 1.0
# A claim outlives the time limit of a removal by this, so that no other process begins it in between.
_CLAIM_MARGIN_SECONDS = 5.0
# A path may take as long as this to ingest a document, and no other process begins to remove it in between.
# So long is a removal put off if the process ends in the middle of a request.
_HELD_SECONDS = 900.0
# What a request waits for SQL at the most, and it does so only while removals are kept.
_REQUEST_WAITS_SECONDS = 2.0
# A request waits for another process that is at a removal of its document. It asks this often.
_ASK_SECONDS = 0.05
# Removals of one path that are under way at once. They compete with the requests for the path's time.
_SIDE_BY_SIDE = 8
_AT_ONCE = 200


class Removals:
    """The removals that are still to be done. A `Service`.

    They are kept in SQL, where every process that routes may do them. While SQL is away they are kept in
    memory, and are not done: SQL knows if another process has ingested the document again. Without any
    database the memory of this process is all there is.
    """

    name: ClassVar = "traffic removals"

    def __init__(
        self,
        paths: Mapping[Path, IngestFunction],
        turns: DocumentTurns,
        *,
        database: Database | None,
        clock: Clock,
        metrics: Metrics,
        limit_seconds: float,
    ) -> None:
        """A removal may take `limit_seconds`."""
        self._removers = {name: path for name, path in paths.items() if isinstance(path, RemovingPath)}
        self._paths = paths
        self._turns = turns
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self._limit_seconds = limit_seconds
        self._unsaved: dict[RemovalKey, Removal] = {}
        self._any_saved = database is not None  # perhaps: a process that ended may have left some
        self._numbers: dict[str, int] = {}
        # When a path answered for a document, for a while: another process may be keeping its removal just
        # now. `_void` are those that SQL must be told of.
        self._answered: dict[RemovalKey, float] = {}
        self._void: dict[RemovalKey, float] = {}
        self._writing_void = asyncio.Lock()
        self._reached_since: float | None = -math.inf
        self._woken = asyncio.Event()
        self._pauses = {
            path: BackOff(TRY_AGAIN_SECONDS, _LONGEST_PAUSE_SECONDS, random.Random()) for path in Path
        }
        self._paused_until = dict.fromkeys(Path, 0.0)
        self._trouble = Trouble(over="removals go on")

    @property
    def any_kept(self) -> bool:
        """Whether a removal may be kept, of this process or another."""
        return self._any_saved or bool(self._unsaved)

    def can_remove(self, path: Path) -> bool:
        """Whether the path can take documents back."""
        return path in self._removers

    def can_follow(self, path: Path) -> bool:
        """Whether the path can be asked if readers see a document that it has accepted."""
        return isinstance(self._paths[path], FollowingPath)

    async def remove(self, key: RemovalKey) -> None:
        """Remove the document now, with its turn. Raises what the path raises, and TimeoutError."""
        async with asyncio.timeout(self._limit_seconds):
            await self._removers[Path(key.path)].remove(key.tenant, key.media_id)

    async def keep(
        self,
        key: RemovalKey,
        *,
        after_seconds: float = TRY_AGAIN_SECONDS,
        job_id: str | None = None,
        erases: bool = False,
    ) -> None:
        """Do the removal later. The caller has the document's turn. It never fails."""
        now = self._clock.now()
        self._unsaved[key] = Removal(key, now, now + after_seconds, job_id, erases)
        # An answer of this path that came before is no reason against this removal.
        self._answered.pop(key, None)
        self._void.pop(key, None)
        await self._if_reachable(self._save)
        self._woken.set()

    async def hold(self, key: RemovalKey) -> Removal | None:
        """Keep other processes from a kept removal of this document, since the path will now ingest it.

        Waits for a removal that is under way, for as long as one may take. The caller has the document's
        turn. When the path has answered, it calls `void`; when the path has failed, `release`. Returns None
        if no removal is kept, or if SQL cannot be asked.
        """
        if self._database is None or not self._any_saved:
            return None
        claim = partial(self._claim, key, _HELD_SECONDS)
        until = monotonic() + self._limit_seconds + _CLAIM_MARGIN_SECONDS
        found = await self._if_reachable(claim)
        while found is Unclaimed.BUSY and monotonic() < until:
            await asyncio.sleep(_ASK_SECONDS)
            found = await self._if_reachable(claim)
        return found if isinstance(found, Removal) else None

    async def release(self, removal: Removal) -> None:
        """Leave a held removal to every process again. It never fails: a claim also ends by itself."""
        await self._if_reachable(partial(self._put_off, removal, removal.due_at))

    async def void(self, key: RemovalKey) -> None:
        """Note that the path has answered for the document, or has removed it: older removals are void.

        The caller has the document's turn. It never fails.
        """
        self._unsaved.pop(key, None)
        if self._database is None:
            return
        self._answered[key] = self._clock.now()
        if self._any_saved:
            self._void[key] = self._answered[key]
            await self._if_reachable(self._write_void)

    async def _if_reachable(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """Do work on SQL for a request. Return None if SQL cannot be reached in a short time.

        Then no request waits for SQL until a step has reached it: what is to be written is in memory.
        """
        if self._reached_since is None:
            return None
        try:
            async with asyncio.timeout(_REQUEST_WAITS_SECONDS):
                return await work()
        except TimeoutError:
            self._note_absence(DatabaseUnavailable("SQL does not answer a router in time"))
        except EmbedfleetError as exc:
            self._note_absence(exc)
        return None

    def _note_absence(self, failure: EmbedfleetError) -> None:
        self._reached_since = None
        self._trouble.note(failure)

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._woken.clear()
            await self.step(stop)
            await first_of(wait_briefly(stop, _LOOK_SECONDS), self._woken.wait())
            await wait_briefly(stop, _APART_SECONDS)
        # What only this process knows is written before it ends. SQL is asked once more if it was away.
        self._reached_since = self._clock.now()
        for work in (self._write_void, self._save):
            await self._if_reachable(work)

    async def step(self, stop: asyncio.Event) -> None:
        """Save what this process knows, then do the removals that are due. It never fails."""
        try:
            await self._do_what_is_due(stop)
            self._trouble.clear()
        except EmbedfleetError as exc:
            self._note_absence(exc)

    async def _do_what_is_due(self, stop: asyncio.Event) -> None:
        now = self._clock.now()
        due = [removal for removal in self._unsaved.values() if removal.due_at <= now]
        if self._database is not None:
            due = await self._exchange(now)
        self._tell()
        for path in self._removers:
            mine = [removal for removal in due if removal.key.path == path]
            await self._do_side_by_side(path, mine, stop)

    async def _exchange(self, now: float) -> list[Removal]:
        """Write what SQL does not know yet. Return what is due.

        What is void is written first. After SQL was away, no removal is done for a while: another process may
        have to tell that a removal is void.
        """
        assert self._database is not None
        await self._write_void()
        await self._save()
        look = partial(removals.due, now=now, limit=_AT_ONCE)
        self._numbers, due = await self._database.read(lambda conn: (removals.numbers(conn), look(conn)))
        self._any_saved = bool(self._numbers)
        if self._any_saved:
            # A removal may have been kept while this process did not know of any.
            self._void.update(self._answered)
            await self._write_void()
        recent = now - _REMEMBERED_SECONDS
        self._answered = {key: at for key, at in self._answered.items() if at > recent}
        if self._reached_since is None:
            self._reached_since = now
        return due if now - self._reached_since >= _HEARD_SECONDS else []

    async def _do_side_by_side(self, path: Path, due: Sequence[Removal], stop: asyncio.Event) -> None:
        """Do the removals, some at a time, until the path fails or all were tried."""
        for some in pages(due, _SIDE_BY_SIDE):
            if stop.is_set() or self._clock.now() < self._paused_until[path]:
                return
            await asyncio.gather(*(self._do(removal) for removal in some))

    async def _do(self, removal: Removal) -> None:
        """Do one removal, if it is still wanted when the document's turn has come."""
        async with self._turns.of(removal.key.tenant, removal.key.media_id):
            wanted = await self._still_wanted(removal)
            if wanted is None:
                return
            try:
                answer = await self._other_path_has_it(wanted)
                if answer:
                    await self.remove(wanted.key)
            except Exception as exc:  # noqa: BLE001 - a path may raise anything; the removal is tried again
                await self._note_failure(wanted, exc)
                return
            if answer is None:
                await self._put_off(wanted, self._clock.now() + _patience_seconds(wanted, self._clock))
                return
            self._pauses[Path(wanted.key.path)].reset()
            await self._forget(wanted)

    async def _still_wanted(self, removal: Removal) -> Removal | None:
        """Return the removal as it is now, claimed; None if it is done, void, not due or another's."""
        if self._database is None:
            return removal if self._unsaved.get(removal.key) is removal else None
        found = await self._claim(removal.key, self._limit_seconds + _CLAIM_MARGIN_SECONDS)
        if not isinstance(found, Removal):
            return None
        if found.due_at > self._clock.now():
            await self.release(found)
            return None
        return found

    async def _other_path_has_it(self, removal: Removal) -> bool | None:
        """Whether the document may be removed, since the other path has it. None: it does not have it yet.

        A document that the other path does not show is not removed: another process has then ingested it
        here since, which this one could not hear of.
        """
        if removal.erases:
            return True
        other = self._paths[Path(removal.key.path).other]
        async with asyncio.timeout(self._limit_seconds):
            if removal.job_id is not None:
                assert isinstance(other, FollowingPath)
                visible = await other.is_visible(removal.key.tenant, removal.job_id)
                return None if visible is False else visible is True
            if isinstance(other, ShowingPath):
                return await other.shows(removal.key.tenant, removal.key.media_id)
        return True

    async def _note_failure(self, removal: Removal, failure: Exception) -> None:
        path = Path(removal.key.path)
        pause = max(_ASK_SECONDS, self._pauses[path].next_seconds())
        self._paused_until[path] = self._clock.now() + pause
        words = one_line(failure) or type(failure).__name__
        logger.warning("removal from the {} path failed, and is tried again: {}", path, words)
        await self._put_off(removal, self._paused_until[path])

    async def _put_off(self, removal: Removal, due_at: float) -> None:
        if self._database is None:
            self._unsaved[removal.key] = replace(removal, due_at=due_at)
        else:
            await self._database.write(lambda conn: removals.put_off(conn, removal, due_at))

    async def _forget(self, removal: Removal) -> None:
        if self._database is None:
            self._unsaved.pop(removal.key, None)
        else:
            await self._database.write(lambda conn: removals.drop(conn, [removal]))

    async def _claim(self, key: RemovalKey, seconds: float) -> Removal | Unclaimed:
        assert self._database is not None
        now = self._clock.now()
        until = now + seconds
        return await self._database.write(lambda conn: removals.claim(conn, key, now=now, until=until))

    async def _save(self) -> None:
        """Bring the removals that only this process knows into SQL."""
        if self._database is None or not self._unsaved:
            return
        self._give_up_what_is_too_late()
        unsaved = dict(self._unsaved)
        await self._database.write(lambda conn: removals.keep(conn, unsaved.values()))
        self._any_saved = True
        for key, removal in unsaved.items():
            if self._unsaved.get(key) is removal:
                del self._unsaved[key]

    def _give_up_what_is_too_late(self) -> None:
        """Forget removals of which no process may remember any more if they are void.

        They may take away the only version of a document, unless the other path can be asked for it.
        """
        oldest = self._clock.now() - (_REMEMBERED_SECONDS - _HEARD_SECONDS)
        for key, removal in list(self._unsaved.items()):
            can_be_asked = isinstance(self._paths[Path(key.path).other], ShowingPath)
            if removal.requested_at < oldest and not can_be_asked and not removal.erases:
                del self._unsaved[key]
                logger.warning(
                    "SQL was away for too long: a document that may be on both paths stays on the {} path "
                    "until it is ingested again",
                    key.path,
                )

    async def _write_void(self) -> None:
        if self._database is None:
            return
        # One caller writes for all that wait. If each wrote all, N requests would write N x N removals.
        async with self._writing_void:
            void = dict(self._void)
            if not void:
                return
            await self._database.write(lambda conn: removals.drop_answered(conn, void))
            for key, at in void.items():
                if self._void.get(key) == at:
                    del self._void[key]

    def _tell(self) -> None:
        """Set the gauge of kept removals: those of all processes."""
        for path in Path:
            unsaved = sum(key.path == path for key in self._unsaved)
            self._metrics.traffic_kept_removals.labels(path).set(self._numbers.get(path, 0) + unsaved)


def _patience_seconds(removal: Removal, clock: Clock) -> float:
    """Return after what time to look again for a version that is under way: a quarter of the time so far."""
    so_far = clock.now() - removal.requested_at
    return min(_LONGEST_PAUSE_SECONDS, max(_LOOK_SECONDS, so_far / 4))
