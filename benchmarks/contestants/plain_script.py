"""What one writes in an afternoon: cut, encode everything, add in slices. Nothing is durable before the end.

It cuts with langchain's splitter, chromadb having none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from reference_models import load_sentence_transformer, load_static_model

from contestants import Contest, Documents, Ingest

ADD_TOGETHER = 1000
SETTINGS = f"collection.add() of {ADD_TOGETHER}"


@contextmanager
def opened(contest: Contest) -> Iterator[Ingest]:
    import chromadb
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    model = load_static_model() if contest.model == "static" else load_sentence_transformer()
    splitter = RecursiveCharacterTextSplitter(chunk_size=contest.chunk_chars, chunk_overlap=0)
    client = chromadb.PersistentClient(contest.chroma)
    collection = client.create_collection("bench", configuration={"hnsw": {"space": "cosine"}})

    def ingest(documents: Documents) -> int:
        chunks = [
            (f"{name} {number}", text, {"source": name})
            for name, document in documents
            for number, text in enumerate(splitter.split_text(document))
        ]
        ids, texts, metadatas = (list(column) for column in zip(*chunks, strict=True))
        vectors = model.encode(texts)
        for start in range(0, len(texts), ADD_TOGETHER):
            piece = slice(start, start + ADD_TOGETHER)
            collection.add(
                ids=ids[piece],
                embeddings=vectors[piece],
                documents=texts[piece],
                metadatas=metadatas[piece],
            )
        return len(texts)

    yield ingest
