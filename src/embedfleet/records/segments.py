"""The texts of generations, in compressed segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import zstandard
from sqlalchemy import Connection, bindparam, delete, insert, select

from embedfleet.sql.tables import segments

# Level 3 is zstd's default: about 3:1 on prose at several hundred MB/s.
_ZSTD_LEVEL = 3


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a document's text.

    `start` and `chars` count characters. `body` is zstd-compressed UTF-8.
    """

    ordinal: int
    start: int
    chars: int
    body: bytes

    @classmethod
    def of(cls, ordinal: int, start: int, text: str) -> Segment:
        return cls(ordinal, start, len(text), zstandard.compress(text.encode(), _ZSTD_LEVEL))

    @property
    def text(self) -> str:
        return zstandard.decompress(self.body).decode()


def add(conn: Connection, generation_id: int, pieces: Sequence[Segment]) -> None:
    """Write the text of a generation."""
    if pieces:
        conn.execute(
            _ADD_SEGMENT,
            [
                {
                    "generation_id": generation_id,
                    "ordinal": piece.ordinal,
                    "start": piece.start,
                    "chars": piece.chars,
                    "body": piece.body,
                }
                for piece in pieces
            ],
        )


def get(conn: Connection, generation_id: int, ordinal: int) -> Segment | None:
    """Return one segment of a generation; None if there is none with this ordinal."""
    row = conn.execute(_SEGMENT, {"id": generation_id, "number": ordinal}).one_or_none()
    return None if row is None else Segment(row.ordinal, row.start, row.chars, row.body)


def between(conn: Connection, generation_id: int, start: int, end: int) -> list[Segment]:
    """Return the segments that hold any character of [start, end), in order."""
    span = {"id": generation_id, "span_start": start, "span_end": end}
    rows = conn.execute(_SEGMENTS_BETWEEN, span)
    return [Segment(row.ordinal, row.start, row.chars, row.body) for row in rows]


def slice_text(pieces: Sequence[Segment], spans: Sequence[tuple[int, int]]) -> list[str]:
    """Return the text of each [start, end) span. `pieces` must be consecutive and contain all spans."""
    if not spans:
        return []
    origin = pieces[0].start
    whole = "".join(piece.text for piece in pieces)
    return [whole[start - origin : end - origin] for start, end in spans]


def drop(conn: Connection, generation_ids: Sequence[int]) -> None:
    """Drop the texts of generations that are neither live nor being built."""
    conn.execute(delete(segments).where(segments.c.generation_id.in_(generation_ids)))


_ADD_SEGMENT = insert(segments)

_SEGMENT = select(segments).where(
    segments.c.generation_id == bindparam("id"), segments.c.ordinal == bindparam("number")
)

_SEGMENTS_BETWEEN = (
    select(segments)
    .where(
        segments.c.generation_id == bindparam("id"),
        segments.c.start < bindparam("span_end"),
        segments.c.start + segments.c.chars > bindparam("span_start"),
    )
    .order_by(segments.c.ordinal)
)
