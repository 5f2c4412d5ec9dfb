"""The texts of generations, in compressed segments."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import zstandard
from sqlalchemy import Connection, bindparam, delete, select

from embedfleet.places import NOWHERE, Places
from embedfleet.sql.paging import key_pages
from embedfleet.sql.rows import RowsStatement
from embedfleet.sql.tables import segments

# Level 3 is zstd's default: about 3:1 on prose at several hundred MB/s.
_ZSTD_LEVEL = 3


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a document's text.

    `start` and `chars` count characters. `body` is zstd-compressed UTF-8. `packed_places` has the places that
    begin in the piece, packed and compressed; None if there are none.
    """

    ordinal: int
    start: int
    chars: int
    body: bytes
    packed_places: bytes | None = None

    @classmethod
    def of(cls, ordinal: int, start: int, text: str, places: Places = NOWHERE) -> Segment:
        """Make a segment of this text, and of those of the document's places that begin in it."""
        mine = places.between(start, start + len(text))
        packed = None if mine == NOWHERE else _zstd.compressor.compress(mine.packed())
        return cls(ordinal, start, len(text), _zstd.compressor.compress(text.encode()), packed)

    @property
    def text(self) -> str:
        return _zstd.decompressor.decompress(self.body).decode()

    @property
    def places(self) -> Places:
        """The places that begin in the segment."""
        if self.packed_places is None:
            return NOWHERE
        return Places.unpacked(_zstd.decompressor.decompress(self.packed_places))


def add(conn: Connection, texts: Mapping[int, Sequence[Segment]]) -> None:
    """Write the texts of generations, by generation id."""
    rows = [
        (generation_id, piece.ordinal, piece.start, piece.chars, piece.body, piece.packed_places)
        for generation_id, pieces in texts.items()
        for piece in pieces
    ]
    _ADD_SEGMENTS.run(conn, rows)


def get(conn: Connection, generation_id: int, ordinal: int) -> Segment | None:
    """Return one segment of a generation; None if there is none with this ordinal."""
    row = conn.execute(_SEGMENT, {"id": generation_id, "number": ordinal}).one_or_none()
    return None if row is None else Segment(row.ordinal, row.start, row.chars, row.body, row.places)


def of_generation(conn: Connection, generation_id: int) -> list[Segment]:
    """Return all segments of a generation, in order. It keeps their compressed texts in memory."""
    query = select(segments).where(segments.c.generation_id == generation_id).order_by(segments.c.ordinal)
    return [Segment(row.ordinal, row.start, row.chars, row.body, row.places) for row in conn.execute(query)]


def first_of(conn: Connection, generation_ids: Sequence[int]) -> dict[int, Segment]:
    """Return the first segment of each generation, by generation id. A generation without text has none."""
    found: dict[int, Segment] = {}
    for ids in key_pages(generation_ids):
        for row in conn.execute(_FIRST_SEGMENTS, {"ids": ids}):
            found[row.generation_id] = Segment(row.ordinal, row.start, row.chars, row.body, row.places)
    return found


def texts_of(
    conn: Connection, wanted: Sequence[tuple[int, Sequence[tuple[int, int]]]]
) -> list[list[str] | None]:
    """Return the text of each [start, end) span, for each pair (generation id, spans), in order.

    The result has None for a pair whose generation has no text there any more. Each segment is read and
    decompressed once, however many pairs need it.
    """
    given = [
        (generation_id, min(start for start, _ in spans), max(end for _, end in spans))
        for generation_id, spans in wanted
        if spans
    ]
    pieces: dict[int, list[tuple[int, str]]] = {}
    for row in _SEGMENTS_AROUND.run(conn, given):
        text = _zstd.decompressor.decompress(row.body).decode()
        pieces.setdefault(row.generation_id, []).append((row.start, text))
    return [_slice(pieces.get(generation_id, []), spans) for generation_id, spans in wanted]


def _slice(pieces: Sequence[tuple[int, str]], spans: Sequence[tuple[int, int]]) -> list[str] | None:
    """Return the text of each span; None if the pieces, which are (start, text) in order, lack some of it."""
    starts = [start for start, _ in pieces]
    texts: list[str] = []
    for start, end in spans:
        text = ""
        for at, piece in pieces[max(0, bisect_right(starts, start) - 1) :]:
            if at >= end:
                break
            text += piece[max(0, start - at) : end - at]
        if len(text) != end - start:
            return None
        texts.append(text)
    return texts


def drop(conn: Connection, generation_ids: Sequence[int]) -> None:
    """Drop the texts of generations that are neither live nor being built."""
    conn.execute(delete(segments).where(segments.c.generation_id.in_(generation_ids)))


class _Zstd(threading.local):
    """The compressor and the decompressor of a thread: new ones take longer than a short text."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_zstd = _Zstd()

_ADD_SEGMENTS = RowsStatement(
    "INSERT INTO segments (generation_id, ordinal, start, chars, body, places) VALUES {rows}"
)

_SEGMENT = select(segments).where(
    segments.c.generation_id == bindparam("id"), segments.c.ordinal == bindparam("number")
)

_FIRST_SEGMENTS = select(segments).where(
    segments.c.generation_id.in_(bindparam("ids", expanding=True)), segments.c.ordinal == 0
)

# SQLite does a CROSS JOIN from left to right, so it looks each row up in the primary key.
_SEGMENTS_AROUND = RowsStatement(
    "WITH given(generation_id, span_start, span_end) AS (VALUES {rows}), "
    "needed AS (SELECT DISTINCT segments.generation_id, segments.ordinal FROM given CROSS JOIN segments "
    "WHERE segments.generation_id = given.generation_id AND segments.start < given.span_end "
    "AND segments.start + segments.chars > given.span_start) "
    "SELECT segments.generation_id, segments.start, segments.body FROM needed CROSS JOIN segments "
    "WHERE segments.generation_id = needed.generation_id AND segments.ordinal = needed.ordinal "
    "ORDER BY segments.generation_id, segments.ordinal"
)
