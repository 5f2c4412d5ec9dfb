"""The ledger of inputs: what was submitted and what must come of it, on disk before it is submitted.

Chunk ids and vectors are computed here, in the submitting process, by the product's pure parts (chunker,
ids, stub model) alone: no queue, database, worker or store has a hand in them.
"""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.chunker import Chunker
from embedfleet.chunking.segments import segment_spans
from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.job_manager import EmbeddingJobManager
from embedfleet.queue_schemas import ChunkingConfig, JobRequest, UserTier
from embedfleet.records.identity import ChunkIds, ContentHash, document_id
from embedfleet.records.segments import Segment
from embedfleet.settings import ModelsSettings
from embedfleet.vectors.port import TenantSpace
from support.poisoned import poisoned
from support.system import ONE_EACH, paragraphs

MODEL = "stub"


@dataclass(frozen=True, slots=True)
class Document:
    """What one submission must lead to. `vectors`: base64 of float32 little-endian (n, dim). `dead`: chunks
    that must end as dead letters, by index."""

    tenant: str
    media_id: str
    document_id: str
    space: str
    dim: int
    content_sha256: str
    chunk_ids: tuple[str, ...]
    vectors: str
    dead: tuple[int, ...] = ()

    @property
    def collection(self) -> TenantSpace:
        """Where its vectors must be."""
        return TenantSpace(self.tenant, self.space, self.dim)

    @property
    def stored_ids(self) -> list[str]:
        """The chunks that must be stored."""
        return [chunk_id for n, chunk_id in enumerate(self.chunk_ids) if n not in self.dead]

    def stored_vectors(self) -> NDArray[np.float32]:
        """Aligned with `stored_ids`."""
        return np.delete(self.vectors_array(), list(self.dead), axis=0)

    def vectors_array(self) -> NDArray[np.float32]:
        """float32 (n, dim)"""
        flat = np.frombuffer(base64.b64decode(self.vectors), dtype="<f4").astype(np.float32)
        return flat.reshape(len(self.chunk_ids), -1)


class InputLedger:
    """Append-only JSON lines, fsynced: a document before it is submitted, its job once it has one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.documents: dict[tuple[str, str], Document] = {}
        self.jobs: dict[str, tuple[str, str]] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            self._take(json.loads(line))

    def __iter__(self) -> Iterator[Document]:
        return iter(self.documents.values())

    @property
    def job_ids(self) -> list[str]:
        return list(self.jobs)

    @property
    def chunks(self) -> int:
        return sum(len(one.chunk_ids) for one in self)

    @property
    def dead(self) -> int:
        """Chunks that must end as dead letters."""
        return sum(len(one.dead) for one in self)

    async def submit(self, jobs: EmbeddingJobManager, texts: Sequence[tuple[str, str, str]]) -> list[str]:
        """Submit (tenant, media id, text) in one transaction; every paragraph is a chunk. A later text of a
        document takes the place of the earlier one."""
        return await self._submit(jobs, texts, [expect(*text) for text in texts])

    async def submit_poisoned(
        self, jobs: EmbeddingJobManager, texts: Sequence[tuple[str, str, str, int]]
    ) -> list[str]:
        """The same for texts of which one chunk, named by its index, cannot be embedded."""
        plain = [(tenant, media_id, text) for tenant, media_id, text, _ in texts]
        expected = [replace(expect(*text), dead=(bad,)) for text, (*_, bad) in zip(plain, texts, strict=True)]
        return await self._submit(jobs, plain, expected)

    async def _submit(
        self,
        jobs: EmbeddingJobManager,
        texts: Sequence[tuple[str, str, str]],
        expected: Sequence[Document],
    ) -> list[str]:
        self._append([{"document": asdict(one)} for one in expected])
        job_ids = await jobs.create_jobs([request(*text) for text in texts])
        self._append(
            [
                {"job": job_id, "of": [one.tenant, one.media_id]}
                for job_id, one in zip(job_ids, expected, strict=True)
            ]
        )
        return job_ids

    async def submit_documents(
        self, jobs: EmbeddingJobManager, name: str, count: int, *, chunks: int, tenant: str = "alice"
    ) -> list[str]:
        """So many documents of so many chunks, no two alike."""
        texts = [(tenant, f"{name}-{n}", paragraphs(f"{name}{n}", chunks)) for n in range(count)]
        return await self.submit(jobs, texts)

    def _append(self, entries: Sequence[dict[str, Any]]) -> None:
        with self.path.open("a") as file:
            for entry in entries:
                file.write(json.dumps(entry) + "\n")
                self._take(entry)
            file.flush()
            os.fsync(file.fileno())

    def _take(self, entry: dict[str, Any]) -> None:
        if "job" in entry:
            tenant, media_id = entry["of"]
            self.jobs[entry["job"]] = (tenant, media_id)
        else:
            fields = entry["document"]
            one = Document(**fields | {name: tuple(fields[name]) for name in ("chunk_ids", "dead")})
            self.documents[one.tenant, one.media_id] = one


def poisoned_document(rng: random.Random, name: str, chunks: int) -> tuple[str, str, str, int]:
    """(tenant, media id, text, which of its paragraphs is poison)"""
    bad = rng.randrange(chunks)
    return "alice", name, poisoned(paragraphs(name, chunks), bad), bad


def request(tenant: str, media_id: str, text: str) -> JobRequest:
    return JobRequest(
        media_id=media_id,
        user_id=tenant,
        user_tier=UserTier.ENTERPRISE,
        content=text,
        chunking_config=ONE_EACH,
        model=MODEL,
    )


def expect(tenant: str, media_id: str, text: str, chunking: ChunkingConfig = ONE_EACH) -> Document:
    """What a submission must lead to."""
    catalogue = _catalogue()
    info = catalogue.info(MODEL)
    name = document_id(tenant, media_id)
    chunker = Chunker(load_tokenizer(info.tokenizer_file), chunking, max_tokens=info.max_tokens)
    segments = (Segment.of(0, start, text[start:end]) for start, end in segment_spans(text))
    chunks = [chunk for block in chunker.split(one.text for one in segments) for chunk in block]
    ids = ChunkIds(name, info.space)
    digest = ContentHash()
    digest.update(text)
    lengths = np.array([len(chunk.token_ids) for chunk in chunks])
    vectors = _stub().embed_tokens(TokenBatch(np.concatenate([chunk.token_ids for chunk in chunks]), lengths))
    return Document(
        tenant=tenant,
        media_id=media_id,
        document_id=name,
        space=info.space,
        dim=info.dim,
        content_sha256=digest.hexdigest(),
        chunk_ids=tuple(ids.next_id(chunk.text) for chunk in chunks),
        vectors=base64.b64encode(vectors.astype("<f4").tobytes()).decode(),
    )


@lru_cache(1)
def _catalogue() -> Catalogue:
    return Catalogue(ModelsSettings(default=MODEL))


@lru_cache(1)
def _stub() -> Any:
    return _catalogue().open(MODEL)
