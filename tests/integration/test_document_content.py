"""One document of a tenant: its text in parts, and its chunks in pages, of the version that readers see."""

from __future__ import annotations

import pytest

from embedfleet.errors import InvalidRequest, UnknownDocument
from embedfleet.queue_schemas import DocumentState
from embedfleet.settings import Settings
from support.system import ONE_EACH, TENANT, paragraphs, running

TEXT = f"# Pumps\n\n{paragraphs('text', 5)}"


async def test_text_and_chunks_are_those_of_the_version_that_readers_see(settings: Settings) -> None:
    async with running(settings) as fleet:
        mine, other = fleet.jobs.of(TENANT), fleet.jobs.of("bob")
        await fleet.ingest("1", TEXT, chunking_config=ONE_EACH, content_type="markdown")

        document = await mine.get_document(media_id="1")
        assert document.state is DocumentState.LIVE
        assert document.chunks == 5

        whole = await mine.read_text(media_id="1")
        assert (whole.text, whole.chars, whole.generation) == (TEXT, len(TEXT), 1)
        part = await mine.read_text(media_id="1", start=10, end=40)
        assert part.text == TEXT[10:40]
        beyond = await mine.read_text(media_id="1", start=len(TEXT) - 3, end=len(TEXT) + 9)
        assert (beyond.text, beyond.end) == (TEXT[-3:], len(TEXT))
        assert (await mine.read_text(media_id="1", start=10**12, end=10**12)).text == ""
        with pytest.raises(InvalidRequest, match="start, end"):
            await mine.read_text(media_id="1", start=3, end=2)

        first = await mine.list_chunks(media_id="1", limit=3, with_text=True)
        second = await mine.list_chunks(media_id="1", limit=3, after=first.chunks.next_cursor, with_text=True)
        assert second.chunks.next_cursor is None
        chunks = [*first.chunks, *second.chunks]
        assert [one.chunk_index for one in chunks] == list(range(5))
        assert all(one.text == TEXT[one.start : one.end] for one in chunks)
        assert {one.heading for one in chunks} == {"Pumps"}
        ids = [one.chunk_id for one in chunks]
        held, vectors = await fleet.system.store.vectors(first.collection, ids)
        assert sorted(held) == sorted(ids)
        assert vectors.shape == (5, first.collection.dim)

        await fleet.ingest("1", paragraphs("text", 2), chunking_config=ONE_EACH)
        with pytest.raises(InvalidRequest, match="now shows version 2"):
            await mine.list_chunks(media_id="1", after=first.chunks.next_cursor)
        assert [one.text for one in (await mine.list_chunks(media_id="1")).chunks] == [None, None]

        for look in (other.get_document, other.read_text, other.list_chunks):
            with pytest.raises(UnknownDocument, match="tenant `bob` has no document `1`"):
                await look(media_id="1")
        await mine.delete_document(media_id="1")
        for look in (mine.get_document, mine.read_text, mine.list_chunks):
            with pytest.raises(UnknownDocument, match="has no document `1`"):
                await look(media_id="1")
