"""LangChain's own Chroma store reads a view, and knows nothing of embedfleet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from langchain_chroma import Chroma
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from embedfleet.views.layouts.langchain import LangChainLayout
from support.system import make_settings, paragraphs, running
from support.view_readers import open_client


class OneVector(Embeddings):  # type: ignore[misc]  # langchain_core is untyped here
    """Embeds every query as this vector."""

    def __init__(self, vector: NDArray[np.float32]) -> None:
        self._vector = vector.tolist()

    def embed_query(self, text: str) -> list[float]:
        return list(self._vector)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


# Chroma warns of every collection that names no embedding function, as those of LangChain do.
@pytest.mark.filterwarnings("ignore:legacy embedding function config:DeprecationWarning")
async def test_langchain_searches_filters_and_scores_a_view(tmp_path: Path) -> None:
    """The system ends as soon as the documents are live, as the command does that ingests a folder."""
    view = {"name": "chain", "layout": "langchain", "path": str(tmp_path / "chain")}
    text = paragraphs("whale", 1)
    async with running(make_settings(tmp_path, vector_store={"views": [view]})) as fleet:
        await fleet.ingest("12", text, source="moby.txt", title="Moby", metadata={"author": "Melville"})
        await fleet.ingest("13", "Another text.", source="other.txt")
    with open_client(tmp_path / "chain") as client:
        name = LangChainLayout().collection("alice")
        [row] = client.get_collection(name).get(where={"media_id": "12"}, include=["embeddings"])[
            "embeddings"
        ]
        store = Chroma(client=client, collection_name=name, embedding_function=OneVector(np.asarray(row)))
        [(best, distance), *others] = store.similarity_search_with_score("any", k=5)
        assert best.page_content == text
        assert distance == pytest.approx(0.0, abs=1e-5)
        assert best.metadata["source"] == "moby.txt"
        assert text[best.metadata["start_index"] : best.metadata["end_index"]] == text
        assert [one.metadata["source"] for one, _ in others] == ["other.txt"]
        [found] = store.similarity_search("any", filter={"author": "Melville"})
        assert found.id == best.id
        assert store.get_by_ids([str(best.id)])[0].page_content == text
