"""Documents, collections, models and searches over HTTP, each tenant its own only."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from embedfleet.queue_schemas import DocumentInfo, SearchHits
from support.api import Served, serving
from support.hangs import HANG_SECONDS
from support.system import ONE_EACH, make_settings, paragraphs

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = f"# Pumps\n\n{paragraphs('text', 5)}"
NAME = "guides/water/chunks?x=1&ü"
PATH = "guides/water/chunks%3Fx=1&%C3%BC"
ALICE, BOB = {"X-Tenant": "alice"}, {"X-Tenant": "bob"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serving(make_settings(tmp_path_factory.mktemp("documents"))) as one:
        document = {
            "media_id": NAME,
            "content": TEXT,
            "content_type": "markdown",
            "chunking_config": ONE_EACH.model_dump(mode="json"),
            "source": "/docs/water.md",
            "metadata": {"team": "water"},
        }
        for tenant in (ALICE, BOB):
            made = await one.post("/v1/jobs", document, status=202, headers=tenant)
            await one.running.jobs.wait(made["job_id"], timeout_seconds=HANG_SECONDS)
        yield one


async def test_a_document_has_the_form_of_the_command_line_whatever_its_name(served: Served) -> None:
    expected = (await served.running.jobs.of("alice").get_document(media_id=NAME)).json_document()
    assert await served.get(f"/v1/documents/{PATH}", headers=ALICE) == expected
    page = await served.get("/v1/documents", headers=ALICE)
    assert page == {"documents": [expected], "next_cursor": None}
    assert (await served.get("/v1/documents?prefix=/other", headers=ALICE))["documents"] == []
    queries: list[tuple[dict[str, Any], list[Any]]] = [
        ({"where": '{"team": "water"}'}, [expected]),
        ({"where": '{"team": {"$ne": "water"}}'}, []),
        ({"media_id": ["other", NAME]}, [expected]),
        ({"created_before": "2000-01-01T00:00:00Z"}, []),
    ]
    for query, found in queries:
        assert (await served.get("/v1/documents", params=query, headers=ALICE))["documents"] == found
    for where in ('{"a": {"$no": 1}}', "{", "[" * 9_000, "[]", "{}"):
        wrong = await served.client.get("/v1/documents", params={"where": where}, headers=ALICE)
        assert (wrong.status_code, wrong.json()["field"]) == (400, "where")
    every = await served.get("/v1/documents?limit=1", headers={"X-Tenant": "*"})
    after = every["next_cursor"]
    rest = await served.get("/v1/documents", params={"after": after}, headers={"X-Tenant": "*"})
    tenants = [one["tenant_id"] for one in (*every["documents"], *rest["documents"])]
    assert tenants == ["alice", "bob"]


async def test_a_text_is_read_in_parts_and_chunks_have_places_and_headings(served: Served) -> None:
    text = await served.get(f"/v1/texts/{PATH}", headers=ALICE)
    assert (text["text"], text["chars"]) == (TEXT, len(TEXT))
    part = await served.get(f"/v1/texts/{PATH}?start=10&end=20", headers=ALICE)
    assert part["text"] == TEXT[10:20]
    too_much = await served.client.get(f"/v1/texts/{PATH}?start=0&end=1000001", headers=ALICE)
    assert (too_much.status_code, too_much.json()["field"]) == (400, "end")

    first = await served.get(f"/v1/chunks/{PATH}?limit=3&text=true", headers=ALICE)
    rest = await served.get(f"/v1/chunks/{PATH}", params={"after": first["next_cursor"]}, headers=ALICE)
    assert [one["chunk_index"] for one in (*first["chunks"], *rest["chunks"])] == [0, 1, 2, 3, 4]
    assert all(one["text"] == TEXT[one["start"] : one["end"]] for one in first["chunks"])
    assert {one["heading"] for one in first["chunks"]} == {"Pumps"}
    assert rest["chunks"][0]["text"] is None
    assert rest["chunks"][0]["vector"] is None

    path = f"/v1/chunks/{PATH}?limit=1&vectors="
    numbers = (await served.get(f"{path}float", headers=ALICE))["chunks"][0]["vector"]
    packed = (await served.get(f"{path}base64", headers=ALICE))["chunks"][0]["vector"]
    assert np.frombuffer(base64.b64decode(packed), "<f4").tolist() == numbers
    assert sum(value * value for value in numbers) == pytest.approx(1.0)


async def test_metadata_is_patched_without_a_new_version(served: Served) -> None:
    changed = await served.client.patch(
        f"/v1/documents/{PATH}", json={"metadata": {"year": 2024, "team": None}}, headers=ALICE
    )
    assert changed.json() == {"media_id": NAME, "metadata": {"year": 2024}}
    document = DocumentInfo.model_validate(await served.get(f"/v1/documents/{PATH}", headers=ALICE))
    assert (document.generation, document.metadata) == (1, {"year": 2024})
    wrong = await served.client.patch(
        f"/v1/documents/{PATH}", json={"metadata": {"year": [1]}}, headers=ALICE
    )
    assert (wrong.status_code, wrong.json()["field"]) == (400, "metadata")


async def test_collections_and_models_say_what_there_is(served: Served) -> None:
    (collection,) = (await served.get("/v1/collections", headers=ALICE))["collections"]
    assert (collection["tenant_id"], collection["model"], collection["documents"]) == ("alice", "stub", 1)
    assert len((await served.get("/v1/collections", headers={"X-Tenant": "*"}))["collections"]) == 2
    assert (await served.get("/v1/collections", headers={"X-Tenant": "carol"}))["collections"] == []
    models = {one["name"]: one for one in (await served.get("/v1/catalogue"))["models"]}
    assert models["stub"]["default"]
    assert models["stub"]["available"]
    assert models["stub"]["dim"] == collection["dim"]


async def test_a_search_finds_what_was_submitted_at_its_position(served: Served) -> None:
    made = await served.post(
        "/v1/jobs", {"media_id": "late", "content": "zebra quagga okapi"}, status=202, headers=ALICE
    )
    wanted: dict[str, Any] = {"query": "zebra quagga okapi", "limit": 1}
    position = {"after": made["position"], "timeout": HANG_SECONDS if HANG_SECONDS < 60 else 60}
    answer = await served.post("/v1/search", wanted, params=position, headers=ALICE)
    assert [hit["media_id"] for hit in answer["hits"]] == ["late"]
    assert answer["missing"] == []
    assert SearchHits.of_json(answer)[0].text == "zebra quagga okapi"
    again = await served.get("/v1/search", params=wanted, headers=ALICE)
    assert again == answer
    foreign = await served.client.get("/v1/search", params=wanted | position, headers=BOB)
    assert (foreign.status_code, foreign.json()["type"]) == (404, "UnknownJob")
    filtered = await served.post("/v1/search", wanted | {"source": "/docs/"}, headers=ALICE)
    assert {hit["media_id"] for hit in filtered["hits"]} == {NAME}
    assert (await served.post("/v1/search", wanted, headers={"X-Tenant": "carol"}))["hits"] == []
    empty = await served.post("/v1/search", {"query": " "}, status=400, headers=ALICE)
    assert empty["field"] == "query"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/documents/", None),
        ("PATCH", "/v1/documents/", {"metadata": {"a": 1}}),
        ("DELETE", "/v1/documents/", None),
        ("GET", "/v1/texts/", None),
        ("GET", "/v1/chunks/", None),
    ],
)
async def test_a_document_of_another_tenant_is_as_unknown_as_one_that_never_was(
    served: Served, method: str, path: str, body: Any
) -> None:
    carol = {"X-Tenant": "carol"}
    foreign, unknown = [
        await served.client.request(method, path + name, json=body, headers=carol) for name in (PATH, "none")
    ]
    assert (foreign.status_code, unknown.status_code) == (404, 404)
    assert foreign.text.replace(NAME, "X") == unknown.text.replace("none", "X")
    assert foreign.json()["remedy"] == "list_documents"


async def test_documents_are_deleted_by_a_filter_that_leaves_something_out(served: Served) -> None:
    dora = {"X-Tenant": "dora"}
    for number in range(3):
        document = {"media_id": number, "content": "words", "metadata": {"odd": bool(number % 2)}}
        await served.post("/v1/jobs", document, status=202, headers=dora)
    refused = await served.post("/v1/documents:delete", {}, status=400, headers=dora)
    assert "leaves no document out" in refused["detail"]
    gone = await served.post("/v1/documents:delete", {"where": {"odd": False}}, status=202, headers=dora)
    assert sorted(one["media_id"] for one in gone["deletions"]) == ["0", "2"]
    assert all(one["receipt_id"] for one in gone["deletions"])
    left = await served.get("/v1/documents", headers=dora)
    assert [one["media_id"] for one in left["documents"]] == ["1"]


async def test_a_deleted_document_is_gone_at_once_and_has_a_receipt(served: Served) -> None:
    gone = await served.client.delete(f"/v1/documents/{PATH}", headers=BOB)
    assert gone.status_code == 202
    receipt = await served.running.jobs.of("bob").receipt(receipt_id=gone.json()["receipt_id"])
    assert receipt.media_id == NAME
    assert (await served.client.get(f"/v1/documents/{PATH}", headers=BOB)).status_code == 404
    assert (await served.post("/v1/search", {"query": "text"}, headers=BOB))["hits"] == []
    assert (await served.client.get(f"/v1/documents/{PATH}", headers=ALICE)).status_code == 200
