"""Listings in pages: rows that stay come once each, whatever ties and changes there are between two pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Table, create_engine, delete, insert

from embedfleet.document_filter import EVERY_DOCUMENT
from embedfleet.errors import InvalidRequest
from embedfleet.queue_schemas import JobStatus, Stage, UserTier
from embedfleet.records import dead_letters, document_info, events, jobs
from embedfleet.records.cursors import Listing, Page
from embedfleet.records.jobs import NewJob
from embedfleet.records.scope import EveryTenant, OneTenant, Scope
from embedfleet.sql import tables
from embedfleet.sql.schema import SCHEMA
from support.examples import examples

# Ties, and instants that are closer together than a datetime can tell.
INSTANTS = [1_700_000_000.0, 1_700_000_000.0000002, 1_700_000_000.0000005, 1_700_000_000.5]
TENANTS = "ab"
Row = tuple[str, float]  # tenant, instant

some_rows = st.lists(st.tuples(st.sampled_from(TENANTS), st.sampled_from(INSTANTS)), max_size=12)
# What happens between two pages: which of the rows seen so far go, and which come.
some_changes = st.lists(st.tuples(st.lists(st.integers(0, 11), max_size=3), some_rows), max_size=4)
a_scope = st.sampled_from([EveryTenant(), *map(OneTenant, TENANTS)])


class World:
    """Documents, each with a job, a dead letter and an event, all of them named by one number."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.rows: dict[int, Row] = {}
        self._made = 0

    def add(self, rows: Sequence[Row]) -> None:
        for tenant, instant in rows:
            self._made += 1
            number, name, mixed = self._made, f"{self._made:04}", mixed_name(self._made)
            self.rows[number] = (tenant, instant)
            common = {"tenant": tenant, "created_at": instant}
            self._put(
                tables.documents,
                document_id=name,
                media_id=mixed,
                cleanup=0,
                deletions=0,
                patches=0,
                view_marks=0,
                **common,
            )
            new = NewJob(mixed, tenant, name, number, UserTier.FREE, 50, instant)
            jobs.create(self.conn, [new])
            common |= {"job_id": mixed, "run": 1}
            self._put(tables.dead_letters, dead_letter_id=number, stage=Stage.STORAGE, reason="bad", **common)
            common |= {"media_id": mixed, "status": JobStatus.FAILED, "chunks_stored": 0, "chunks_dead": 1}
            self._put(tables.events, event_id=name, position=number, **common)

    def _put(self, table: Table, **values: object) -> None:
        self.conn.execute(insert(table).values(values))

    def drop(self, number: int) -> None:
        del self.rows[number]
        mixed = mixed_name(number)
        self.conn.execute(delete(tables.dead_letters).where(tables.dead_letters.c.dead_letter_id == number))
        self.conn.execute(delete(tables.jobs).where(tables.jobs.c.job_id == mixed))
        self.conn.execute(delete(tables.documents).where(tables.documents.c.media_id == mixed))
        self.conn.execute(delete(tables.events).where(tables.events.c.position == number))

    def number_of(self, mixed: str) -> int:
        return next(number for number in range(1, self._made + 1) if mixed_name(number) == mixed)


def mixed_name(number: int) -> str:
    """Names whose order is not that of the numbers. All have the same number of digits."""
    return f"{number * 7919 % 10_000:04}"


@pytest.fixture(scope="module")
def conn() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    SCHEMA.create_all(engine)
    with engine.connect() as conn:
        yield conn
    engine.dispose()


def jobs_page(world: World, scope: Scope, limit: int, after: str | None) -> Page[int]:
    found = jobs.page(world.conn, scope, which=jobs.JobFilter(), limit=limit, after=after)
    return Page((world.number_of(one.job_id) for one in found), next_cursor=found.next_cursor)


def documents_page(world: World, scope: Scope, limit: int, after: str | None) -> Page[int]:
    found = document_info.page(
        world.conn, scope, source_prefix="", matching=EVERY_DOCUMENT, limit=limit, after=after
    )
    return Page((world.number_of(one.media_id) for one in found), next_cursor=found.next_cursor)


def letters_page(world: World, scope: Scope, limit: int, after: str | None) -> Page[int]:
    found = dead_letters.page(
        world.conn, scope, job_id=None, stage=None, ended=True, limit=limit, after=after
    )
    return Page((one.dead_letter_id for one in found), next_cursor=found.next_cursor)


def events_page(world: World, scope: Scope, limit: int, after: str | None) -> Page[int]:
    """Readers of events go on from a position, which is known to all, and not from a cursor."""
    found = events.after(world.conn, scope, int(after or 0), limit)
    following = str(found[-1].position) if len(found) == limit else None
    return Page((one.position for one in found), next_cursor=following)


ORDERS: dict[Callable[..., Page[int]], Callable[[int, Row], Any]] = {
    jobs_page: lambda number, row: (-row[1], mixed_name(number)),
    documents_page: lambda number, row: (row[0], mixed_name(number)),
    letters_page: lambda number, row: -number,
    events_page: lambda number, row: number,
}


@pytest.mark.parametrize("page", ORDERS)
@settings(max_examples=examples(60))
@given(rows=some_rows, changes=some_changes, limit=st.integers(1, 5), scope=a_scope)
def test_a_walk_neither_repeats_nor_loses_rows(
    conn: Connection,
    page: Callable[[World, Scope, int, str | None], Page[int]],
    rows: list[Row],
    changes: list[tuple[list[int], list[Row]]],
    limit: int,
    scope: Scope,
) -> None:
    world = World(conn)
    try:
        world.add(rows)
        all_along = set(world.rows)
        walked: list[tuple[int, Row]] = []
        after: str | None = None
        while True:
            found = page(world, scope, limit, after)
            assert len(found) <= limit
            walked += [(number, world.rows[number]) for number in found]
            after = found.next_cursor
            if after is None:
                break
            assert len(found) == limit
            if changes:
                going, coming = changes.pop()
                # The row that the cursor names may go, too.
                seen = [number for number, _ in walked if number in world.rows]
                for number in {seen[-1 - one] for one in going if one < len(seen)}:
                    world.drop(number)
                all_along &= set(world.rows)
                world.add(coming)
        numbers = [number for number, _ in walked]
        assert len(numbers) == len(set(numbers))
        assert {one for one in all_along if scope.holds(world.rows[one][0])} <= set(numbers)
        keys = [ORDERS[page](*one) for one in walked]
        assert keys == sorted(keys)
    finally:
        conn.rollback()


LISTING = Listing("rows", (float, str, int))


@given(st.floats(allow_nan=False), st.text(st.characters(exclude_categories=["Cs"])), st.integers(-9, 9))
def test_a_cursor_keeps_every_key_exactly(instant: float, name: str, number: int) -> None:
    name = name.replace("\0", "")
    page = LISTING.page([(instant, name, number), (0.0, "", 0)], 1, lambda row: row)
    assert page.next_cursor is not None
    assert LISTING.key_after(page.next_cursor) == (instant, name, number)


@given(st.one_of(st.text(), st.text("eyJbW10", max_size=30)))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^after: is not a cursor of rows: pass the `next_cursor` of"):
        LISTING.key_after(text)


@pytest.mark.parametrize(
    ("listing", "key"),
    [
        (Listing("jobs", (float, str, int)), (0.0, "a", 0)),
        (Listing("rows", (str, int)), ("a", 0)),
        (Listing("rows", (float, str, int)), (0.0, "a\0", 0)),
        (Listing("rows", (float, str, int)), (0.0, "\ud800", 0)),
        (Listing("rows", (float, str, int)), (0.0, "a", 1 << 63)),
    ],
)
def test_a_forged_key_does_not_reach_the_database(listing: Listing, key: tuple[Any, ...]) -> None:
    cursor = listing.page([key, key], 1, lambda row: row).next_cursor
    assert cursor is not None
    with pytest.raises(InvalidRequest):
        LISTING.key_after(cursor)
