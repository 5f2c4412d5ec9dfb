"""What is in a document: its text and its chunks, of the version that readers see, otherwise the newest."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from embedfleet.errors import InvalidRequest
from embedfleet.queue_schemas import ChunkInfo, DocumentText
from embedfleet.records import chunks, generations, segments
from embedfleet.records.chunks import ChunkRow
from embedfleet.records.cursors import Listing, Page
from embedfleet.records.generations import Generation
from embedfleet.sql.tables import documents as document_table

# The number of the version and the index of the chunk: a version has its own chunks.
_LISTING = Listing("chunks", (int, int))


def shown_generation(conn: Connection, document_id: str) -> Generation | None:
    """Return the version that readers see, otherwise the newest. None if there is none, or it is deleted."""
    query = select(document_table.c.live_generation, document_table.c.deleted_at).where(
        document_table.c.document_id == document_id
    )
    document = conn.execute(query).one_or_none()
    if document is None or document.deleted_at is not None:
        return None
    made = generations.generations_of(conn, document_id)
    live = next((one for one in made if one.number == document.live_generation), None)
    return live or next(iter(made), None)


def text_of(conn: Connection, shown: Generation, start: int, end: int) -> DocumentText:
    """Return the characters [start, end) of the version, as far as it goes."""
    chars = shown.recipe.chars
    start, end = min(start, chars), min(end, chars)
    text: str | None = ""
    if start < end:
        found = segments.texts_of(conn, [(shown.generation_id, [(start, end)])])[0]
        text = None if found is None else found[0]
    return DocumentText(generation=shown.number, start=start, end=end, chars=chars, text=text)


def chunks_of(
    conn: Connection, shown: Generation, *, limit: int, after: str | None, with_text: bool
) -> Page[ChunkInfo]:
    """Return up to `limit` chunks of the version, in order.

    Raises InvalidRequest if `after` is no cursor of chunks, or names a chunk of another version.
    """
    first = 0
    if after is not None:
        number, index = _LISTING.key_after(after)
        if number != shown.number:
            raise InvalidRequest(
                f"after: is of version {number}, and the document now shows version {shown.number}: "
                "list its chunks again from the first",
                field="after",
            )
        first = index + 1
    found = chunks.between(conn, [(shown.generation_id, first, limit + 1)])[0]
    page = _LISTING.page(found, limit, lambda row: (shown.number, row.chunk_index))
    return Page(describe(conn, shown, page, with_text=with_text), next_cursor=page.next_cursor)


def describe(
    conn: Connection, shown: Generation, rows: Sequence[ChunkRow], *, with_text: bool
) -> list[ChunkInfo]:
    """Describe these chunks of the version, in order."""
    texts = _texts(conn, shown, rows) if with_text else [None] * len(rows)
    return [_describe(row, text) for row, text in zip(rows, texts, strict=True)]


def _texts(conn: Connection, shown: Generation, rows: Sequence[ChunkRow]) -> Sequence[str | None]:
    spans = [(row.start, row.end) for row in rows]
    texts = segments.texts_of(conn, [(shown.generation_id, spans)])[0] if spans else []
    return [None] * len(rows) if texts is None else texts


def _describe(row: ChunkRow, text: str | None) -> ChunkInfo:
    return ChunkInfo(
        chunk_index=row.chunk_index,
        chunk_id=row.chunk_id,
        start=row.start,
        end=row.end,
        tokens=row.tokens,
        unknown_tokens=row.unknown,
        heading=row.heading,
        context=row.context,
        page=row.page,
        start_seconds=row.start_seconds,
        end_seconds=row.end_seconds,
        text=text,
    )
