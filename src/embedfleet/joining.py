"""Joins the parts that a process has opened to the system of its database, or refuses them.

The rules are in `system_parts.judge`. This module reads the mark and SQL, and carries out the verdict.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Protocol
from uuid import uuid4

from loguru import logger
from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.errors import BrokerUnavailable, Transient
from embedfleet.mark_file import MarkFile
from embedfleet.records import fleet, systems
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.system_parts import Mark, Part, PartKind, SystemRecord, Verdict, judge
from embedfleet.vectors.registry import store_kind

# The leader marks an emptied broker again within a second. A killed orchestrator counts as running for
# `fleet.SILENT_SECONDS`: after that, this process marks the broker itself.
_LONGEST_WAIT_SECONDS = fleet.SILENT_SECONDS + 10.0
_LOOK_SECONDS = 0.5


class Marked(Protocol):
    """A part that carries a mark: a broker, a vector store, or a data directory (`MarkFile`)."""

    async def mark(self) -> str | None:
        """Return the mark; None if there is none."""
        ...

    async def claim_mark(self, mark: str, *, replacing: str | None = None) -> str:
        """Leave the mark if there is none, or if `replacing` is there. Return the mark that is there now."""
        ...


class Purpose(Enum):
    """Why a process opens a part."""

    USE = auto()
    """To work with it: a part that is new is joined, one whose content is lost is refused."""
    EXAMINE = auto()
    """To compare it with SQL: nothing is marked or recorded, and lost content is no reason to refuse it."""
    FILL = auto()
    """To write all of its content again: lost content is joined."""
    READ = auto()
    """To read from it: nothing is marked or recorded, and a part whose content is lost is refused."""

    @property
    def writes(self) -> bool:
        return self in (Purpose.USE, Purpose.FILL)


@dataclass(frozen=True, slots=True)
class OpenedPart:
    """A part that this process has opened, and where: `place` is for messages, without secrets."""

    kind: PartKind
    part: Marked
    place: str


def queues_place(settings: Settings) -> str | None:
    """Return where these settings have the queues, for messages: without secrets. None: they need no mark.

    Queues in process belong to the data directory. If the database is in it too, they always agree.
    """
    if settings.redis.url is not None:
        from embedfleet.queue.redis_endpoint import parse_endpoint

        endpoint = parse_endpoint(settings.redis)
        return f"in Redis at {endpoint}/{endpoint.db}, key prefix {settings.redis.key_prefix}"
    if settings.database.url is not None:
        return f"in a process with the data directory {_on_this_host(settings.data_dir)}"
    return None


def vectors_place(settings: Settings) -> str:
    """Return where these settings have the vector store, for messages: without secrets."""
    kind = store_kind(settings.vector_store.kind)
    own = kind.own_directory(settings)
    where = kind.place(settings) if own is None else _on_this_host(own)
    return f"in {kind.TITLE} at {where}"


def queues_part(settings: Settings, broker: Marked) -> OpenedPart | None:
    """Return the queues as a part of the system; None if they need no mark."""
    place = queues_place(settings)
    if place is None:
        return None
    part = broker if settings.redis.url is not None else MarkFile(settings.data_dir)
    return OpenedPart(PartKind.QUEUES, part, place)


def vectors_part(settings: Settings, store: Marked) -> OpenedPart:
    """Return the vector store as a part of the system."""
    return OpenedPart(PartKind.VECTORS, store, vectors_place(settings))


def _on_this_host(directory: Path) -> str:
    # The host is part of the place: many hosts have the same path for a data directory of their own.
    return f"{directory.absolute()} on {socket.gethostname()}"


async def join(database: Database, opened: OpenedPart, clock: Clock, purpose: Purpose) -> None:
    """Make sure that the part belongs to the system of this database.

    An unknown part of a system that has none of this kind becomes its part. An emptied broker is marked
    again. Raises ConfigError, which names both sides, if the part belongs to another system, or if the
    system has another part. Raises Transient if a service is away.
    """
    give_up_at = monotonic() + _LONGEST_WAIT_SECONDS
    joined = False
    while not joined:
        system = await _system(database, purpose)
        if system is None:
            return
        held = await _held(opened)
        verdict = await _judged(database, opened, clock, purpose, system, held)
        if verdict is not Verdict.WAIT:
            joined = not purpose.writes or await _carry_out(database, opened, clock, system, held, verdict)
        elif monotonic() > give_up_at:
            raise BrokerUnavailable(
                f"{opened.place} has no mark of the system of {database.location}, whose orchestrators run: "
                "it is another server than theirs, so let this host see the same one"
            )
        else:
            await asyncio.sleep(_LOOK_SECONDS)


async def _system(database: Database, purpose: Purpose) -> SystemRecord | None:
    """Return the record of the system. A process that writes makes it if it is missing."""
    system = await database.read(systems.recorded)
    if system is None and purpose.writes:
        proposal = uuid4().hex
        system = await database.write(lambda conn: systems.establish(conn, proposal))
    return system


async def _held(opened: OpenedPart) -> Mark | None:
    text = await opened.part.mark()
    return None if text is None else Mark.from_text(text)


async def _judged(
    database: Database,
    opened: OpenedPart,
    clock: Clock,
    purpose: Purpose,
    system: SystemRecord,
    held: Mark | None,
) -> Verdict:
    may_be_lost = opened.kind is PartKind.QUEUES or purpose in (Purpose.EXAMINE, Purpose.FILL)

    def judged(conn: Connection) -> Verdict:
        return judge(
            opened.kind,
            system,
            held,
            opened.place,
            database=database.location,
            holds_work=not may_be_lost and systems.holds_vectors(conn),
            # Only a broker is marked again by the others: a store that was emptied is never joined silently.
            others_run=opened.kind is PartKind.QUEUES and fleet.any_running(conn, clock.now()),
        )

    return await database.read(judged)


async def _carry_out(
    database: Database,
    opened: OpenedPart,
    clock: Clock,
    system: SystemRecord,
    held: Mark | None,
    verdict: Verdict,
) -> bool:
    """Carry out the verdict. Returns False if another process was faster: then judge what it left."""
    kind, place = opened.kind, opened.place
    recorded = system.parts.get(kind)
    if recorded is not None:
        if verdict is Verdict.MARK_AGAIN:
            if not await _marks(opened, Mark(system.system_id, recorded.part_id, database.location)):
                return False
            logger.info("{} was empty: it carries the mark of this system again", place)
        if recorded.place != place:  # the same part by another name: messages show the one used last
            await database.write(partial(_rename, kind=kind, part_id=recorded.part_id, place=place))
        return True
    mark = held or Mark(system.system_id, uuid4().hex, database.location)
    # The mark comes before the record. A crash in between leaves a part that names its system (RECORD). In
    # the other order it would leave a record of a part without a mark, which looks like one that was lost.
    if verdict is Verdict.ADOPT and not await _marks(opened, mark):
        return False
    part = Part(mark.part_id, place, clock.now())
    winner = await database.write(lambda conn: systems.record_part(conn, kind, part))
    return winner.part_id == mark.part_id


def _rename(conn: Connection, kind: PartKind, part_id: str, place: str) -> None:
    """Record the new name of the part, unless the system has another part by now: its vectors may move."""
    part = systems.lock_part(conn, kind)
    if part is not None and part.part_id == part_id:
        systems.replace_part(conn, kind, replace(part, place=place))


async def _marks(opened: OpenedPart, mark: Mark, *, replacing: str | None = None) -> bool:
    """Mark the part. Returns False if another mark is there, which another process has left."""
    return Mark.from_text(await opened.part.claim_mark(mark.to_text(), replacing=replacing)) == mark


async def move(
    database: Database, opened: list[OpenedPart], clock: Clock, *, ended_system: str | None = None
) -> tuple[SystemRecord, list[PartKind]]:
    """Make these the parts of the system, and return its record and the kinds that changed.

    If no part stays, the system gets another id: it may be a copy of a database whose original goes on.
    Parts that carry the mark of `ended_system` are taken over: its database is gone, or was restored as this
    one. Raises ConfigError for a part that carries the mark of any other system; then no part has changed.
    """
    proposal = uuid4().hex
    system = await database.write(lambda conn: systems.establish(conn, proposal))
    marks = [(one, await one.part.mark()) for one in opened]
    changed = [(one, text) for one, text in marks if not _is_recorded(system, one.kind, text)]
    for one, text in changed:
        if text is not None and Mark.from_text(text).system_id not in (system.system_id, ended_system):
            _refuse(database, system, one, text)
    system_id = system.system_id if len(changed) < len(opened) else uuid4().hex
    for one, text in changed:
        mark = Mark(system_id, uuid4().hex, database.location)
        if not await _marks(one, mark, replacing=text):
            raise Transient(f"{one.place} was marked by another process just now: look again")
        part = Part(mark.part_id, one.place, clock.now())
        await database.write(partial(_record_move, system_id=system_id, kind=one.kind, part=part))
    moved = await database.read(systems.recorded)
    assert moved is not None
    return moved, [one.kind for one, _ in changed]


def _record_move(conn: Connection, system_id: str, kind: PartKind, part: Part) -> None:
    systems.replace_system(conn, system_id)
    systems.replace_part(conn, kind, part)


def _is_recorded(system: SystemRecord, kind: PartKind, text: str | None) -> bool:
    recorded = system.parts.get(kind)
    if text is None or recorded is None:
        return False
    mark = Mark.from_text(text)
    return (mark.system_id, mark.part_id) == (system.system_id, recorded.part_id)


def _refuse(database: Database, system: SystemRecord, opened: OpenedPart, text: str) -> None:
    judge(
        opened.kind,
        system,
        Mark.from_text(text),
        opened.place,
        database=database.location,
        holds_work=False,
        others_run=False,
    )
