"""The questions of experiments, and what both models answered to those that were asked.

A known item is a place in a document, and a hit is a span of one. Their texts are read when they are needed,
so nothing of a document stays here when it is deleted. Documents are named by their ids.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, insert, select, update

from embedfleet.evaluation.known_items import question_of
from embedfleet.evaluation.questions import Answer, Question
from embedfleet.records import arms, segments
from embedfleet.records.chunks import HEADING_SEPARATOR
from embedfleet.records.experiments import Experiment
from embedfleet.sql.experiment_tables import (
    experiment_answers,
    experiment_hits,
    experiment_questions,
    impressions,
)
from embedfleet.sql.paging import key_pages
from embedfleet.sql.states import GenerationState
from embedfleet.sql.tables import chunks, documents, generations

TEAMS = ("a", "b")
_ROWS_PER_STATEMENT = 500


@dataclass(frozen=True, slots=True)
class NewQuestion:
    """A question to ask: a known item, an answer of the query log, or a text. Answers name document ids."""

    answers: Sequence[Answer]
    document_id: str | None = None
    is_title: bool = False
    start: int = 0
    impression_id: str | None = None
    text: str | None = None
    language: str = ""
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class StoredQuestion:
    """A question with its place in the experiment. None: its text is gone, or is another one by now."""

    place: int
    question: Question | None


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A passage that an arm found."""

    document_id: str
    start: int
    end: int
    is_right: bool


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """What was measured of a question, without its text."""

    place: int
    language: str
    content_type: str
    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ShownPassage:
    """A passage as people see it. `text` is None if its document has changed since."""

    media_id: str
    source: str | None
    start: int
    end: int
    is_right: bool
    text: str | None


@dataclass(frozen=True, slots=True)
class ShownQuestion:
    """A question with the first hits of each arm. `text` is None if it is gone."""

    place: int
    text: str | None
    right: Sequence[str]
    a: Sequence[ShownPassage]
    b: Sequence[ShownPassage]


def add(conn: Connection, experiment: Experiment, questions: Sequence[NewQuestion]) -> None:
    """Write the questions of an experiment, in the order in which they will be asked."""
    own = {"experiment_id": experiment.experiment_id, "tenant": experiment.tenant}
    rows = [
        {
            **own,
            "place": place,
            "document_id": one.document_id,
            "is_title": one.is_title,
            "start": one.start,
            "impression_id": one.impression_id,
            "text": one.text,
            "language": one.language,
            "content_type": one.content_type,
        }
        for place, one in enumerate(questions)
    ]
    answers = [
        {
            **own,
            "place": place,
            "number": number,
            "document_id": answer.document,
            "start": None if answer.span is None else answer.span[0],
            "end": None if answer.span is None else answer.span[1],
            "gain": answer.gain,
        }
        for place, one in enumerate(questions)
        for number, answer in enumerate(one.answers)
    ]
    for table, all_rows in ((experiment_questions, rows), (experiment_answers, answers)):
        for first in range(0, len(all_rows), _ROWS_PER_STATEMENT):
            conn.execute(insert(table), all_rows[first : first + _ROWS_PER_STATEMENT])


def count(conn: Connection, experiment: Experiment) -> int:
    """Count the questions of the experiment, asked or not."""
    mine = experiment_questions.c.experiment_id == experiment.experiment_id
    return int(conn.execute(select(func.count()).where(mine)).scalar_one())


def count_asked(conn: Connection, experiment: Experiment) -> int:
    """Count the questions of the experiment that were asked."""
    mine = (
        experiment_questions.c.experiment_id == experiment.experiment_id,
        experiment_questions.c.result.is_not(None),
    )
    return int(conn.execute(select(func.count()).where(*mine)).scalar_one())


def unasked(conn: Connection, experiment: Experiment, *, limit: int, before: int) -> list[StoredQuestion]:
    """Return up to `limit` questions that were not asked yet, with places below `before`, in order."""
    query = (
        _texts(experiment)
        .where(experiment_questions.c.asked_at.is_(None), experiment_questions.c.place < before)
        .order_by(experiment_questions.c.place)
        .limit(limit)
    )
    rows = conn.execute(query).all()
    answers = _answers(conn, experiment, [row.place for row in rows])
    found: list[StoredQuestion] = []
    for row in rows:
        text, right = _text(row), tuple(answers.get(row.place, ()))
        question = Question(str(row.place), text, right, row.language, row.content_type) if text else None
        found.append(StoredQuestion(row.place, question))
    return found


def record(
    conn: Connection,
    experiment: Experiment,
    place: int,
    *,
    now: float,
    result: Mapping[str, Any] | None,
    hits: Mapping[str, Sequence[FoundPassage]],
) -> bool:
    """Record that a question was asked. Return False if it was recorded before: nothing is written then.

    `result` None: it could not be asked. `hits` are those of each team.
    """
    mine = and_(
        experiment_questions.c.experiment_id == experiment.experiment_id,
        experiment_questions.c.place == place,
        experiment_questions.c.asked_at.is_(None),
    )
    written = None if result is None else json.dumps(dict(result))
    if not conn.execute(
        update(experiment_questions).where(mine).values(asked_at=now, result=written)
    ).rowcount:
        return False
    rows = [
        {
            "experiment_id": experiment.experiment_id,
            "tenant": experiment.tenant,
            "place": place,
            "team": team,
            "rank": rank,
            "document_id": one.document_id,
            "start": one.start,
            "end": one.end,
            "is_right": one.is_right,
        }
        for team, found in hits.items()
        for rank, one in enumerate(found, start=1)
    ]
    if rows:
        conn.execute(insert(experiment_hits), rows)
    return True


def asked(conn: Connection, experiment: Experiment) -> list[AskedQuestion]:
    """Return what was measured of each question that was asked, in the order of the questions."""
    table = experiment_questions.c
    query = (
        select(table.place, table.language, table.content_type, table.result)
        .where(table.experiment_id == experiment.experiment_id, table.result.is_not(None))
        .order_by(table.place)
    )
    return [
        AskedQuestion(row.place, row.language, row.content_type, json.loads(row.result))
        for row in conn.execute(query)
    ]


def shown(conn: Connection, experiment: Experiment, places: Sequence[int]) -> list[ShownQuestion]:
    """Return these questions as people see them, in this order. Those that are gone are left out."""
    texts: dict[int, str | None] = {}
    for some in key_pages(places):
        for row in conn.execute(_texts(experiment).where(experiment_questions.c.place.in_(some))):
            texts.setdefault(row.place, _text(row) or None)
    right = _right_documents(conn, experiment, places)
    hits = _hits(conn, experiment, places)
    return [
        ShownQuestion(
            place, texts[place], right.get(place, ()), *(hits.get((place, team), ()) for team in TEAMS)
        )
        for place in places
        if place in texts
    ]


def _texts(experiment: Experiment) -> Any:
    """Select the questions with what their texts are made of: the tenant has them all in its own arm."""
    table = experiment_questions
    live = and_(
        generations.c.document_id == table.c.document_id,
        generations.c.state == GenerationState.LIVE,
        arms.describes(experiment.own),
    )
    heading = (
        select(chunks.c.heading)
        .where(chunks.c.generation_id == generations.c.generation_id, chunks.c.start == table.c.start)
        .order_by(chunks.c.chunk_index)
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(
            table.c.place,
            table.c.document_id,
            table.c.is_title,
            table.c.text,
            table.c.language,
            table.c.content_type,
            generations.c.title,
            heading.label("heading"),
            impressions.c.query,
        )
        .outerjoin(documents, documents.c.document_id == table.c.document_id)
        .outerjoin(generations, live)
        .outerjoin(impressions, impressions.c.impression_id == table.c.impression_id)
        .where(table.c.experiment_id == experiment.experiment_id)
    )


def _text(row: Any) -> str:
    """Return the text of a question; empty if it is gone."""
    if row.document_id is None:
        return str(row.text or row.query or "")
    if row.is_title:
        return question_of(row.title or "")
    return question_of((row.heading or "").rpartition(HEADING_SEPARATOR)[2])


def _answers(conn: Connection, experiment: Experiment, places: Sequence[int]) -> dict[int, list[Answer]]:
    found: dict[int, list[Answer]] = {}
    for some in key_pages(places):
        query = select(experiment_answers).where(
            experiment_answers.c.experiment_id == experiment.experiment_id,
            experiment_answers.c.place.in_(some),
        )
        for row in conn.execute(query.order_by(experiment_answers.c.place, experiment_answers.c.number)):
            span = None if row.start is None else (row.start, row.end)
            found.setdefault(row.place, []).append(Answer(row.document_id, span, row.gain))
    return found


def _right_documents(conn: Connection, experiment: Experiment, places: Sequence[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for some in key_pages(places):
        query = (
            select(experiment_answers.c.place, documents.c.media_id)
            .join(documents, documents.c.document_id == experiment_answers.c.document_id)
            .where(
                experiment_answers.c.experiment_id == experiment.experiment_id,
                experiment_answers.c.place.in_(some),
                documents.c.deleted_at.is_(None),
            )
        )
        for row in conn.execute(query.order_by(experiment_answers.c.place, experiment_answers.c.number)):
            found.setdefault(row.place, []).append(row.media_id)
    return found


def _hits(
    conn: Connection, experiment: Experiment, places: Sequence[int]
) -> dict[tuple[int, str], list[ShownPassage]]:
    rows: list[Any] = []
    for some in key_pages(places):
        query = (
            select(experiment_hits, documents.c.media_id, documents.c.source, generations.c.generation_id)
            .join(documents, documents.c.document_id == experiment_hits.c.document_id)
            .outerjoin(
                generations,
                and_(
                    generations.c.document_id == experiment_hits.c.document_id,
                    generations.c.state == GenerationState.LIVE,
                    arms.describes(experiment.own),
                ),
            )
            .where(
                experiment_hits.c.experiment_id == experiment.experiment_id,
                experiment_hits.c.place.in_(some),
                documents.c.deleted_at.is_(None),
            )
        )
        rows += conn.execute(query.order_by(experiment_hits.c.place, experiment_hits.c.rank)).all()
    spans = [(row.generation_id or 0, [(row.start, row.end)]) for row in rows]
    found: dict[tuple[int, str], list[ShownPassage]] = {}
    for row, texts in zip(rows, segments.texts_of(conn, spans), strict=True):
        text = texts[0] if texts else None
        passage = ShownPassage(row.media_id, row.source, row.start, row.end, row.is_right, text)
        found.setdefault((row.place, row.team), []).append(passage)
    return found
