"""Decides for one document whether its rows are taken as they are. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from embedfleet.adoption.layout import RowFacts, SourceLayout
from embedfleet.adoption.placing import Piece, Placing, Span, assembled
from embedfleet.adoption.texts import KnownText
from embedfleet.chunking.coverage import CoverageMeter
from embedfleet.document_metadata import Value, checked
from embedfleet.visible_text import shows_nothing

MOST_TITLE_CHARS = 1024
"""What a submitted document may have as a title."""


class Outcome(StrEnum):
    """What becomes of a document.

    `take`: its rows are taken. `embed`: its text is embedded again. `drop`: it was thrown away.
    `refuse`: it cannot be taken. `there`: it is here already.
    """

    TAKE = "take"
    EMBED = "embed"
    DROP = "drop"
    REFUSE = "refuse"
    THERE = "there"


class Reason(StrEnum):
    """Why a document has its outcome, in words that follow a number of documents."""

    RIGHT = "vectors are right"
    GROUP_WRONG = "vectors are not those of the model"
    TRUNCATED = "a chunk is longer than its model takes, so it was cut off"
    CHANGED = "the chunks are not those of the text"
    GROUP_REFUSED = "its group is refused"
    NO_DIRECTION = "a vector is zero or not a number"
    NO_TEXT = "no text is known"
    NOT_ADMITTED = "was not admitted"
    TEXT_GONE = "the text is gone where it was kept"
    DELETED = "was deleted here"
    THERE = "is here already"
    CHANGING = "is being deleted or changed here: run this again"


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row of the document.

    `place` is its place in what was read, `order` its place in the document; None if the source does not say.
    """

    place: int
    order: int | None
    text: str
    metadata: Mapping[str, Any]
    facts: RowFacts


@dataclass(frozen=True, slots=True)
class Placed:
    """A row that is kept, and where its text is in the document's."""

    row: SourceRow
    span: Span


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of a document once its rows are read.

    `placed` are the rows to keep, in order; `stale` counts those that belong to no chunk of its text.
    A row that repeats another one counts as stale. `coverage` is the share, 0 to 1, of the visible text that
    the kept rows have. `lost_metadata` names what is not in `metadata`, as a document here cannot have it.
    """

    text: str
    title: str | None
    source: str | None
    metadata: Mapping[str, Value]
    lost_metadata: Sequence[str]
    placed: Sequence[Placed]
    stale: int
    coverage: float
    outcome: Outcome
    reason: Reason


def judged(rows: Sequence[SourceRow], known: KnownText | None, layout: SourceLayout) -> Judged:
    """Decide by the texts alone. `known` is the text as its own system keeps it; None: it is not asked.

    With a known text, a row whose text is not in it is stale, and a document whose rows leave some of it out
    has changed since it was embedded. Without one, the text is made of the rows.
    """
    count = len(rows)
    rows = _without_repeats(rows)
    first = rows[0].facts if rows else RowFacts()
    shared = shared_metadata([row.metadata for row in rows], layout)
    metadata, lost = _kept({**(known.metadata if known else {}), **shared})
    title = ((known.title if known else None) or first.title or "")[:MOST_TITLE_CHARS] or None
    source = first.source or (known.source if known else None)
    if known is None:
        current = _current(rows)
        text, spans = assembled([_piece(row) for row in current])
        placed = [Placed(row, span) for row, span in zip(current, spans, strict=True)]
        coverage = 1.0
    else:
        text = known.text
        placed = _placed(rows, text)
        coverage = coverage_of(text, [one.span for one in placed])
    stale = count - len(placed)
    outcome, reason = Outcome.TAKE, Reason.RIGHT
    if known is not None and known.gone:
        outcome, reason = Outcome.DROP, Reason.TEXT_GONE
    elif shows_nothing(text):
        outcome, reason = Outcome.REFUSE, Reason.NO_TEXT
    elif coverage < 1.0:
        outcome, reason = Outcome.EMBED, Reason.CHANGED
    return Judged(text, title, source, metadata, lost, placed, stale, coverage, outcome, reason)


def shared_metadata(metadatas: Sequence[Mapping[str, Any]], layout: SourceLayout) -> dict[str, Any]:
    """Return what all rows of a document say alike, without what the layout itself writes."""
    if not metadatas:
        return {}
    first, *others = metadatas
    return {
        name: value
        for name, value in first.items()
        if name not in layout.own_keys and all(other.get(name) == value for other in others)
    }


def _kept(given: Mapping[str, Any]) -> tuple[dict[str, Value], list[str]]:
    """Return what of this the metadata of a document can have, in order, and the names of the rest."""
    try:
        return checked(given), []
    except ValueError:  # told of by the names that are left out
        kept: dict[str, Value] = {}
    lost: list[str] = []
    for name, value in given.items():
        try:
            kept = checked({**kept, name: value})
        except ValueError:
            lost.append(name)
    return kept, lost


def coverage_of(text: str, spans: Sequence[Span]) -> float:
    """Return the share, 0 to 1, of the visible characters that are in the spans."""
    meter = CoverageMeter()
    meter.read(text)
    for start, end in sorted(spans, key=lambda span: (span[1], span[0])):
        meter.cover(start, end)
    return meter.coverage.ratio


def _without_repeats(rows: Sequence[SourceRow]) -> list[SourceRow]:
    """Drop rows with the text and the place of a row before: its document was added twice.

    Rows that say no place count as repeats too. They cannot be told from them.
    """
    seen: dict[tuple[str, int | None], SourceRow] = {}
    for row in rows:
        seen.setdefault((row.text, row.order), row)
    return list(seen.values())


def _current(rows: Sequence[SourceRow]) -> Sequence[SourceRow]:
    """Drop rows of an older version: those beyond the number of chunks that the first row names.

    Ids have the number of the chunk, so the newest version has always written the first row.
    """
    count = rows[0].facts.chunks if rows else None
    return rows if count is None else rows[:count]


def _placed(rows: Sequence[SourceRow], text: str) -> list[Placed]:
    placing = Placing(text)
    found: dict[Span, Placed] = {}
    for row in rows:
        span = placing.find(_piece(row)) if row.text else None
        if span is not None:
            found.setdefault(span, Placed(row, span))
    return list(found.values())


def _piece(row: SourceRow) -> Piece:
    return Piece(row.text, row.facts.start, row.facts.end)
