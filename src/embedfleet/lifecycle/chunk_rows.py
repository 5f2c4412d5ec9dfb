"""What the records say of a chunk that was cut."""

from __future__ import annotations

from embedfleet.chunking.chunker import Chunk
from embedfleet.places import Places
from embedfleet.records.chunks import HEADING_SEPARATOR, ChunkRow
from embedfleet.records.identity import ChunkIds


def chunk_row(chunk: Chunk, ids: ChunkIds, places: Places) -> ChunkRow:
    """Return the row of a chunk. The chunks of a document must come in order, since each takes its id here.

    `places` are those of the document's text, at least up to the end of the chunk.
    """
    start_seconds, end_seconds = places.seconds_of(chunk.start, chunk.end) or (None, None)
    return ChunkRow(
        chunk_index=chunk.index,
        chunk_id=ids.next_id(chunk.text, chunk.context, reading=chunk.reading),
        start=chunk.start,
        end=chunk.end,
        tokens=len(chunk.token_ids),
        unknown=len(chunk.unknown),
        heading=HEADING_SEPARATOR.join(chunk.heading),
        context=chunk.context,
        page=places.page_at(chunk.start),
        start_seconds=start_seconds,
        end_seconds=end_seconds,
    )
