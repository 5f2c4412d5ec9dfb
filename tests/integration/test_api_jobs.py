"""Jobs over HTTP: submitted, listed, cancelled and run again, each tenant its own only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from support.api import Served, serving
from support.hangs import HANG_SECONDS
from support.system import make_settings, paragraphs

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = "Pumps move water. Valves stop it."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serving(make_settings(tmp_path_factory.mktemp("jobs"))) as one:
        yield one


def of(tenant: str, **headers: str) -> dict[str, str]:
    return {"X-Tenant": tenant, **{name.replace("_", "-"): value for name, value in headers.items()}}


async def submit(served: Served, tenant: str, media_id: str | int, **more: Any) -> str:
    document = {"media_id": media_id, "content": TEXT, **more}
    made = await served.post("/v1/jobs", document, status=202, headers=of(tenant))
    job_id: str = made["job_id"]
    return job_id


async def ended(served: Served, tenant: str, job_id: str) -> dict[str, Any]:
    await served.running.jobs.of(tenant).wait(job_id, timeout_seconds=HANG_SECONDS)
    job: dict[str, Any] = await served.get(f"/v1/jobs/{job_id}", headers=of(tenant))
    return job


async def test_a_submitted_text_is_a_durable_job_with_the_form_of_the_command_line(served: Served) -> None:
    answer = await served.client.post(
        "/v1/jobs", json={"media_id": 7, "content": TEXT, "title": "Water"}, headers=of("alice")
    )
    assert answer.status_code == 202
    made = answer.json()
    assert made == {"job_id": made["job_id"], "media_id": "7", "position": made["job_id"]}
    assert answer.headers["Location"] == f"/v1/jobs/{made['job_id']}"
    job = await ended(served, "alice", made["job_id"])
    assert job["status"] == "completed"
    assert job == (await served.running.jobs.of("alice").status(made["job_id"])).json_document()


async def test_a_repeated_submission_gets_the_first_answer_and_makes_no_job(served: Served) -> None:
    document = {"media_id": "once", "content": TEXT}
    headers = of("alice", Idempotency_Key="key 1")
    first = await served.client.post("/v1/jobs", json=document, headers=headers)
    again = await served.client.post("/v1/jobs", json=document, headers=headers)
    assert "Idempotency-Replayed" not in first.headers
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert len((await served.get("/v1/jobs?media_id=once", headers=of("alice")))["jobs"]) == 1

    other = await served.client.post("/v1/jobs", json=document | {"content": "else"}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (409, "KeyReused")
    elsewhere = await served.client.post(
        "/v1/jobs", json=document, headers=of("bob", Idempotency_Key="key 1")
    )
    assert elsewhere.status_code == 202
    assert elsewhere.json()["job_id"] != first.json()["job_id"]


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"media_id": "1"}, "content"),
        ({"media_id": "1", "content": " \n"}, "content"),
        ({"media_id": "1", "content": TEXT, "priority": 101}, "priority"),
        ({"media_id": "1\0", "content": TEXT}, "media_id"),
        ({"media_id": "", "content": TEXT}, "media_id"),
        ({"media_id": "1", "content": TEXT, "user_tier": "enterprise"}, "user_tier"),
        (
            {"media_id": "1", "content": TEXT, "chunking_config": {"chunk_size": 0}},
            "chunking_config.chunk_size",
        ),
    ],
)
async def test_a_wrong_field_is_named_and_nothing_is_stored(
    served: Served, document: dict[str, Any], field: str
) -> None:
    problem = await served.post("/v1/jobs", document, status=400, headers=of("nobody-yet"))
    assert problem["field"] == field
    assert TEXT not in problem["detail"]
    assert (await served.get("/v1/jobs", headers=of("nobody-yet")))["jobs"] == []


async def test_a_list_is_narrowed_and_walked_by_its_cursor(served: Served) -> None:
    submitted = [
        await submit(served, "lists", f"doc/{number % 2}", content=f"{TEXT} {number}") for number in range(5)
    ]
    seen: list[str] = []
    page: dict[str, Any] = {"next_cursor": None}
    while page["next_cursor"] is not None or not seen:
        after = {} if page["next_cursor"] is None else {"after": page["next_cursor"]}
        page = await served.get("/v1/jobs", params={"limit": 2, **after}, headers=of("lists"))
        assert len(page["jobs"]) <= 2
        seen += [job["job_id"] for job in page["jobs"]]
    assert sorted(seen) == sorted(submitted)

    async def listed(**filters: str) -> int:
        return len((await served.get("/v1/jobs", params=filters, headers=of("lists")))["jobs"])

    first = (await served.get(f"/v1/jobs/{submitted[0]}", headers=of("lists")))["created_at"]
    assert await listed(media_id="doc/0") == 3
    assert await listed(media_id="doc/0", status="failed") == 0
    assert await listed(created_from=first) == 5
    assert await listed(created_before=first) == 0
    assert await listed(created_before="2000-01-01T00:00:00Z") == 0
    broken = await served.client.get("/v1/jobs", params={"after": "e30"}, headers=of("lists"))
    assert broken.status_code == 400


async def test_the_jobs_of_another_tenant_are_as_unknown_as_those_that_never_were(served: Served) -> None:
    job_id = await submit(served, "alice", "secret")
    await ended(served, "alice", job_id)
    names = (job_id, job_id[:-1] + "x")
    for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/retry")):
        answers = [
            await served.client.request(method, f"/v1/jobs/{name}{path}", headers=of("bob")) for name in names
        ]
        assert [one.status_code for one in answers] == [404, 404]
        foreign, unknown = (one.text.replace(n, "ID") for one, n in zip(answers, names, strict=True))
        assert foreign == unknown
    listed = await served.get("/v1/jobs?media_id=secret", headers=of("bob"))
    assert listed == {"jobs": [], "next_cursor": None}


async def test_a_job_is_cancelled_once_and_runs_again(served: Served) -> None:
    job_id = await submit(served, "alice", "long", content=paragraphs("long", 200))
    cancelled = await served.post(f"/v1/jobs/{job_id}/cancel", headers=of("alice"))
    assert cancelled == {"job_id": job_id, "cancelled": True}
    assert (await served.post(f"/v1/jobs/{job_id}/cancel", headers=of("alice")))["cancelled"] is False
    again = await served.post(f"/v1/jobs/{job_id}/retry", status=202, headers=of("alice"))
    assert again["job_id"] == job_id
    assert (await ended(served, "alice", job_id))["status"] == "completed"
    refused = await served.post(f"/v1/jobs/{job_id}/retry", status=400, headers=of("alice"))
    assert "nothing" in refused["detail"]
