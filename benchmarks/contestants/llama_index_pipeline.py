"""llama_index: `IngestionPipeline` with a docstore against duplicates, into its ChromaVectorStore.

The docstore is persisted at the end, without which it knows nothing in the next run. The cache of
transformations is off, which is faster for documents that are new; so are its worker processes, each of which
would load the model again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reference_models import load_static_model, unpack_minilm

from contestants import Contest, Documents, Ingest
from embedfleet.paging import pages

CHARS_PER_TOKEN = 4.4
"""It counts in tokens of tiktoken; with this its chunks of library sources are as long as the others'."""

EMBED_TOGETHER = 128
RUN_TOGETHER = 1000
"""Documents. It gives Chroma all chunks of a run at once, and Chroma refuses more than 5,461."""

SETTINGS = (
    f"SentenceSplitter, {CHARS_PER_TOKEN} characters a token, embed_batch_size={EMBED_TOGETHER}, "
    f"{RUN_TOGETHER} documents a run, "
    "disable_cache=True, docstore persisted at the end"
)


@contextmanager
def opened(contest: Contest) -> Iterator[Ingest]:
    import chromadb
    from llama_index.core import Document
    from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
    from llama_index.core.node_parser import SentenceSplitter
    from llama_index.core.storage.docstore import SimpleDocumentStore
    from llama_index.vector_stores.chroma import ChromaVectorStore

    client = chromadb.PersistentClient(contest.chroma)
    collection = client.create_collection("bench", configuration={"hnsw": {"space": "cosine"}})
    chunk_tokens = round(contest.chunk_chars / CHARS_PER_TOKEN)
    pipeline = IngestionPipeline(
        transformations=[SentenceSplitter(chunk_size=chunk_tokens, chunk_overlap=0), _embedding(contest)],
        vector_store=ChromaVectorStore(chroma_collection=collection),
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS,
        disable_cache=True,
    )

    def ingest(documents: Documents) -> int:
        whole = [
            Document(
                text=text,
                doc_id=name,
                metadata={"source": name},
                # Else the name is embedded with every chunk, and the chunks are shorter by it.
                excluded_embed_metadata_keys=["source"],
                excluded_llm_metadata_keys=["source"],
            )
            for name, text in documents
        ]
        nodes = sum(len(pipeline.run(documents=page)) for page in pages(whole, RUN_TOGETHER))
        pipeline.persist(str(contest.directory / "pipeline"))
        return nodes

    yield ingest


def _embedding(contest: Contest) -> Any:
    return _static_embedding() if contest.model == "static" else _huggingface_embedding()


def _huggingface_embedding() -> Any:
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding

    with tempfile.TemporaryDirectory() as folder:
        return HuggingFaceEmbedding(
            str(unpack_minilm(Path(folder))), device="cpu", embed_batch_size=EMBED_TOGETHER
        )


def _static_embedding() -> Any:
    from llama_index.core.base.embeddings.base import BaseEmbedding

    model = load_static_model()

    class StaticEmbedding(BaseEmbedding):  # type: ignore[misc]  # untyped without llama_index
        def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
            vectors: list[list[float]] = model.encode(texts).tolist()
            return vectors

        def _get_text_embedding(self, text: str) -> list[float]:
            return self._get_text_embeddings([text])[0]

        def _get_query_embedding(self, query: str) -> list[float]:
            return self._get_text_embedding(query)

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return self._get_text_embedding(query)

    return StaticEmbedding(embed_batch_size=EMBED_TOGETHER)
