"""Answers to searches that were shown to people, and what they clicked.

They are those of online experiments, and those of tenants whose searches are logged. Only the latter keep the
text of the search.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, func, insert, select, update

from embedfleet.evaluation.questions import Answer
from embedfleet.sql.experiment_tables import experiments, impression_hits, impressions
from embedfleet.sql.paging import key_pages

_MOST_LOGGED = 50_000


@dataclass(frozen=True, slots=True)
class ShownHit:
    """A passage of an answer. `team` is `a`, `b`, or `-` for a hit of neither."""

    document_id: str
    chunk_id: str
    start: int
    end: int
    team: str


@dataclass(frozen=True, slots=True)
class Impression:
    """An answer that was shown. `clicks` are its clicked places, from 0."""

    impression_id: str
    tenant: str
    experiment_id: str | None
    teams: str
    clicks: Sequence[int]
    shown_at: float


@dataclass(frozen=True, slots=True)
class LoggedSearch:
    """A search of the log. `clicked` are the passages of its answer that were clicked, by document id."""

    impression_id: str
    query: str
    clicked: Sequence[Answer]


def add(
    conn: Connection,
    impression_id: str,
    tenant: str,
    hits: Sequence[ShownHit],
    *,
    experiment_id: str | None,
    query: str | None,
    now: float,
) -> None:
    """Write an answer. `query` is its text if the tenant's searches are logged."""
    conn.execute(
        insert(impressions).values(
            impression_id=impression_id,
            tenant=tenant,
            experiment_id=experiment_id,
            query=query,
            teams="".join(one.team for one in hits),
            clicks="[]",
            shown_at=now,
        )
    )
    rows = [
        {
            "impression_id": impression_id,
            "place": place,
            "tenant": tenant,
            "document_id": one.document_id,
            "chunk_id": bytes.fromhex(one.chunk_id),
            "start": one.start,
            "end": one.end,
        }
        for place, one in enumerate(hits)
    ]
    if rows:
        conn.execute(insert(impression_hits), rows)


def lock(conn: Connection, tenant: str, impression_id: str) -> Impression | None:
    """Return the tenant's answer, and keep other units from changing it; None if it has none of this id."""
    query = select(impressions).where(
        impressions.c.impression_id == impression_id, impressions.c.tenant == tenant
    )
    if conn.dialect.name != "sqlite":
        query = query.with_for_update()
    row = conn.execute(query).one_or_none()
    if row is None:
        return None
    return Impression(
        row.impression_id, row.tenant, row.experiment_id, row.teams, json.loads(row.clicks), row.shown_at
    )


def places_of(conn: Connection, impression_id: str, chunk_ids: Sequence[str]) -> dict[str, int]:
    """Return the places of these passages in an answer. A passage that is not in it is left out."""
    query = select(impression_hits.c.chunk_id, impression_hits.c.place).where(
        impression_hits.c.impression_id == impression_id
    )
    found = {row.chunk_id.hex(): row.place for row in conn.execute(query)}
    return {chunk_id: found[chunk_id] for chunk_id in chunk_ids if chunk_id in found}


def set_clicks(conn: Connection, impression_id: str, places: Iterable[int]) -> None:
    """Set the clicked places of an answer that this unit has locked."""
    mine = impressions.c.impression_id == impression_id
    conn.execute(update(impressions).where(mine).values(clicks=json.dumps(sorted(set(places)))))


def clicked(conn: Connection, experiment_id: str, *, shown_before: float) -> list[tuple[str, list[int]]]:
    """Return the teams and the clicked places of each answer with a click, the oldest first."""
    query = select(impressions.c.teams, impressions.c.clicks).where(
        impressions.c.experiment_id == experiment_id,
        impressions.c.shown_at < shown_before,
        impressions.c.clicks != "[]",
    )
    rows = conn.execute(query.order_by(impressions.c.shown_at, impressions.c.impression_id))
    return [(row.teams, json.loads(row.clicks)) for row in rows]


def count_shown(conn: Connection, experiment_id: str) -> int:
    """Count the answers of an experiment that were shown."""
    mine = impressions.c.experiment_id == experiment_id
    return int(conn.execute(select(func.count()).where(mine)).scalar_one())


def logged(conn: Connection, tenant: str, *, since: float) -> list[LoggedSearch]:
    """Return the searches of the tenant's log since then, the newest first, up to 50,000."""
    query = select(impressions.c.impression_id, impressions.c.query, impressions.c.clicks).where(
        impressions.c.tenant == tenant, impressions.c.query.is_not(None), impressions.c.shown_at >= since
    )
    rows = conn.execute(query.order_by(impressions.c.shown_at.desc()).limit(_MOST_LOGGED)).all()
    places = {row.impression_id: set(json.loads(row.clicks)) for row in rows}
    answers: dict[str, list[Answer]] = {}
    with_clicks = [impression_id for impression_id, some in places.items() if some]
    for ids in key_pages(with_clicks):
        hits = select(impression_hits).where(impression_hits.c.impression_id.in_(ids))
        for hit in conn.execute(hits.order_by(impression_hits.c.place)):
            if hit.place in places[hit.impression_id]:
                found = answers.setdefault(hit.impression_id, [])
                found.append(Answer(hit.document_id, (hit.start, hit.end)))
    return [LoggedSearch(row.impression_id, row.query, answers.get(row.impression_id, ())) for row in rows]


def drop_old(conn: Connection, limit: int, *, before: float) -> int:
    """Drop up to `limit` answers that were shown before, but for a running experiment. Returns how many."""
    under_way = exists().where(
        experiments.c.experiment_id == impressions.c.experiment_id, experiments.c.running == 1
    )
    query = select(impressions.c.impression_id).where(impressions.c.shown_at < before, ~under_way)
    ids = list(conn.execute(query.limit(limit)).scalars())
    for some in key_pages(ids):
        for table in (impression_hits, impressions):
            conn.execute(delete(table).where(table.c.impression_id.in_(some)))
    return len(ids)
