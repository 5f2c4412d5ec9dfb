"""The synchronous path that is ready to use: chunks, embeds and stores in the caller's process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.chunker import Chunk, Chunker
from embedfleet.chunking.segments import segment_spans
from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.document_metadata import Metadata
from embedfleet.errors import ConfigError, InvalidRequest, ModelError, Permanent, SpaceMismatch, hint
from embedfleet.inference.backend import ModelInfo, TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.lifecycle.chunk_rows import chunk_row
from embedfleet.places import NOWHERE
from embedfleet.queue_schemas import JobRequest
from embedfleet.records import identity
from embedfleet.records.chunks import ChunkRow
from embedfleet.records.metadata import chunk_metadata
from embedfleet.routing.choice import NOTHING_OWN, Content, candidates, choose
from embedfleet.settings import Settings
from embedfleet.system_parts import Mark
from embedfleet.traffic.document_turns import DocumentTurns
from embedfleet.traffic.paths import IngestRequest, IngestResult, StoredChunk
from embedfleet.traffic.requests import job_request
from embedfleet.vectors.port import TenantSpace, VectorRows, VectorStore
from embedfleet.waiting import to_its_end

_MARK = Mark("the synchronous path", "the synchronous path", "none").to_text()
# The rows of this path have no job.
_NO_JOB = ""


async def claim_store(store: VectorStore) -> None:
    """Mark the store as one of synchronous paths. Any number of processes may do so.

    Raises ConfigError if it is the store of a fleet: of two systems that write the same ids, each would
    delete rows of the other. A fleet refuses a store that this has marked.
    """
    held = await store.claim_mark(_MARK)
    if held != _MARK:
        raise ConfigError(
            f"the vector store belongs to a system with the database {Mark.from_text(held).database}: the "
            "synchronous path needs a store of its own"
        )


@dataclass(frozen=True, slots=True)
class _Version:
    """What the rows of a document say of it (`records.metadata.Version`)."""

    tenant: str
    media_id: str
    source: str | None
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class _Cut:
    """A document that was cut. `chunks` and `rows` are in order and belong together."""

    request: JobRequest
    model: ModelInfo
    chunks: Sequence[Chunk]
    rows: Sequence[ChunkRow]

    @property
    def collection(self) -> TenantSpace:
        return TenantSpace(self.request.user_id, self.model.space, self.model.dim)

    def batch(self) -> TokenBatch:
        texts = tuple(chunk.context + chunk.text for chunk in self.chunks) if self.model.needs_texts else None
        return TokenBatch(
            np.concatenate([chunk.token_ids for chunk in self.chunks]),
            np.array([len(chunk.token_ids) for chunk in self.chunks], dtype=np.int64),
            texts,
        )

    def vector_rows(self, vectors: NDArray[np.float32], *, with_documents: bool) -> VectorRows:
        request = self.request
        version = _Version(request.user_id, request.media_id, request.source, request.metadata or {})
        return VectorRows(
            [row.chunk_id for row in self.rows],
            vectors,
            [chunk_metadata(version, _NO_JOB, row) for row in self.rows],
            [chunk.text for chunk in self.chunks] if with_documents else None,
        )

    def stored(self, vectors: NDArray[np.float32]) -> list[StoredChunk]:
        return [
            StoredChunk(row.chunk_id, row.start, row.end, vector)
            for row, vector in zip(self.rows, vectors, strict=True)
        ]


class SynchronousEmbedder:
    """Chunks, embeds and stores a document before it answers. A `RemovingPath`.

    It makes what the fleet makes with the same settings: the same chunks and ids, and rows with the same
    metadata except for `job_id`, which is empty. The vectors have the same bits where the model makes a
    vector without regard to the other texts of its call; other models keep a cosine of 0.99999 or more
    (`EmbeddingBackend`).

    It keeps no record of its own. So a request without metadata removes what the document has of it. One
    process at a time may write a document; within a process, requests for a document are served in order.
    """

    def __init__(
        self,
        store: VectorStore,
        catalogue: Catalogue,
        models: ModelPool,
        settings: Settings,
        *,
        further_models: Sequence[str] = (),
    ) -> None:
        """The caller opens and closes the store, which must be this path's own (`claim_store`).

        Without a model in the request, the rules of the settings choose it. Rules of a tenant are in the
        fleet's database, which this path does not have. `further_models`: the models that requests may name
        beside those. A document that changes its model is looked for in the collections of all.
        """
        self._store = store
        self._catalogue = catalogue
        self._models = models
        self._chunking = settings.chunking.config
        self._with_documents = settings.vector_store.store_documents
        self._choice = settings.models
        self._names = tuple(dict.fromkeys([*candidates(NOTHING_OWN, settings.models), *further_models]))
        self._turns = DocumentTurns()

    async def __call__(self, request: IngestRequest) -> IngestResult:
        """Ingest the document. On return readers of the store see it, and no older version.

        Raises InvalidRequest for a request that the fleet would refuse or a model that was not named, and
        Permanent if there is nothing to embed. Raises ModelError if the model fails on a chunk, and whatever
        the model and the store raise. Up to then the version before is unchanged; only when the store fails
        may it have rows of both. A repetition mends that.
        """
        wanted = job_request(request)
        async with self._turns.of(request.tenant, request.media_id):
            cut = await asyncio.to_thread(self._cut, wanted)
            vectors = await self._embed(cut)
            # A caller that is cancelled between the two writes would leave readers with two versions.
            await to_its_end(self._replace(cut, vectors))
        return IngestResult(chunks=len(cut.chunks), stored=cut.stored(vectors))

    async def remove(self, tenant: str, media_id: str) -> None:
        """Delete all rows of the document. On return no reader sees it. Raises what the store raises."""
        async with self._turns.of(tenant, media_id):
            await to_its_end(self._delete_rows(tenant, media_id, but=frozenset()))

    async def shows(self, tenant: str, media_id: str) -> bool:
        """Return whether the store has rows of the document. Raises what the store raises."""
        for collection in await self._collections(tenant):
            if (await self._store.ids_with(collection, "media_id", [media_id])).get(media_id):
                return True
        return False

    def _cut(self, request: JobRequest) -> _Cut:
        content = Content(request.content_type, request.content, request.source, request.metadata or {})
        model = self._model(choose(content, request.model, NOTHING_OWN, self._choice).model)
        chunker = Chunker(
            load_tokenizer(model.tokenizer_file),
            request.chunking_config or self._chunking,
            max_tokens=model.max_tokens,
            content_type=request.content_type,
        )
        texts = (request.content[start:end] for start, end in segment_spans(request.content))
        chunks = [chunk for some in chunker.split(texts, title=request.title) for chunk in some]
        if not chunks:
            raise Permanent(
                f"document `{request.media_id}` of tenant `{request.user_id}` holds no text: the model's "
                "tokeniser makes no token of it"
            )
        ids = identity.ChunkIds(identity.document_id(request.user_id, request.media_id), model.space)
        return _Cut(request, model, chunks, [chunk_row(chunk, ids, NOWHERE) for chunk in chunks])

    def _model(self, name: str) -> ModelInfo:
        if name not in self._names:
            reason = f"`{name}` is not a model of the synchronous path: {hint(name, self._names)}"
            raise InvalidRequest(f"model: {reason}", field="model", reason=reason)
        return self._catalogue.info(name)

    async def _embed(self, cut: _Cut) -> NDArray[np.float32]:
        """Return float32 (n, dim), one vector a chunk. Raises ModelError if one of them fails."""
        async with self._models.using(cut.model.name) as runner:
            if runner.info.space != cut.model.space:
                raise SpaceMismatch(
                    f"model `{cut.model.name}` has space {runner.info.space}, the document was cut for "
                    f"{cut.model.space}: open the path again"
                )
            outcome = await runner.embed(cut.batch())
        if outcome.failed:
            place, reason = min(outcome.failed.items())
            row = cut.rows[place]
            raise ModelError(
                f"model `{cut.model.name}` fails on {len(outcome.failed)} of {len(cut.rows)} chunks of "
                f"document `{cut.request.media_id}`, first on its characters {row.start}-{row.end}: {reason}"
            )
        return outcome.vectors

    async def _replace(self, cut: _Cut, vectors: NDArray[np.float32]) -> None:
        await self._store.ensure_collection(cut.collection)
        rows = cut.vector_rows(vectors, with_documents=self._with_documents)
        await self._store.upsert(cut.collection, rows)
        # After the write: in the other order, readers would see nothing of the document in between. Chunk ids
        # are derived from the space too, so the ids of one collection keep no row of another.
        request = cut.request
        await self._delete_rows(request.user_id, request.media_id, but=frozenset(rows.ids))

    async def _delete_rows(self, tenant: str, media_id: str, *, but: AbstractSet[str]) -> None:
        """Delete the document's rows in the collections of all models, except those with these ids."""
        for collection in await self._collections(tenant):
            there = await self._store.ids_with(collection, "media_id", [media_id])
            surplus = [row_id for row_id in there.get(media_id, []) if row_id not in but]
            if surplus:
                await self._store.delete(collection, surplus)

    async def _collections(self, tenant: str) -> list[TenantSpace]:
        """Return the collections in which the tenant's documents may be: one for each model."""
        models = [await asyncio.to_thread(self._catalogue.info, name) for name in self._names]
        return [TenantSpace(tenant, model.space, model.dim) for model in models]
