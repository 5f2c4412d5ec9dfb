"""What cosines of random pairs are like in each collection, as `routing.fusion` uses it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from embedfleet.routing.fusion import Background
from embedfleet.sql.tables import collections, score_backgrounds
from embedfleet.sql.upsert import upsert


@dataclass(frozen=True, slots=True)
class KeptBackground:
    """A background, and how many documents readers saw in the collection when it was made."""

    background: Background
    documents: int


def get(conn: Connection, collection_id: int) -> KeptBackground | None:
    """Return the background of this collection; None if it has none."""
    query = select(score_backgrounds).where(score_backgrounds.c.collection_id == collection_id)
    row = conn.execute(query).one_or_none()
    return None if row is None else KeptBackground(Background.of_json(row.background), row.documents)


def put(conn: Connection, collection_id: int, kept: KeptBackground, now: float) -> None:
    """Keep the background of a collection in place of the one it has. One that is gone gets none."""
    if conn.execute(select(collections).where(collections.c.collection_id == collection_id)).first() is None:
        return
    values = {"background": kept.background.to_json(), "documents": kept.documents, "made_at": now}
    statement = upsert(conn.dialect.name, score_backgrounds).values(collection_id=collection_id, **values)
    conn.execute(statement.on_conflict_do_update(index_elements=["collection_id"], set_=values))
