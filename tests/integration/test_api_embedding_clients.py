"""Two more clients of embeddings, unmodified. Each takes seconds to import, and asks by the client of OpenAI.

That client itself, and LangChain's, are in `test_api_embeddings`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from support.api import Served, serving
from support.system import make_settings

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

TEXTS = ["the first text", "another", "the first text"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serving(make_settings(tmp_path_factory.mktemp("clients"))) as one:
        yield one


def array(rows: Any) -> NDArray[np.float32]:
    return np.array(rows, dtype=np.float32)


async def vectors_of(served: Served, texts: Any) -> NDArray[np.float32]:
    answer = await served.post("/v1/embeddings", {"model": "stub", "input": texts})
    return array([row["embedding"] for row in answer["data"]])


async def test_llama_index(served: Served) -> None:
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding

    async with httpx.AsyncClient() as http:  # it closes none that it makes
        embedding = OpenAILikeEmbedding(
            model_name="stub", api_base=f"{served.url}/v1", api_key="any", async_http_client=http
        )
        found = await embedding.aget_text_embedding_batch(TEXTS)
        assert np.allclose(array(found), await vectors_of(served, TEXTS))
        query = await embedding.aget_query_embedding("another")
        assert np.allclose(array([query]), await vectors_of(served, "another"))


async def test_litellm(served: Served) -> None:
    import litellm

    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="any") as client:
        # It closes none that it makes.
        made = await litellm.aembedding(model="openai/stub", input=TEXTS, client=client)
    assert np.allclose(array([row["embedding"] for row in made.data]), await vectors_of(served, TEXTS))
    assert made.usage is not None
    assert made.usage.prompt_tokens == 7
