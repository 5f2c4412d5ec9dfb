"""Tells tldw how its media items' jobs ended: it marks an item as processed, or with the error.

embedfleet's events say how a job ended. Each event is told at least once: the position is kept in a file.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

from loguru import logger

from embedfleet.errors import ConfigError, Transient
from embedfleet.queue_schemas import JobEvent, JobStatus
from embedfleet.retry import BackOff
from embedfleet.tldw.schemas import media_id_of
from embedfleet.trouble import Trouble
from embedfleet.whole_file import written_whole

DatabaseOf = Callable[[str], Any]
"""Gives tldw's own media database of a user."""

# A mark that fails is repeated after this time, which doubles up to five minutes: the database may be away.
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 300.0
_PROCESSED = (JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS)


class Events(Protocol):
    """What tells how jobs end: `EmbeddingJobManager.of_all_tenants()`, or an operator's `AsyncClient`."""

    def follow_events(self, *, after: int = 0) -> AsyncIterator[JobEvent]:
        """Yield the events above the position `after`, then each new event."""
        ...


def _mark_by_method(database: Any, media_id: int, message: str) -> None:
    database.mark_embeddings_error(media_id, message)


class MediaMarks:
    """Follows events, and calls tldw's functions for each media item whose job has ended.

    A job that completed, also with chunks missing, calls `mark_media_as_processed(database, media_id)`. One
    that failed calls `mark_embeddings_error(database, media_id, message)`; by default that is the method of
    the same name of the database. Then `drop_caches(user_id, media_id)` is called, as tldw's search keeps
    answers. A job that was cancelled, or that a newer version superseded, calls none. A document whose id is
    not a number is not one of tldw's media.

    A call that raises is repeated until it succeeds or a newer event of the item takes its place; events of
    other items go on. What was not told yet, and the position, are in `state_file`.
    """

    def __init__(
        self,
        events: Events,
        *,
        database_of: DatabaseOf,
        mark_media_as_processed: Callable[[Any, int], object],
        mark_embeddings_error: Callable[[Any, int, str], object] = _mark_by_method,
        drop_caches: Callable[[str, int], object] | None = None,
        state_file: Path,
        pauses: BackOff | None = None,
    ) -> None:
        """`pauses` are those before a call is repeated. Raises ConfigError for another kind of state file."""
        self._events = events
        self._database_of = database_of
        self._mark_processed = mark_media_as_processed
        self._mark_error = mark_embeddings_error
        self._drop_caches = drop_caches
        self._state_file = state_file
        self._pauses = pauses or BackOff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        self._position, self._untold = _read_state(state_file)
        self._some_untold = asyncio.Event()
        # Two tasks tell: of one item, the newer event must be told last.
        self._turn = asyncio.Lock()
        self._trouble = Trouble()

    async def run(self) -> None:
        """Tell each event, and repeat what failed, until cancelled. A state file is for one process."""
        if self._untold:
            self._some_untold.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(), name="events for tldw")
            tasks.create_task(self._repeat(), name="repeated marks for tldw")

    def apply(self, event: JobEvent) -> None:
        """Tell tldw of one event, such as a webhook brings. It raises what tldw's functions raise."""
        media_id = media_id_of(event.media_id)
        if not isinstance(media_id, int):
            return
        if event.status in _PROCESSED:
            self._mark_processed(self._database_of(event.tenant), media_id)
        elif event.status is JobStatus.FAILED:
            message = event.reason or "the embedding job failed"
            self._mark_error(self._database_of(event.tenant), media_id, message)
        else:
            return
        if self._drop_caches is not None:
            self._drop_caches(event.tenant, media_id)

    async def _follow(self) -> None:
        pauses = BackOff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        while True:
            try:
                async for event in self._events.follow_events(after=self._position):
                    self._trouble.clear()
                    pauses.reset()
                    await self._take(event)
            except Transient as exc:
                self._trouble.note(exc)
                await asyncio.sleep(pauses.next_seconds())

    async def _take(self, event: JobEvent) -> None:
        async with self._turn:
            # A mark of an older event of this item must not come after that of this one.
            self._untold.pop(_item(event), None)
            if not await self._told(event):
                self._untold[_item(event)] = event
                self._some_untold.set()
            # Only now: after a crash before this line, the event is read again, and not lost.
            self._position = event.position
            await asyncio.to_thread(_write_state, self._state_file, self._position, self._untold)

    async def _repeat(self) -> None:
        while True:
            await self._some_untold.wait()
            await asyncio.sleep(self._pauses.next_seconds())
            async with self._turn:
                for event in list(self._untold.values()):
                    if await self._told(event):
                        del self._untold[_item(event)]
                if not self._untold:
                    self._some_untold.clear()
                    self._pauses.reset()
                await asyncio.to_thread(_write_state, self._state_file, self._position, self._untold)

    async def _told(self, event: JobEvent) -> bool:
        """Tell the event, in a thread, as tldw's functions block. Return False if one of them raised."""
        try:
            await asyncio.to_thread(self.apply, event)
        except Exception as exc:  # noqa: BLE001 - tldw's own, of any kind: the mark is repeated
            logger.warning(
                "media {} of user {} was not marked ({}: {}); it is repeated",
                event.media_id,
                event.tenant,
                type(exc).__name__,
                exc,
            )
            return False
        return True


_Item = tuple[str, str]


def _item(event: JobEvent) -> _Item:
    return event.tenant, event.media_id


def _read_state(path: Path) -> tuple[int, dict[_Item, JobEvent]]:
    """Return the position and the events that were not told. Without a file: 0, and none."""
    if not path.exists():
        return 0, {}
    try:
        state = json.loads(path.read_text())
        events = [JobEvent.model_validate_json(json.dumps(one)) for one in state["untold"]]
        return int(state["position"]), {_item(event): event for event in events}
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ConfigError(f"{path}: is not a state file of MediaMarks: name another file") from exc


def _write_state(path: Path, position: int, untold: dict[_Item, JobEvent]) -> None:
    state = {"position": position, "untold": [event.json_document() for event in untold.values()]}
    with written_whole(path) as fresh, fresh.open("w") as file:
        json.dump(state, file)
        file.flush()
        os.fsync(file.fileno())
