"""Receipts and estimates over HTTP: in the form of the command line, each tenant its own only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from support.api import Served, serving
from support.hangs import HANG_SECONDS
from support.system import make_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

PRICES = {"currency": "EUR", "per_million_tokens": {"stub": 1_000_000.0}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serving(make_settings(tmp_path_factory.mktemp("receipts"), prices=PRICES)) as one:
        yield one


def of(tenant: str) -> dict[str, str]:
    return {"X-Tenant": tenant}


async def test_a_receipt_is_read_by_its_tenant_and_is_unknown_to_others(served: Served) -> None:
    await served.running.ingest("1", "A secret.", user_id="alice")
    jobs = served.running.jobs.of("alice")
    receipt_id = await jobs.delete_document(media_id="1")
    assert receipt_id is not None
    async with asyncio.timeout(HANG_SECONDS):
        receipt = await jobs.searched_receipt(receipt_id)
    assert await served.get(f"/v1/receipts/{receipt_id}", headers=of("alice")) == receipt.json_document()
    listed = await served.get("/v1/receipts", headers=of("alice"))
    assert listed == {"receipts": [receipt.json_document()], "next_cursor": None}

    unknown = await served.client.get(f"/v1/receipts/{receipt_id}", headers=of("bob"))
    never = await served.client.get(f"/v1/receipts/{receipt_id[::-1]}", headers=of("bob"))
    assert unknown.status_code == never.status_code == 404
    assert unknown.json()["remedy"] == never.json()["remedy"] == "list_receipts"
    assert unknown.json()["detail"].replace(receipt_id, "") == never.json()["detail"].replace(
        receipt_id[::-1], ""
    )
    assert (await served.get("/v1/receipts", headers=of("bob")))["receipts"] == []
    assert len((await served.get("/v1/receipts", headers=of("*")))["receipts"]) == 1


async def test_a_tenant_is_deleted_by_an_operator(served: Served) -> None:
    await served.running.ingest("1", "Of carol.", user_id="carol")
    answer = await served.client.delete("/v1/tenant", headers=of("carol"))
    assert answer.status_code == 202
    receipt_id = answer.json()["receipt_id"]
    async with asyncio.timeout(HANG_SECONDS):
        receipt = await served.running.jobs.of_all_tenants().searched_receipt(receipt_id)
    assert receipt.state == "erased"
    assert (await served.client.delete("/v1/tenant", headers=of("carol"))).status_code == 404


async def test_an_estimate_is_what_a_submission_then_costs(served: Served) -> None:
    document = {"media_id": 7, "content": "Pumps move water. Valves stop it."}
    found = await served.post("/v1/jobs:estimate", {"documents": [document]}, headers=of("dave"))
    (one,) = found["documents"]
    assert (one["media_id"], one["state"], one["chunks"]) == ("7", "embeds", 1)
    assert one["tokens"] == one["cost"] == found["estimate"]["cost"]
    assert (await served.get("/v1/jobs", headers=of("dave")))["jobs"] == []
    await served.running.ingest("7", document["content"], user_id="dave")  # type: ignore[arg-type]
    again = await served.post("/v1/jobs:estimate", {"documents": [document]}, headers=of("dave"))
    assert [one["state"] for one in again["documents"]] == ["unchanged"]
    assert again["estimate"]["cost"] == 0


@pytest.mark.parametrize("documents", [[], [{"media_id": "1", "content": " "}], [{"media_id": "1"}]])
async def test_what_cannot_be_estimated_is_refused(served: Served, documents: list[object]) -> None:
    answer = await served.client.post("/v1/jobs:estimate", json={"documents": documents}, headers=of("dave"))
    assert answer.status_code == 400
    assert answer.json()["field"]
