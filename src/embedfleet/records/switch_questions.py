"""The questions of the last gate of a switch that the new space answered worst.

A row names the span of a document, and not its text: the text is read when the question is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection, delete, insert, select

from embedfleet.records import arms
from embedfleet.records.model_switches import ModelSwitch
from embedfleet.sql.model_tables import switch_questions
from embedfleet.sql.states import GenerationState
from embedfleet.sql.tables import chunks, documents, generations


class Question(Protocol):
    """A question as the gate has asked it (`model_switching.gate.AskedQuestion`)."""

    @property
    def document_id(self) -> str: ...
    @property
    def is_title(self) -> bool: ...
    @property
    def start(self) -> int: ...
    @property
    def old_rank(self) -> int | None: ...
    @property
    def new_rank(self) -> int | None: ...
    @property
    def overlap(self) -> float: ...


@dataclass(frozen=True, slots=True)
class WorstQuestion:
    """A question with its text and its document. Ranks and overlap are as the gate has them.

    `source` says where the document came from, if that was said.
    """

    text: str
    media_id: str
    source: str | None
    old_rank: int | None
    new_rank: int | None
    overlap: float


def replace(conn: Connection, switch: ModelSwitch, worst: Sequence[Question]) -> None:
    """Keep these questions, the worst first, in place of those before."""
    conn.execute(delete(switch_questions).where(switch_questions.c.switch_id == switch.switch_id))
    rows = [
        {
            "switch_id": switch.switch_id,
            "place": place,
            "tenant": switch.tenant,
            "document_id": one.document_id,
            "is_title": one.is_title,
            "start": one.start,
            "old_rank": one.old_rank,
            "new_rank": one.new_rank,
            "overlap": one.overlap,
        }
        for place, one in enumerate(worst)
    ]
    if rows:
        conn.execute(insert(switch_questions), rows)


def of_switch(conn: Connection, switch: ModelSwitch) -> list[WorstQuestion]:
    """Return the questions, the worst first. One whose document has changed since is left out."""
    shown = (
        select(
            switch_questions.c.place,
            switch_questions.c.old_rank,
            switch_questions.c.new_rank,
            switch_questions.c.overlap,
            switch_questions.c.is_title,
            documents.c.media_id,
            documents.c.source,
            generations.c.title,
            chunks.c.heading,
        )
        .join(documents, documents.c.document_id == switch_questions.c.document_id)
        .join(generations, generations.c.document_id == documents.c.document_id)
        .outerjoin(
            chunks,
            (chunks.c.generation_id == generations.c.generation_id)
            & (chunks.c.start == switch_questions.c.start),
        )
        .where(
            switch_questions.c.switch_id == switch.switch_id,
            documents.c.deleted_at.is_(None),
            generations.c.state == GenerationState.LIVE,
            arms.describes(switch.old),
        )
        .order_by(switch_questions.c.place, chunks.c.chunk_index)
    )
    found: dict[int, WorstQuestion] = {}
    for row in conn.execute(shown):
        text = row.title if row.is_title else row.heading
        if text:
            one = WorstQuestion(text, row.media_id, row.source, row.old_rank, row.new_rank, row.overlap)
            found.setdefault(row.place, one)
    return list(found.values())
