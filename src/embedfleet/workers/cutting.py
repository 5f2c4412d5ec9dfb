"""Cuts the documents of a claim into batches. It blocks, so it runs on the CPU executor of the worker."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from embedfleet.chunking.chunker import Chunk, Chunker
from embedfleet.chunking.coverage import Coverage, whole_coverage
from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.chunking.unknown import UnknownText
from embedfleet.errors import Permanent, SpaceMismatch
from embedfleet.inference.backend import ModelInfo
from embedfleet.lifecycle.batch_id import BatchId
from embedfleet.lifecycle.chunk_rows import chunk_row
from embedfleet.lifecycle.partition import CutBatch, DocumentToCut, End, Outcome, Part
from embedfleet.places import NOWHERE
from embedfleet.queue.broker import Task
from embedfleet.queue_schemas import EmbeddingTask, pack_chunk_ids
from embedfleet.records.batches import Batch
from embedfleet.records.identity import ChunkIds
from embedfleet.records.segments import Segment

ModelOf = Callable[[str], ModelInfo]
NextSegment = Callable[[int, int], Segment | None]
"""Reads the segment (generation id, ordinal) of a text. None if there is none."""


@dataclass(frozen=True, slots=True)
class PartToQueue:
    """A part of a document for SQL, and its batches as tasks for the broker, in the same order."""

    part: Part
    tasks: Sequence[Task]

    def tasks_of(self, outcomes: Mapping[str, Outcome]) -> list[Task]:
        """Return the tasks of the batches whose vectors are not stored yet."""
        wanted = outcomes[self.part.document.job_id]
        if not isinstance(wanted, frozenset):
            return []
        pairs = zip(self.part.batches, self.tasks, strict=True)
        return [task for cut, task in pairs if cut.batch.ordinal in wanted]


class DocumentCut:
    """One document on its way through the chunker."""

    def __init__(self, document: DocumentToCut, model_of: ModelOf, next_segment: NextSegment) -> None:
        self.document = document
        self.whole: Chunk | None = None
        """The only chunk of the document, if that is known before it is cut."""
        self._model_of = model_of
        self._next_segment = next_segment
        self._coming: Iterator[tuple[CutBatch, Task]] | None = None
        self._chunker: Chunker | None = None
        self._chunks = 0
        self._unknown = UnknownText()
        # Of the text that was read so far.
        self._places = NOWHERE

    @property
    def only_text(self) -> str | None:
        """The text of the document if it is one segment; None if it is longer."""
        first = self.document.beginning
        is_all = first is not None and first.chars == self.document.generation.recipe.chars
        return first.text if first is not None and is_all else None

    def next_part(self, most_chunks: int) -> PartToQueue:
        """Cut on, until the part has about `most_chunks` chunks or the document ends.

        Raises SpaceMismatch if the model is not the one of the job any more, and InvalidRequest if it cannot
        take the text.
        """
        if self.whole is not None:
            beginning = self.document.beginning
            self._places = NOWHERE if beginning is None else beginning.places
            only = [self._new_batch(0, [self.whole], self._new_ids())]
            self._unknown.add(self.whole)
            return self._part(only, is_first=True, end=self._end(1, whole_coverage(self.whole.text)))
        is_first = self._coming is None
        if self._coming is None or self._chunker is None:
            self._chunker = self.new_chunker()
            self._coming = self._batches(self._chunker)
        wanted = -(-most_chunks // self.document.generation.recipe.batch_chunks)
        made = list(islice(self._coming, wanted))
        self._chunks += sum(cut.batch.chunks for cut, _ in made)
        is_last = len(made) < wanted
        end = self._end(self._chunks, self._chunker.coverage) if is_last else None
        return self._part(made, is_first=is_first, end=end)

    def _end(self, chunks: int, coverage: Coverage) -> End:
        """Return the totals of the document. Raises Permanent if there is no content, or if some is lost that
        must not be."""
        if not chunks:
            raise Permanent("holds no text: the model's tokeniser makes no token of it")
        generation = self.document.generation
        in_no_chunk = coverage.visible_chars - coverage.covered_chars
        lost = self._unknown.entry(visible=coverage.visible_chars, in_no_chunk=in_no_chunk)
        account = generation.account if lost is None else generation.account.with_entry(lost)
        if generation.strict and account.lost:
            raise Permanent("; ".join(entry.line for entry in account.lost))
        known = coverage.covered_chars - self._unknown.chars
        share = account.coverage(covered=known, visible=known)
        return End(chunks, share, account)

    def new_chunker(self) -> Chunker:
        """Make a chunker for documents that are cut as this one is. Raises SpaceMismatch."""
        wanted = self.document.generation.collection
        info = self._model_of(wanted.model)
        if info.space != wanted.space:
            raise SpaceMismatch(
                f"model `{wanted.model}` is not the one the job was submitted for (space {info.space}, "
                f"submitted for {wanted.space}): restore the model, or submit the document again"
            )
        recipe = self.document.generation.recipe
        return Chunker(
            load_tokenizer(info.tokenizer_file),
            recipe.chunking,
            max_tokens=info.max_tokens,
            content_type=recipe.content_type,
        )

    def _part(self, made: Sequence[tuple[CutBatch, Task]], *, is_first: bool, end: End | None) -> PartToQueue:
        part = Part(self.document, [cut for cut, _ in made], is_first, end)
        return PartToQueue(part, [task for _, task in made])

    def _new_ids(self) -> ChunkIds:
        generation = self.document.generation
        return ChunkIds(generation.document_id, generation.collection.space)

    def _batches(self, chunker: Chunker) -> Iterator[tuple[CutBatch, Task]]:
        ids = self._new_ids()
        size = self.document.generation.recipe.batch_chunks
        waiting: list[Chunk] = []
        ordinal = 0
        for block in chunker.split(self._texts(), title=self.document.generation.recipe.title):
            for chunk in block:
                self._unknown.add(chunk)
            waiting.extend(block)
            while len(waiting) >= size:
                yield self._new_batch(ordinal, waiting[:size], ids)
                del waiting[:size]
                ordinal += 1
        if waiting:
            yield self._new_batch(ordinal, waiting, ids)

    def _texts(self) -> Iterator[str]:
        generation, segment = self.document.generation, self.document.beginning
        ordinal = read = 0
        while segment is not None:
            self._places = self._places.followed_by(segment.places)
            yield segment.text
            read += segment.chars
            ordinal += 1
            if read >= generation.recipe.chars:
                return
            segment = self._next_segment(generation.generation_id, ordinal)

    def _new_batch(self, ordinal: int, members: Sequence[Chunk], ids: ChunkIds) -> tuple[CutBatch, Task]:
        job, collection = self.document.job, self.document.generation.collection
        rows = [chunk_row(chunk, ids, self._places) for chunk in members]
        message = EmbeddingTask(
            tenant=job.tenant,
            job_id=job.job_id,
            ordinal=ordinal,
            model=collection.model,
            space=collection.space,
            chunk_ids=pack_chunk_ids([row.chunk_id for row in rows]),
            lengths=np.array([row.tokens for row in rows], dtype="<u4").tobytes(),
            token_ids=np.concatenate([chunk.token_ids for chunk in members]).astype("<u4").tobytes(),
        )
        task = Task(
            id=str(BatchId(job.job_id, job.run, ordinal)),
            tenant=job.line,
            job_id=job.job_id,
            cost=max(1, sum(row.tokens for row in rows)),
            payload=message.encode(),
            priority=job.priority,
        )
        return CutBatch(Batch(ordinal, rows[0].chunk_index, len(rows)), rows), task


class ClaimCut:
    """The documents of a claim, cut one after the other."""

    def __init__(self, documents: Sequence[DocumentCut], *, chunks_per_write: int) -> None:
        self._left = list(documents)
        self._chunks_per_write = chunks_per_write
        self._has_begun = False
        self.unfinished = {document.document.job_id for document in documents}
        """The jobs whose documents are not cut, written and queued to the end yet."""
        self.failures: dict[str, Exception] = {}
        """Why a document could not be cut, by job id. It is then left out, and the others go on."""

    @property
    def documents_left(self) -> int:
        """How many documents are not cut to their end yet."""
        return len(self._left)

    def next_parts(self) -> list[PartToQueue]:
        """Cut on, until about `chunks_per_write` chunks are made or every document has ended.

        No document has two parts in the answer. The answer is empty when all documents have ended.
        """
        if not self._has_begun:
            self._has_begun = True
            self._find_whole()
        parts: list[PartToQueue] = []
        room = self._chunks_per_write
        while self._left and room > 0:
            document = self._left[0]
            try:
                made = document.next_part(room)
            except Exception as exc:  # noqa: BLE001 - one document must not fail the others of the claim
                self.fail(document.document.job_id, exc)
                continue
            parts.append(made)
            if made.part.end is None:
                return parts
            # A document without a chunk fills a little of the part too, so that a part always ends.
            room -= max(1, sum(cut.batch.chunks for cut in made.part.batches))
            del self._left[0]
        return parts

    def _find_whole(self) -> None:
        """Find the documents that are one chunk. They are tokenised together."""
        alike: dict[Hashable, list[tuple[DocumentCut, str]]] = {}
        for document in self._left:
            text = document.only_text
            if text is not None:
                generation = document.document.generation
                recipe = generation.recipe
                key = (generation.collection.model, generation.collection.space, recipe.content_type)
                alike.setdefault((*key, recipe.chunking), []).append((document, text))
        for some in alike.values():
            try:
                titles = [one.document.generation.recipe.title for one, _ in some]
                chunks = some[0][0].new_chunker().whole([text for _, text in some], titles)
            except Exception:  # noqa: BLE001 - each of them meets it again when it is cut alone
                continue
            for (document, _), chunk in zip(some, chunks, strict=True):
                document.whole = chunk

    def finish(self, job_id: str) -> None:
        """Cut this document no further: it is queued to its end, or its job has ended."""
        self.unfinished.discard(job_id)
        self._left = [document for document in self._left if document.document.job_id != job_id]

    def fail(self, job_id: str, failure: Exception) -> None:
        """Cut this document no further, because of this failure."""
        self.failures[job_id] = failure
        self.finish(job_id)
