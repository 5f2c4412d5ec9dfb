"""Embeddings over HTTP: the forms of OpenAI, TEI and Cohere, and their own clients, unmodified."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from pydantic import SecretStr

from embedfleet.errors import ModelUnavailable
from embedfleet.records import usage
from embedfleet.records.scope import OneTenant
from support.api import Served, serving
from support.system import make_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json"}
TEXTS = ["the first text", "another", "the first text"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    settings = make_settings(
        tmp_path_factory.mktemp("embeddings"),
        models={
            "default": "stub",
            "catalogue": {
                "short": {"backend": "stub", "dim": 64, "matryoshka": True, "accepts_token_ids": True},
                "asymmetric": {"backend": "stub", "dim": 64, "query_prefix": "query: "},
            },
        },
        http={"max_embedding_inputs": 100, "max_embedding_tokens": 2_000},
        tenants={"tiers": {"basic": {"daily_tokens": 50}}},
    )
    async with serving(settings) as one:
        yield one


def of(tenant: str) -> dict[str, str]:
    return {"X-Tenant": tenant}


def array(rows: Any) -> NDArray[np.float32]:
    return np.array(rows, dtype=np.float32)


async def vectors_of(served: Served, texts: Any, **more: Any) -> NDArray[np.float32]:
    answer = await served.post("/v1/embeddings", {"model": "stub", "input": texts, **more})
    return array([row["embedding"] for row in answer["data"]])


async def refused(served: Served, status: int, **body: Any) -> dict[str, Any]:
    content = json.dumps({"model": "stub", **body})
    answer = await served.client.post("/v1/embeddings", content=content, headers=JSON)
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert set(answer.json()) == {"error"}
    assert set(error) == {"message", "type", "param", "code"}
    return error


# --- clients, unmodified ----------------------------------------------------------------------


async def test_the_client_of_openai(served: Served) -> None:
    import openai  # here: it takes seconds, in each process that collects the tests

    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client:
        # It asks for base64 by itself.
        made = await client.embeddings.create(model="stub", input=TEXTS)
        plain = await client.embeddings.create(model="stub", input=TEXTS, encoding_format="float")
        assert [row.index for row in made.data] == [0, 1, 2]
        assert np.array_equal(
            array([row.embedding for row in made.data]), array([row.embedding for row in plain.data])
        )
        assert made.data[0].embedding == made.data[2].embedding != made.data[1].embedding
        assert made.model == "stub"
        assert made.usage.prompt_tokens == made.usage.total_tokens == 7
        assert [model.id async for model in client.models.list()] == [
            "asymmetric",
            "minilm",
            "short",
            "static",
            "stub",
        ]
        assert (await client.models.retrieve("stub")).owned_by == "embedfleet"
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.embeddings.create(model="stab", input="x")
        assert unknown.value.code == "model_not_found"
        assert "stub" in unknown.value.message
        with pytest.raises(openai.BadRequestError) as too_long:
            await client.embeddings.create(model="stub", input=["ok", "word " * 600])
        assert too_long.value.param == "input"
        assert "input[1]: the text has" in too_long.value.message


async def test_langchain(served: Served) -> None:
    from langchain_openai import OpenAIEmbeddings  # here, as `openai` above

    async with httpx.AsyncClient() as http:  # it closes none that it makes
        told = OpenAIEmbeddings(
            model="stub",
            base_url=f"{served.url}/v1",
            api_key=SecretStr("any"),
            check_embedding_ctx_length=False,
            http_async_client=http,
        )
        assert np.allclose(array(await told.aembed_documents(TEXTS)), await vectors_of(served, TEXTS))
        assert np.allclose(array([await told.aembed_query("another")]), await vectors_of(served, "another"))


async def test_ids_of_another_tokenizer_are_refused_with_the_setting_that_helps(served: Served) -> None:
    """LangChain sends ids of OpenAI's tokenizer by default."""
    error = await refused(served, 400, input=[[1820, 1176], [3]])
    assert error["type"] == "invalid_request_error"
    assert error["param"] == "input"
    assert "check_embedding_ctx_length=False" in error["message"]


# --- the details of /v1/embeddings ----------------------------------------------------------------


async def test_base64_is_little_endian_float32(served: Served) -> None:
    answer = await served.post(
        "/v1/embeddings", {"model": "stub", "input": TEXTS, "encoding_format": "base64"}
    )
    rows = [np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4") for row in answer["data"]]
    assert np.array_equal(np.stack(rows), await vectors_of(served, TEXTS))


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"input": TEXTS, "encoding_format": "int8"}, "encoding_format", "base64"),
        ({"input": []}, "input", "not empty"),
        ({"input": ""}, "input", "empty text"),
        ({"input": ["a", ""]}, "input", "[1] is an empty text"),
        ({"input": ["a", 3]}, "input", "[0] must be a text"),
        ({"input": [[]]}, "input", "[0] must be"),
        ({"input": [True]}, "input", "[0] must be"),
        ({"input": {"text": "a"}}, "input", "list of texts"),
        ({"input": ["a\ud800"]}, "input", "lone surrogate"),
        ({"input": ["x"] * 101}, "input", "101 texts, a request may have 100"),
        ({"input": ["word " * 200] * 20}, "input", "tokens, a request may have 2,000"),
        ({"input": "a", "dimensions": 65}, "dimensions", "at most 64"),
        ({"input": "a", "dimensions": 32}, "dimensions", "not trained for fewer than 64"),
        ({"input": "a", "dimensions": 0}, "dimensions", "greater"),
        ({"input": "a", "input_type": "image"}, "input_type", "`image` is not known"),
        ({"input": "a", "input_type": "query", "task": "document"}, "input_type", "contradict"),
        ({"input": "a", "dimensoins": 3}, "dimensoins", "no field has this name"),
        ({}, "input", "required"),
        ({"input": "a", "input_type": "\ud800"}, "input_type", "unicode"),
        ({"input": [10**30], "model": "short"}, "input", "are below"),
    ],
)
async def test_what_is_wrong_is_refused_in_the_form_of_openai(
    served: Served, body: dict[str, Any], param: str, message: str
) -> None:
    error = await refused(served, 400, **body)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert message in error["message"]
    assert error["code"] is None


async def test_a_body_that_is_no_json_is_refused_in_the_form_of_openai(served: Served) -> None:
    broken = await served.client.post("/v1/embeddings", content=b"{", headers=JSON)
    assert (broken.status_code, broken.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_fewer_dimensions_are_the_first_ones_of_length_one(served: Served) -> None:
    whole = await vectors_of(served, TEXTS, model="short", dimensions=64)
    assert np.array_equal(whole, await vectors_of(served, TEXTS, model="short"))
    fewer = await vectors_of(served, TEXTS, model="short", dimensions=16)
    assert fewer.shape == (3, 16)
    assert np.allclose(np.linalg.norm(fewer, axis=1), 1)
    assert np.allclose(fewer, whole[:, :16] / np.linalg.norm(whole[:, :16], axis=1, keepdims=True), atol=1e-6)


async def test_ids_are_taken_by_a_model_whose_settings_say_so(served: Served) -> None:
    assert (await vectors_of(served, [[5, 6, 7], [8]], model="short")).shape == (2, 64)
    assert (await vectors_of(served, [5, 6, 7], model="short")).shape == (1, 64)
    error = await refused(served, 400, model="short", input=[[5], [10**7]])
    assert "input[1]: token ids of model `short` are below" in error["message"]


@pytest.mark.parametrize("name", ["input_type", "task", "prompt_name"])
async def test_a_query_is_embedded_as_one(served: Served, name: str) -> None:
    document = await vectors_of(served, "text", model="asymmetric")
    query = await vectors_of(served, "text", model="asymmetric", **{name: "search_query"})
    assert not np.allclose(document, query)
    assert np.array_equal(document, await vectors_of(served, "text", model="asymmetric", **{name: "passage"}))


async def test_headers_tell_times_and_tokens(served: Served) -> None:
    answer = await served.client.post("/v1/embeddings", json={"model": "stub", "input": TEXTS})
    for name in ("x-total-time", "x-queue-time", "x-inference-time", "x-tokenization-time"):
        assert int(answer.headers[name]) >= 0
    assert answer.headers["x-compute-tokens"] == "7"
    assert answer.headers["x-compute-characters"] == str(sum(map(len, TEXTS)))


async def test_the_ledger_counts_texts_and_a_limit_of_tokens_holds_among_many_at_once(served: Served) -> None:
    await served.client.patch("/v1/tenant", json={"tier": "basic"}, headers=of("limited"))
    headers = of("limited")
    body = {"model": "stub", "input": "five words are in here"}  # 5 tokens of 50
    answers = await asyncio.gather(
        *(served.client.post("/v1/embeddings", json=body, headers=headers) for _ in range(20))
    )
    good = [answer for answer in answers if answer.status_code == 200]
    over = [answer for answer in answers if answer.status_code == 429]
    assert (len(good), len(over)) == (10, 10)
    assert min(int(answer.headers["x-ratelimit-remaining-tokens"]) for answer in good) == 0
    assert {answer.headers["x-ratelimit-limit-tokens"] for answer in good} == {"50"}
    for answer in over:
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    rows = await served.parts.database.read(
        lambda conn: usage.between(conn, OneTenant("limited"), "2000-01-01", "9999-12-31")
    )
    assert [(line.model, amount.tokens, amount.texts, amount.jobs) for _, line, amount in rows] == [
        ("stub", 50, 10, 0)
    ]


async def test_a_request_that_fails_costs_nothing_and_says_when_to_come_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise ModelUnavailable("the model is being loaded", retry_after_seconds=7)

    headers = of("unlucky")
    with monkeypatch.context() as patched:
        patched.setattr(type(served.parts.embedder), "embed", away)
        answer = await served.client.post(
            "/v1/embeddings", json={"model": "stub", "input": "a"}, headers=headers
        )
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
    assert answer.json()["error"]["type"] == "server_error"
    rows = await served.parts.database.read(
        lambda conn: usage.between(conn, OneTenant("unlucky"), "2000-01-01", "9999-12-31")
    )
    assert [amount.tokens for _, _, amount in rows] == [0]


async def test_a_client_that_hangs_up_withdraws_its_texts(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def slow(*_: Any, **__: Any) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with monkeypatch.context() as patched:
        patched.setattr(type(served.parts.embedder), "embed", slow)
        asking = asyncio.create_task(vectors_of(served, "a"))
        await began.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await ended.wait()


# --- TEI and Cohere -----------------------------------------------------------------------------


async def test_the_route_of_text_embeddings_inference(served: Served) -> None:
    expected = await vectors_of(served, TEXTS)
    assert np.allclose(array(await served.post("/embed", {"inputs": TEXTS})), expected)
    assert np.allclose(array(await served.post("/embed", {"inputs": TEXTS[1]})), expected[1:2])
    long = {"inputs": ["word " * 600]}
    error = await served.post("/embed", long, status=400)
    assert error["error_type"] == "Validation"
    assert "inputs[0]" in error["error"]
    assert len(await served.post("/embed", {**long, "truncate": True})) == 1


async def test_the_route_of_cohere(served: Served) -> None:
    body = {"model": "stub", "texts": TEXTS, "input_type": "search_document"}
    answer = await served.post("/v2/embed", {**body, "embedding_types": ["float", "base64"]})
    expected = await vectors_of(served, TEXTS)
    assert np.allclose(array(answer["embeddings"]["float"]), expected)
    rows = [np.frombuffer(base64.b64decode(row), dtype="<f4") for row in answer["embeddings"]["base64"]]
    assert np.array_equal(np.stack(rows), expected)
    assert answer["meta"]["billed_units"]["input_tokens"] == 7
    error = await served.post("/v2/embed", {**body, "model": "stab"}, status=404)
    assert set(error) == {"message"}
    await served.post("/v2/embed", {"model": "stub", "texts": TEXTS}, status=400)
