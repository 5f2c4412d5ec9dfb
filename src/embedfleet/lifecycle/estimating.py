"""Says what documents would cost, without admitting them: tokens, chunks, and what is known of these.

A text is tokenised and cut exactly as admission and a chunking worker do it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

import numpy as np
from sqlalchemy import Connection

from embedfleet.chunking.chunker import Chunk, Chunker
from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.errors import InvalidRequest
from embedfleet.lifecycle.admission import Admission
from embedfleet.lifecycle.admission_plan import Standing, Submission, standing_of
from embedfleet.queue_schemas import DocumentEstimate, EstimateState, JobRequest
from embedfleet.records import chunks, collections, documents, embedding_cache, jobs
from embedfleet.records import generations as generation_records
from embedfleet.records.identity import ChunkIds
from embedfleet.sql.database import Database

# Blocks of chunks are looked up together until they have this many chunks: about 100 kB of ids and keys.
_CHUNKS_AT_ONCE = 2_000

_STATES = {
    Standing.NEW: EstimateState.EMBEDS,
    Standing.LIVE: EstimateState.UNCHANGED,
    Standing.UNDER_WAY: EstimateState.UNDER_WAY,
}


@dataclass(frozen=True, slots=True)
class _CutPart:
    """Some chunks of a document: their ids, the keys of their vectors in the cache, and their tokens."""

    ids: Sequence[str]
    keys: Sequence[bytes]
    tokens: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Numbers of chunks: all, those that are stored, and those that are not but have a cached vector."""

    chunks: int = 0
    stored: int = 0
    cached: int = 0
    tokens_to_embed: int = 0

    def plus(self, more: _Sizes) -> _Sizes:
        return _Sizes(
            self.chunks + more.chunks,
            self.stored + more.stored,
            self.cached + more.cached,
            self.tokens_to_embed + more.tokens_to_embed,
        )


async def estimates_of(
    database: Database, admission: Admission, requests: Sequence[JobRequest], *, cut: bool
) -> list[DocumentEstimate]:
    """Estimate each document, in order. Nothing is written.

    Without `cut`, only what admission would charge is told: no document is cut, and the counts of chunks are
    None. Each document is estimated as if it came alone. Raises UnknownModel, DatabaseUnavailable.
    """
    known = await database.read(partial(admission.read_routing, requests=requests))
    submissions = await asyncio.to_thread(lambda: [admission.prepare(one, known) for one in requests])
    standings = await database.read(lambda conn: _standings(conn, submissions))
    found: list[DocumentEstimate] = []
    for submission, standing in zip(submissions, standings, strict=True):
        estimate = _charged(submission, standing, admission)
        if cut and standing is Standing.NEW:
            estimate = await _cut(database, admission, submission, estimate)
        found.append(estimate)
    return found


def _standings(conn: Connection, submissions: Sequence[Submission]) -> list[Standing]:
    ids = [one.document_id for one in submissions]
    deleted = documents.deleted_among(conn, ids)
    there = [one for one in ids if one not in deleted]
    generations = generation_records.generations_of_many(conn, there)
    unfinished = jobs.unfinished_of_documents(conn, there)
    return [
        standing_of(one, generations.get(one.document_id, ()), unfinished.get(one.document_id, ()))
        for one in submissions
    ]


def _charged(submission: Submission, standing: Standing, admission: Admission) -> DocumentEstimate:
    """Return what admission would charge: nothing for what is live or under way."""
    request, amount = submission.request, submission.amount
    tokens = amount.tokens if standing is Standing.NEW else 0
    return DocumentEstimate(
        media_id=request.media_id,
        source=request.source,
        model=submission.model.name,
        state=_STATES[standing],
        chars=amount.chars,
        bytes=amount.bytes,
        tokens=tokens,
        cost=admission.prices.cost(submission.model.name, tokens),
    )


async def _cut(
    database: Database, admission: Admission, submission: Submission, estimate: DocumentEstimate
) -> DocumentEstimate:
    """Add to the estimate the numbers of chunks, and of those that need not be embedded."""
    parts = _parts(submission)
    sizes = _Sizes()
    try:
        while part := await asyncio.to_thread(next, parts, None):
            look = partial(_sizes_of, submission=submission, part=part, caching=admission.caching)
            sizes = sizes.plus(await database.read(look))
    except InvalidRequest as exc:
        return _given_up(estimate, str(exc))
    if not sizes.chunks:
        return _given_up(estimate, "holds no text: the model's tokeniser makes no token of it")
    return estimate.model_copy(
        update={
            "chunks": sizes.chunks,
            "chunks_stored": sizes.stored,
            "chunks_cached": sizes.cached,
            "chunks_to_embed": sizes.chunks - sizes.stored - sizes.cached,
            "tokens_to_embed": sizes.tokens_to_embed,
        }
    )


def _given_up(estimate: DocumentEstimate, error: str) -> DocumentEstimate:
    """Return the estimate of a document that a chunking worker gives up. It is charged all the same."""
    return estimate.model_copy(update={"state": EstimateState.UNREADABLE, "error": error})


def _parts(submission: Submission) -> Iterator[_CutPart]:
    """Cut the document, some chunks at a time. This blocks."""
    model, recipe = submission.model, submission.recipe
    chunker = Chunker(
        load_tokenizer(model.tokenizer_file),
        recipe.chunking,
        max_tokens=model.max_tokens,
        content_type=recipe.content_type,
    )
    ids = ChunkIds(submission.document_id, model.space)
    made = chain.from_iterable(
        chunker.split((piece.text for piece in submission.segments), title=recipe.title)
    )
    while some := list(islice(made, _CHUNKS_AT_ONCE)):
        yield _CutPart(
            ids=[ids.next_id(chunk.text, chunk.context, reading=chunk.reading) for chunk in some],
            keys=_cache_keys(some, needs_texts=model.needs_texts),
            tokens=[len(chunk.token_ids) for chunk in some],
        )


def _cache_keys(some: Sequence[Chunk], *, needs_texts: bool) -> list[bytes]:
    texts = [chunk.context + chunk.text for chunk in some] if needs_texts else None
    token_ids = np.concatenate([chunk.token_ids for chunk in some])
    return embedding_cache.content_hashes(token_ids, [len(chunk.token_ids) for chunk in some], texts)


def _sizes_of(conn: Connection, submission: Submission, part: _CutPart, *, caching: bool) -> _Sizes:
    """Count the chunks of the part, and those whose vectors are stored, or else in the cache."""
    known = chunks.ids_stored(conn, part.ids)
    unknown = [place for place, chunk_id in enumerate(part.ids) if chunk_id not in known]
    collection = collections.find(conn, submission.request.user_id, submission.model.space)
    cached: set[bytes] = set()
    if caching and collection is not None:
        wanted = ((collection.collection_id, part.keys[place]) for place in unknown)
        cached = {key for _, key in embedding_cache.look_up(conn, wanted)}
    to_embed = [place for place in unknown if part.keys[place] not in cached]
    return _Sizes(
        chunks=len(part.ids),
        stored=len(part.ids) - len(unknown),
        cached=len(unknown) - len(to_embed),
        tokens_to_embed=sum(part.tokens[place] for place in to_embed),
    )
