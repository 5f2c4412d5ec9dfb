"""langchain: `index()` into langchain-chroma, or into LanceDB by langchain-community.

Its bookkeeping is in an `SQLRecordManager` on SQLite.

Its documentation recommends `cleanup="incremental"` with a source id for documents that change, and as large
a batch as possible.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from reference_models import load_sentence_transformer, load_static_model

from contestants import Contest, Documents, Ingest

BATCH_SIZE = 1000
SETTINGS = f'RecursiveCharacterTextSplitter, cleanup="incremental", batch_size={BATCH_SIZE}'


@contextmanager
def opened(contest: Contest) -> Iterator[Ingest]:
    from langchain_classic.indexes import SQLRecordManager
    from langchain_core.documents import Document
    from langchain_core.indexing import index
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    store = _lancedb(contest) if contest.into_lancedb else _chroma(contest)
    records = SQLRecordManager("bench", db_url=f"sqlite:///{contest.directory / 'records.db'}")
    records.create_schema()
    splitter = RecursiveCharacterTextSplitter(chunk_size=contest.chunk_chars, chunk_overlap=0)

    def ingest(documents: Documents) -> int:
        whole = [Document(page_content=text, metadata={"source": name}) for name, text in documents]
        result = index(
            splitter.split_documents(whole),
            records,
            store,
            batch_size=BATCH_SIZE,
            cleanup="incremental",
            source_id_key="source",
            key_encoder="sha256",
        )
        return int(result["num_added"])

    yield ingest


def _chroma(contest: Contest) -> Any:
    import chromadb
    from langchain_chroma import Chroma

    return Chroma(
        "bench",
        _embeddings(contest),
        client=chromadb.PersistentClient(contest.chroma),
        collection_configuration={"hnsw": {"space": "cosine"}},
    )


def _lancedb(contest: Contest) -> Any:
    from langchain_community.vectorstores import LanceDB

    # Its default is to overwrite the table at each call, so that only the last one stays.
    return LanceDB(uri=contest.lancedb, embedding=_embeddings(contest), table_name="bench", mode="append")


def _embeddings(contest: Contest) -> Any:
    """Either model behind langchain's interface. `HuggingFaceEmbeddings` makes the same call; the package
    it is in cannot be installed beside the others' huggingface_hub."""
    from langchain_core.embeddings import Embeddings

    model = load_static_model() if contest.model == "static" else load_sentence_transformer()

    class Encoding(Embeddings):  # type: ignore[misc]  # untyped without langchain
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            vectors: list[list[float]] = model.encode(texts).tolist()
            return vectors

        def embed_query(self, text: str) -> list[float]:
            return self.embed_documents([text])[0]

    return Encoding()
