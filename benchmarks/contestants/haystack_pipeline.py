"""haystack: splitter, embedder and writer in a `Pipeline`, into chroma-haystack.

The writer overwrites what has the same id (a hash of the chunk), the cheapest of its policies that may be
repeated. Its Chroma store writes chunk by chunk, whatever it is given.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reference_models import load_static_model, unpack_minilm

from contestants import Contest, Documents, Ingest

SEPARATORS = ["\n\n", "\n", " "]
SETTINGS = "RecursiveDocumentSplitter at empty lines, lines and words, DuplicatePolicy.OVERWRITE"


@contextmanager
def opened(contest: Contest) -> Iterator[Ingest]:
    from haystack import Document, Pipeline
    from haystack.components.preprocessors import RecursiveDocumentSplitter
    from haystack.components.writers import DocumentWriter
    from haystack.document_stores.types import DuplicatePolicy
    from haystack_integrations.document_stores.chroma import ChromaDocumentStore

    # Its store warns of a split's metadata that it drops, once a chunk.
    logging.getLogger("haystack_integrations").setLevel(logging.ERROR)
    store = ChromaDocumentStore("bench", persist_path=contest.chroma, distance_function="cosine")
    splitter = RecursiveDocumentSplitter(
        split_length=contest.chunk_chars, split_overlap=0, split_unit="char", separators=SEPARATORS
    )
    pipeline = Pipeline()
    pipeline.add_component("splitter", splitter)
    pipeline.add_component("embedder", _embedder(contest))
    pipeline.add_component("writer", DocumentWriter(store, policy=DuplicatePolicy.OVERWRITE))
    pipeline.connect("splitter.documents", "embedder.documents")
    pipeline.connect("embedder.documents", "writer.documents")

    def ingest(documents: Documents) -> int:
        whole = [Document(content=text, meta={"source": name}) for name, text in documents]
        result = pipeline.run({"splitter": {"documents": whole}})
        return int(result["writer"]["documents_written"])

    yield ingest


def _embedder(contest: Contest) -> Any:
    return _static_embedder() if contest.model == "static" else _sentence_transformers_embedder()


def _sentence_transformers_embedder() -> Any:
    from haystack.utils import ComponentDevice
    from haystack_integrations.components.embedders.sentence_transformers import (
        SentenceTransformersDocumentEmbedder,
    )

    with tempfile.TemporaryDirectory() as folder:
        embedder = SentenceTransformersDocumentEmbedder(
            model=str(unpack_minilm(Path(folder))),
            device=ComponentDevice.from_str("cpu"),
            progress_bar=False,
        )
        embedder.warm_up()
    return embedder


def _static_embedder() -> Any:
    from haystack import Document, component

    model = load_static_model()

    @component
    class StaticDocumentEmbedder:
        def __init__(self) -> None:
            # Said here: it cannot read annotations that are strings.
            component.set_input_types(self, documents=list[Document])
            component.set_output_types(self, documents=list[Document])

        def run(self, **inputs: Any) -> dict[str, Any]:
            documents = inputs["documents"]
            vectors = model.encode([document.content for document in documents]).tolist()
            for document, vector in zip(documents, vectors, strict=True):
                document.embedding = vector
            return {"documents": documents}

    return StaticDocumentEmbedder()
