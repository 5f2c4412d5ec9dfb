"""Makes documents to write of rows that are taken. It tokenises, so it blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedfleet.adoption.beginning import TakenDocument
from embedfleet.adoption.judging import Judged, Outcome, Reason
from embedfleet.adoption.survey import DocumentKey
from embedfleet.chunking.preparation import PREPARATION
from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.inference.backend import ModelInfo, TokenBatch
from embedfleet.lifecycle.admission import stored_content
from embedfleet.queue_schemas import ChunkingConfig, ContentType
from embedfleet.records import embedding_cache, identity
from embedfleet.records.chunks import ChunkRow
from embedfleet.records.generations import Recipe
from embedfleet.tokenising import tokenised

# Sums of a thousand squares in float32 differ from 1 by less than this, and a wrong length by far more.
_ROUNDING = 1e-4
_TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document whose rows may be taken.

    `vectors`: float32 (n, dim), those of the rows that were read. `normalise`: the vectors of the model have
    length 1 here.
    """

    key: DocumentKey
    judged: Judged
    vectors: NDArray[np.float32]
    model: ModelInfo
    normalise: bool


@dataclass(frozen=True, slots=True)
class Cutting:
    """How the documents would be cut here: what a new cut of their text goes by."""

    chunking: ChunkingConfig
    batch_chunks: int


def prepared(page: Sequence[Candidate], cutting: Cutting) -> Iterator[TakenDocument | Judged]:
    """Yield for each candidate, in order, the document to write; or a judgement that it must be embedded.

    A vector is right for a text only if the model reads the same tokens in it. So the tokens of a row's own
    text are compared with those of its place in the document's text, if the two differ.
    """
    for candidate in page:
        info, judged = candidate.model, candidate.judged
        texts = [judged.text[start:end] for start, end in (one.span for one in judged.placed)]
        tokens = tokenised(texts, info)
        reason = _fault(judged, texts, tokens, info) or _vector_fault(candidate)
        if reason is not None:
            yield replace(judged, outcome=Outcome.EMBED, reason=reason)
        else:
            yield _document(candidate, texts, tokens, cutting)


def _fault(judged: Judged, texts: Sequence[str], tokens: TokenBatch, info: ModelInfo) -> Reason | None:
    """Return why the rows cannot be taken; None if they can."""
    if (tokens.lengths > info.max_tokens).any():
        return Reason.TRUNCATED
    if (tokens.lengths == 0).any():
        return Reason.CHANGED
    others = [place for place, one in enumerate(judged.placed) if one.row.text != texts[place]]
    if not others:
        return None
    if info.needs_texts:
        return Reason.CHANGED
    theirs = tokenised([judged.placed[place].row.text for place in others], info)
    ours = tokens.take(np.array(others, dtype=np.int64))
    same = np.array_equal(ours.lengths, theirs.lengths) and np.array_equal(ours.token_ids, theirs.token_ids)
    return None if same else Reason.CHANGED


def _vector_fault(candidate: Candidate) -> Reason | None:
    """Return why no search finds some vector that is kept; None if each has a direction.

    Most vectors are in no sample, so this looks at all of them.
    """
    vectors = candidate.vectors[[one.row.place for one in candidate.judged.placed]]
    whole = np.isfinite(vectors).all() and vectors.any(axis=1).all()
    return None if whole else Reason.NO_DIRECTION


def _document(
    candidate: Candidate, texts: Sequence[str], tokens: TokenBatch, cutting: Cutting
) -> TakenDocument:
    judged, info = candidate.judged, candidate.model
    content = stored_content(judged.text, judged.title)
    document_id = identity.document_id(*candidate.key)
    return TakenDocument(
        key=candidate.key,
        document_id=document_id,
        model=info,
        recipe=Recipe(
            content_hash=content.hash,
            source_hash=None,
            content_type=ContentType.TEXT,
            chars=len(judged.text),
            chunking=cutting.chunking,
            batch_chunks=cutting.batch_chunks,
            title=judged.title,
        ),
        segments=content.segments,
        source=judged.source,
        metadata=judged.metadata,
        coverage=judged.coverage,
        chunks=_chunk_rows(judged, document_id, texts, tokens, info),
        texts=texts,
        vectors=_scaled(candidate),
        cache_keys=embedding_cache.content_hashes(tokens.token_ids, tokens.lengths, tokens.texts),
    )


def _scaled(candidate: Candidate) -> NDArray[np.float32]:
    """Return the vectors of the kept rows, as long as the model makes them here.

    A vector that has length 1 but for rounding keeps its bits.
    """
    vectors = candidate.vectors[[one.row.place for one in candidate.judged.placed]]
    if not candidate.normalise:
        return vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    other = (np.abs(lengths - 1) > _ROUNDING) & (lengths > 0)
    scaled: NDArray[np.float32] = np.where(other, vectors / np.maximum(lengths, _TINY), vectors)
    return scaled


def _chunk_rows(
    judged: Judged, document_id: str, texts: Sequence[str], tokens: TokenBatch, info: ModelInfo
) -> list[ChunkRow]:
    tokenizer = load_tokenizer(info.tokenizer_file)
    ids = identity.ChunkIds(document_id, info.space)
    ends = np.cumsum(tokens.lengths)
    rows: list[ChunkRow] = []
    for index, (one, text) in enumerate(zip(judged.placed, texts, strict=True)):
        mine = tokens.token_ids[ends[index] - tokens.lengths[index] : ends[index]]
        has_unknown = tokenizer.unknown_id is not None and bool((mine == tokenizer.unknown_id).any())
        rows.append(
            ChunkRow(
                chunk_index=index,
                chunk_id=ids.next_id(text, reading=PREPARATION if tokenizer.reads_otherwise(text) else ""),
                start=one.span[0],
                end=one.span[1],
                tokens=len(mine),
                heading=one.row.facts.heading,
                unknown=len(tokenizer.unknown_spans(text)) if has_unknown else 0,
                page=one.row.facts.page,
            )
        )
    return rows
