"""Gaps: what one space of a switch to another model has, and the other space lacks.

A document has a gap in a space if readers see a version of it in the other space, and in this one neither the
same version nor a newer one. Numbers of generations grow, so they tell which version is newer. SQL knows all
gaps at any moment, so nothing about them is remembered anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, func, or_, select

from embedfleet.queue_schemas import JobStatus
from embedfleet.records.collections import Collection
from embedfleet.records.jobs import CANCELLED
from embedfleet.sql.paging import key_pages
from embedfleet.sql.states import GenerationState
from embedfleet.sql.tables import documents, generations, jobs


@dataclass(frozen=True, slots=True)
class Way:
    """From which space of a switch documents are copied into which.

    `only_known`: only those of which readers see an older version in the target.
    """

    switch_id: int
    source: Collection
    target: Collection
    only_known: bool = False


def to_copy(conn: Connection, way: Way, *, limit: int, after: str = "") -> list[str]:
    """Return up to `limit` documents with a gap for which a job may begin now, by their ids, after `after`.

    Those that have an unfinished job are left out: its end may close the gap. So are those whose job of this
    switch has failed, or was cancelled by an operator.
    """
    query = _to_copy(way).where(documents.c.document_id > after)
    return list(conn.execute(query.order_by(documents.c.document_id).limit(limit)).scalars())


def to_copy_among(conn: Connection, way: Way, document_ids: Sequence[str]) -> list[str]:
    """Return those of the documents that `to_copy` would return, in the order of their ids."""
    return _among(conn, _to_copy(way), document_ids)


def among(conn: Connection, way: Way, document_ids: Sequence[str]) -> list[str]:
    """Return those of the documents that have a gap, in the order of their ids."""
    return _among(conn, _gaps(way), document_ids)


def any_open(conn: Connection, way: Way) -> bool:
    """Whether a document has a gap that is not given up: its job has not failed."""
    query = _gaps(way).where(~_given_up(way)).limit(1)
    return conn.execute(query).first() is not None


def any_given_up(conn: Connection, way: Way) -> bool:
    """Whether a document has a gap whose job has failed, or was cancelled by an operator."""
    return conn.execute(_gaps(way).where(_given_up(way)).limit(1)).first() is not None


@dataclass(frozen=True, slots=True)
class Gaps:
    """How many documents have a gap, and the characters of their versions in the other space."""

    documents: int
    chars: int


def measure(conn: Connection, way: Way) -> Gaps:
    """Count the documents that have a gap."""
    gaps = _gaps(way).add_columns(generations.c.chars).subquery()
    sums = select(func.count(), func.coalesce(func.sum(gaps.c.chars), 0)).select_from(gaps)
    found, chars = conn.execute(sums).one()
    return Gaps(found, int(chars))


def any_unpaired(conn: Connection, switch_id: int, paired: Sequence[Collection]) -> bool:
    """Whether a submitted job for one of the `paired` collections is under way without its twin.

    It was submitted before the switch began, or its twin has failed.
    """
    twin = jobs.alias("twin")
    query = (
        select(jobs.c.job_id)
        .join(generations, generations.c.generation_id == jobs.c.generation_id)
        .where(
            jobs.c.tenant.in_([one.tenant for one in paired]),
            jobs.c.finished_at.is_(None),
            jobs.c.switch_id.is_(None),
            generations.c.collection_id.in_([one.collection_id for one in paired]),
            ~exists().where(
                twin.c.document_id == jobs.c.document_id,
                twin.c.finished_at.is_(None),
                twin.c.switch_id == switch_id,
            ),
        )
    )
    return conn.execute(query.limit(1)).first() is not None


def _among(conn: Connection, query: Select[Any], document_ids: Sequence[str]) -> list[str]:
    found: list[str] = []
    for ids in key_pages(sorted(document_ids)):
        mine = query.where(documents.c.document_id.in_(ids))
        found += conn.execute(mine.order_by(documents.c.document_id)).scalars()
    return found


def is_gap(source: Any, target: Collection) -> ColumnElement[bool]:
    """Return the condition that a live generation of the table `source` has a gap in `target`."""
    return is_gap_in(source, lambda there: there.c.collection_id == target.collection_id)


def is_gap_in(source: Any, is_target: Callable[[Any], ColumnElement[bool]]) -> ColumnElement[bool]:
    """Return the condition that a live generation of `source` has a gap where `is_target` is true."""
    there = generations.alias("there")
    return ~exists().where(
        there.c.document_id == source.c.document_id,
        is_target(there),
        there.c.state == GenerationState.LIVE,
        or_(_same(there, source), there.c.number > source.c.number),
    )


def _same(one: Any, other: Any) -> ColumnElement[bool]:
    return and_(*(one.c[name] == other.c[name] for name in ("content_hash", "content_type", "chunking")))


def _gaps(way: Way) -> Select[Any]:
    known = generations.alias("known")
    is_known = exists().where(
        known.c.document_id == documents.c.document_id,
        known.c.collection_id == way.target.collection_id,
        known.c.state == GenerationState.LIVE,
    )
    return (
        select(documents.c.document_id)
        .join(generations, generations.c.document_id == documents.c.document_id)
        .where(
            documents.c.tenant == way.source.tenant,
            documents.c.deleted_at.is_(None),
            generations.c.collection_id == way.source.collection_id,
            generations.c.state == GenerationState.LIVE,
            is_gap(generations, way.target),
            *([is_known] if way.only_known else []),
        )
    )


def _to_copy(way: Way) -> Select[Any]:
    unfinished = exists().where(jobs.c.document_id == documents.c.document_id, jobs.c.finished_at.is_(None))
    return _gaps(way).where(~unfinished, ~_given_up(way))


def _given_up(way: Way) -> ColumnElement[bool]:
    made = generations.alias("made")
    return exists().where(
        made.c.document_id == documents.c.document_id,
        made.c.collection_id == way.target.collection_id,
        _same(made, generations),
        jobs.c.generation_id == made.c.generation_id,
        jobs.c.switch_id == way.switch_id,
        or_(jobs.c.status == JobStatus.FAILED, jobs.c.reason == CANCELLED),
    )
