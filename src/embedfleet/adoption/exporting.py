"""Gives everything back: every document that readers see, with its text, passages and vectors, as Parquet.

A version of a document is exported whole. Workers may write in between: a version that is replaced while it
is read is read again. Each vector is checked with its checksum in SQL.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet.adoption import export_rows
from embedfleet.adoption.parquet_files import DOCUMENTS, PASSAGES, ParquetFolder, Written
from embedfleet.errors import Remedy, Transient, VectorStoreUnavailable
from embedfleet.records import chunks, live_versions, store_fence
from embedfleet.records.chunks import StoredVector
from embedfleet.records.collections import Collection
from embedfleet.records.live_versions import Content, LiveVersion, Wanted
from embedfleet.records.scope import Scope
from embedfleet.sql.database import Database
from embedfleet.vectors.checksums import checksums_of
from embedfleet.vectors.port import VectorStore

_DOCUMENTS_PER_PAGE = 500
# Their vectors have 4 MB at 1,024 dimensions, and their texts about the same size.
_CHUNKS_PER_BATCH = 1_000
# A piece of text in one row, and the texts of one batch.
_CHARS_PER_BATCH = 1_000_000
# A document that is replaced more often than this while it is read keeps changing.
_MOST_ATTEMPTS = 20


@dataclass(slots=True)
class Exported:
    """How much was written. `without_vector`: passages that were given up when they were embedded or stored.

    `vectors` has the number of vectors by collection.
    """

    documents: int = 0
    passages: int = 0
    without_vector: int = 0
    vectors: Counter[Collection] = field(default_factory=Counter)

    def count(self, part: Part) -> None:
        """Count the passages of a part."""
        self.passages += len(part.content.chunks)
        self.without_vector += len(part.content.chunks) - len(part.vectors)
        self.vectors[part.content.wanted.version.generation.collection] += len(part.vectors)

    def include(self, other: Exported) -> None:
        """Count what was written elsewhere too."""
        self.documents += other.documents
        self.passages += other.passages
        self.without_vector += other.without_vector
        self.vectors += other.vectors


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a version as it is written. `vectors`: float32 (dim) by chunk id."""

    content: Content
    vectors: Mapping[str, NDArray[np.float32]]


class Exporting:
    """Writes the documents of a scope into folders of Parquet files. Changes nothing in the system.

    Its memory does not grow with the documents: it holds two row groups and a batch of passages.
    """

    def __init__(self, database: Database, store: VectorStore, folder: Path) -> None:
        """Make the folder, and in it a folder `documents` and a folder `passages`. This blocks."""
        folder.mkdir(mode=0o700)
        self._database = database
        self._store = store
        self._documents = ParquetFolder(folder / "documents", DOCUMENTS)
        self._passages = ParquetFolder(folder / "passages", PASSAGES)

    async def run(self, scope: Scope) -> AsyncIterator[Exported]:
        """Write all documents that readers see. Yields what a page of documents has, after each page.

        A document that is submitted or deleted in between may be written or left out. Raises
        VectorStoreUnavailable if a vector is missing or is not the one that was stored, Transient if a
        document keeps changing, and OSError if the disk refuses a write.
        """
        for tenant in await self._database.read(partial(live_versions.tenants, scope=scope)):
            after = ""  # no media id is empty
            while page := await self._page(tenant, after):
                after = page[-1].generation.media_id
                yield await self._write_page(page)

    async def close(self) -> tuple[Written, Written]:
        """Complete the files. Returns what the folders of documents and of passages have."""
        documents = await asyncio.to_thread(self._documents.close)
        return documents, await asyncio.to_thread(self._passages.close)

    async def _page(self, tenant: str, after: str) -> list[LiveVersion]:
        read = partial(live_versions.page, tenant=tenant, after=after, limit=_DOCUMENTS_PER_PAGE)
        return await self._database.read(read)

    async def _write_page(self, versions: Sequence[LiveVersion]) -> Exported:
        """Write the documents of these versions, each in the version that readers see at that moment."""
        done = Exported()
        for _ in range(_MOST_ATTEMPTS):
            replaced: list[str] = []
            for batch in batches(versions):
                is_long = len(parts_of(batch[0])) > 1
                write = self._write_long(batch[0], done) if is_long else self._write_short(batch, done)
                replaced += await write
            versions = await self._database.read(partial(live_versions.of_documents, document_ids=replaced))
            if not versions:
                return done
        generation = versions[0].generation
        raise Transient(
            f"document `{generation.media_id}` of tenant `{generation.tenant}` is replaced faster than it is "
            "read: export again while less is submitted"
        )

    async def _write_short(self, versions: Sequence[LiveVersion], done: Exported) -> list[str]:
        """Write versions of one part each. Returns the documents that were replaced: they are not written."""
        parts = await self._read([parts_of(version)[0] for version in versions])
        await asyncio.to_thread(self._add, parts)
        done.documents += len(parts)
        for part in parts:
            done.count(part)
        written = {part.content.wanted.version.generation.document_id for part in parts}
        return [one.generation.document_id for one in versions if one.generation.document_id not in written]

    async def _write_long(self, version: LiveVersion, done: Exported) -> list[str]:
        """Write a version part by part. Returns its document if it was replaced: then nothing of it stays.

        It begins files of its own, so that they can be removed if it is replaced before its end.
        """
        folders = (self._documents, self._passages)
        marks = [await asyncio.to_thread(folder.mark) for folder in folders]
        mine = Exported(documents=1)
        for wanted in parts_of(version):
            parts = await self._read([wanted])
            if not parts:
                for folder, mark in zip(folders, marks, strict=True):
                    await asyncio.to_thread(folder.drop_since, mark)
                return [version.generation.document_id]
            await asyncio.to_thread(self._add, parts)
            mine.count(parts[0])
        done.include(mine)
        return []

    def _add(self, parts: Sequence[Part]) -> None:
        self._documents.add(export_rows.document_columns([part.content for part in parts]))
        vectors = {chunk_id: vector for part in parts for chunk_id, vector in part.vectors.items()}
        self._passages.add(export_rows.passage_columns([part.content for part in parts], vectors))

    async def _read(self, wanted: Sequence[Wanted]) -> list[Part]:
        """Read these parts with their vectors. A part whose version was replaced is left out.

        The id of a chunk is made from its text. So a vector with the right id and checksum is the one of the
        text in SQL's snapshot, even if the version was replaced before the store was read.
        """
        contents = await self._database.read(partial(live_versions.contents, wanted=wanted))
        found = [one for one in contents if one is not None]
        stored = {chunk_id: record for one in found for chunk_id, record in one.stored.items()}
        vectors = await self._right_vectors(found)
        wrong = stored.keys() - vectors.keys()
        if wrong:
            await self._require_changed({chunk_id: stored[chunk_id] for chunk_id in wrong})
        return [
            Part(one, {chunk_id: vectors[chunk_id] for chunk_id in one.stored})
            for one in found
            if wrong.isdisjoint(one.stored)
        ]

    async def _right_vectors(self, contents: Sequence[Content]) -> dict[str, NDArray[np.float32]]:
        """Return the stored vectors of these chunks, by id, without those that have another checksum in SQL.

        A vector of a release that recorded no checksum counts as right.
        """
        expected: dict[Collection, dict[str, StoredVector]] = {}
        for one in contents:
            if one.stored:
                expected.setdefault(one.wanted.version.generation.collection, {}).update(one.stored)
        found: dict[str, NDArray[np.float32]] = {}
        for collection, records in expected.items():
            ids, vectors = await self._store.vectors(collection, list(records))
            checksums = checksums_of(ids, vectors)
            found.update(
                (chunk_id, vector)
                for chunk_id, vector in zip(ids, vectors, strict=True)
                if records[chunk_id].checksum in (None, checksums[chunk_id])
            )
        return found

    async def _require_changed(self, suspects: Mapping[str, StoredVector]) -> None:
        """Raise VectorStoreUnavailable if SQL still says the same of one of these vectors.

        Otherwise a worker wrote or deleted it between the two reads, and the store is right. Raises
        StoreMoved if the vectors have moved to another store since.
        """
        part_id = self._store.part_id

        def in_this_store(conn: Connection) -> Mapping[str, StoredVector]:
            store_fence.require_current(conn, part_id)
            return chunks.stored_vectors(conn, list(suspects))

        now = await self._database.read(in_this_store)
        damaged = [chunk_id for chunk_id, record in suspects.items() if now.get(chunk_id) == record]
        if damaged:
            raise VectorStoreUnavailable(
                f"the vector store lacks {len(damaged)} of the vectors that were stored, or has others in "
                f"their place (the first one is {damaged[0]}): mend the store, then export again",
                remedy=Remedy.REBUILD_VECTORS,
            )


def batches(versions: Sequence[LiveVersion]) -> Iterator[list[LiveVersion]]:
    """Split versions, in order, into batches that fit into memory. A version of several parts is alone."""
    batch: list[LiveVersion] = []
    room_for_chunks, room_for_chars = _CHUNKS_PER_BATCH, _CHARS_PER_BATCH
    for version in versions:
        room_for_chunks -= version.chunks
        room_for_chars -= version.generation.recipe.chars
        if batch and (room_for_chunks < 0 or room_for_chars < 0):
            yield batch
            batch = []
            room_for_chunks = _CHUNKS_PER_BATCH - version.chunks
            room_for_chars = _CHARS_PER_BATCH - version.generation.recipe.chars
        batch.append(version)
    if batch:
        yield batch


def parts_of(version: LiveVersion) -> list[Wanted]:
    """Split a version into parts that fit into memory: one, or first those of its text, then its chunks."""
    chars = version.generation.recipe.chars
    texts = [(start, min(start + _CHARS_PER_BATCH, chars)) for start in range(0, chars, _CHARS_PER_BATCH)]
    if len(texts) <= 1 and version.chunks <= _CHUNKS_PER_BATCH:
        return [Wanted(version, texts, 0, version.chunks)]
    of_chunks = range(0, version.chunks, _CHUNKS_PER_BATCH)
    return [
        *(Wanted(version, [span], 0, 0) for span in texts),
        *(Wanted(version, [], first, min(first + _CHUNKS_PER_BATCH, version.chunks)) for first in of_chunks),
    ]
