"""Which views for others there are, and which documents changed since each of them was written.

A change of a document marks it (`documents.view_marks`) in the statement that makes the change. The leader
turns the marks into a row of `view_changes` for each view (`tell`), writes the view, and then drops the row
(`settle`). A row names its document, so it outlives the rows of a document that is deleted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, literal, select, text, update

from embedfleet.sql import document_lock
from embedfleet.sql.paging import key_pages
from embedfleet.sql.rows import RowsStatement
from embedfleet.sql.tables import documents, view_changes, views
from embedfleet.sql.upsert import upsert

# The documents of one unit. Other units wait for it, so it takes some hundredths of a second at most.
_DOCUMENTS_PER_UNIT = 500


@dataclass(frozen=True, slots=True)
class ViewRow:
    """A view as SQL knows it. `recipe` has the settings that decide what it holds."""

    view_id: int
    name: str
    recipe: str
    filled_to: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """A document that a view must take in. `changes` counts how often it changed since the last time."""

    document_id: str
    tenant: str
    media_id: str
    changes: int
    since: float


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a view is behind: documents that wait, since when the oldest one does, whether it is filled."""

    documents: int
    oldest: float | None
    filled: bool


def all_views(conn: Connection) -> dict[str, ViewRow]:
    """Return every view, by its name."""
    return {
        row.name: ViewRow(row.view_id, row.name, row.recipe, row.filled_to)
        for row in conn.execute(select(views))
    }


def register(conn: Connection, recipes: Mapping[str, str]) -> list[str]:
    """Make these the views, by name. One that is new, or has another recipe, is filled from the beginning.

    Returns the names of views that are no more. Their rows stay in the collections of the reader.
    """
    known = all_views(conn)
    gone = [row for name, row in known.items() if name not in recipes]
    for row in gone:
        conn.execute(delete(view_changes).where(view_changes.c.view_id == row.view_id))
        conn.execute(delete(views).where(views.c.view_id == row.view_id))
    _put(conn, {name: recipe for name, recipe in recipes.items() if not _is(known.get(name), recipe)})
    return [row.name for row in gone]


def add_missing(conn: Connection, recipes: Mapping[str, str]) -> None:
    """Add those of these views that SQL does not know. No other view changes."""
    known = all_views(conn)
    _put(conn, {name: recipe for name, recipe in recipes.items() if name not in known})


def _put(conn: Connection, wanted: Mapping[str, str]) -> None:
    """Write these views, to be filled from the beginning."""
    for name, recipe in sorted(wanted.items()):
        fresh = {"recipe": recipe, "filled_to": ""}
        statement = upsert(conn.dialect.name, views).values(name=name, **fresh)
        conn.execute(statement.on_conflict_do_update(index_elements=["name"], set_=fresh))
    if wanted and conn.dialect.name == "postgresql":
        # A unit that runs beside this one may change a document and not see the view yet. This waits until
        # all such units have ended, so the filling sees their documents. Later ones see the view.
        conn.execute(text("LOCK TABLE documents IN SHARE ROW EXCLUSIVE MODE"))


def _is(known: ViewRow | None, recipe: str) -> bool:
    return known is not None and known.recipe == recipe


def fill_some(conn: Connection, name: str, now: float) -> str | None:
    """Ask the view to take in some more of the documents that are there.

    Returns the last document that was asked for, in the order of ids; None when all are asked for.
    """
    row = all_views(conn).get(name)
    if row is None or row.filled_to is None:
        return None
    query = select(documents.c.document_id).where(
        documents.c.document_id > row.filled_to, documents.c.live_generation.is_not(None)
    )
    page = list(conn.execute(query.order_by(documents.c.document_id).limit(_DOCUMENTS_PER_UNIT)).scalars())
    _ask(conn, page, [row.view_id], now)
    last = page[-1] if len(page) == _DOCUMENTS_PER_UNIT else None
    conn.execute(update(views).where(views.c.view_id == row.view_id).values(filled_to=last))
    return last


def marked(conn: Connection) -> list[str]:
    """Return some documents whose changes the views were not told of."""
    query = select(documents.c.document_id).where(documents.c.view_marks > 0)
    return list(conn.execute(query.limit(_DOCUMENTS_PER_UNIT)).scalars())


def tell(conn: Connection, document_ids: Sequence[str], now: float) -> None:
    """Tell every view of the changes of these documents, and take the marks off."""
    for document_id in document_ids:
        document_lock.require(conn, document_id)
    there = list(conn.execute(select(views.c.view_id)).scalars())
    for ids in key_pages(document_ids):
        still = documents.c.document_id.in_(ids) & (documents.c.view_marks > 0)
        found = list(conn.execute(select(documents.c.document_id).where(still)).scalars())
        _ask(conn, found, there, now)
        conn.execute(update(documents).where(documents.c.document_id.in_(found)).values(view_marks=0))


def ask_again(conn: Connection, name: str, document_ids: Sequence[str], now: float) -> None:
    """Have one view take in these documents once more. Documents that are gone are left out."""
    row = all_views(conn).get(name)
    if row is not None:
        for ids in key_pages(document_ids):
            _ask(conn, ids, [row.view_id], now)


def _ask(conn: Connection, document_ids: Sequence[str], view_ids: Sequence[int], now: float) -> None:
    for view_id in view_ids:
        if not document_ids:
            return
        named = select(
            literal(view_id),
            documents.c.document_id,
            documents.c.tenant,
            documents.c.media_id,
            literal(1),
            literal(now),
        ).where(documents.c.document_id.in_(document_ids))
        columns = ["view_id", "document_id", "tenant", "media_id", "changes", "since"]
        statement = upsert(conn.dialect.name, view_changes).from_select(columns, named)
        conn.execute(
            statement.on_conflict_do_update(
                index_elements=["view_id", "document_id"],
                set_={"changes": view_changes.c.changes + 1},
            )
        )


def waiting(
    conn: Connection,
    name: str,
    limit: int,
    *,
    tenants_left_out: Sequence[str] = (),
    documents_left_out: Sequence[str] = (),
) -> list[Change]:
    """Return up to `limit` documents that the view must take in, oldest first, without those left out."""
    query = (
        select(view_changes)
        .join(views, views.c.view_id == view_changes.c.view_id)
        .where(
            views.c.name == name,
            view_changes.c.tenant.not_in(tenants_left_out),
            view_changes.c.document_id.not_in(documents_left_out),
        )
        .order_by(view_changes.c.since, view_changes.c.document_id)
        .limit(limit)
    )
    return [
        Change(row.document_id, row.tenant, row.media_id, row.changes, row.since)
        for row in conn.execute(query)
    ]


def settle(conn: Connection, name: str, done: Sequence[Change]) -> list[str]:
    """Drop the rows of documents that the view has taken in. Return those that it must take in again.

    A document that changed since keeps its row. If its row is gone, another leader has written it: what this
    one wrote last may be older, so the document is asked for again.
    """
    row = all_views(conn).get(name)
    if row is None or not done:
        return []
    given = [(row.view_id, change.document_id, change.changes) for change in done]
    dropped = {found.document_id for found in _SETTLE.run(conn, given)}
    late = [change for change in done if change.document_id not in dropped]
    for change in late:
        statement = upsert(conn.dialect.name, view_changes).values(
            view_id=row.view_id,
            document_id=change.document_id,
            tenant=change.tenant,
            media_id=change.media_id,
            changes=1,
            since=change.since,
        )
        conn.execute(statement.on_conflict_do_nothing())
    return [change.document_id for change in late]


@dataclass(frozen=True, slots=True)
class Stamp:
    """Tells whether a document changed between two looks, and whether the view must still take it in."""

    live_generation: int | None
    deleted_at: float | None
    patches: int
    waits: bool


def stamps(conn: Connection, name: str, document_ids: Sequence[str]) -> dict[str, Stamp]:
    """Return the stamp of each document. One that SQL does not know any more, and that no view waits for,
    is left out."""
    found: dict[str, Stamp] = {}
    for ids in key_pages(document_ids):
        in_view = (
            select(view_changes.c.document_id)
            .join(views, views.c.view_id == view_changes.c.view_id)
            .where(views.c.name == name, view_changes.c.document_id.in_(ids))
        )
        waiting_ids = set(conn.execute(in_view).scalars())
        for row in conn.execute(select(documents).where(documents.c.document_id.in_(ids))):
            waits = row.view_marks > 0 or row.document_id in waiting_ids
            found[row.document_id] = Stamp(row.live_generation, row.deleted_at, row.patches, waits)
        for document_id in waiting_ids - found.keys():
            found[document_id] = Stamp(None, None, 0, waits=True)
    return found


def lags(conn: Connection) -> dict[str, Lag]:
    """Return how far each view is behind, by its name."""
    query = (
        select(
            views.c.name,
            views.c.filled_to,
            func.count(view_changes.c.document_id).label("documents"),
            func.min(view_changes.c.since).label("oldest"),
        )
        .outerjoin(view_changes, view_changes.c.view_id == views.c.view_id)
        .group_by(views.c.name, views.c.filled_to)
    )
    return {row.name: Lag(row.documents, row.oldest, row.filled_to is None) for row in conn.execute(query)}


def any_of_tenant(conn: Connection, tenant: str) -> bool:
    """Whether a view must still take in a change of a document of the tenant."""
    query = select(view_changes.c.document_id).where(view_changes.c.tenant == tenant).limit(1)
    return conn.execute(query).first() is not None


_SETTLE = RowsStatement(
    "DELETE FROM view_changes WHERE (view_id, document_id, changes) IN (VALUES {rows}) RETURNING document_id"
)
