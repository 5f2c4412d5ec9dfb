"""What all routes of the API share: who is let in, how errors look, and how the server ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from support.api import Served, serving
from support.system import make_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder: Path = tmp_path_factory.mktemp("api")
    async with serving(make_settings(folder)) as one:
        yield one


async def test_without_keys_this_machine_may_do_everything(served: Served) -> None:
    me = await served.get("/v1/me")
    assert me == {"tenant_id": "local", "scopes": ["admin", "operator", "read", "write"], "key": None}
    assert (await served.get("/v1/me", headers={"X-Tenant": "bob"}))["tenant_id"] == "bob"


@pytest.mark.parametrize(
    ("header", "tenant"),
    [("*", None), ("%2A", "*"), ("m%C3%BCnchen%2F1", "münchen/1"), ("100%", "100%")],
)
async def test_a_header_names_any_tenant_or_all(served: Served, header: str, tenant: str | None) -> None:
    assert (await served.get("/v1/me", headers={"X-Tenant": header}))["tenant_id"] == tenant


@pytest.mark.parametrize("header", ["%ff", "%00", "a" * 257, "%C3%A4" * 257])
async def test_what_is_no_tenant_is_refused(served: Served, header: str) -> None:
    answer = await served.client.get("/v1/me", headers={"X-Tenant": header})
    assert (answer.status_code, answer.json()["field"]) == (400, "X-Tenant")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example"},
        {"Host": "0.0.0.0"},  # browsers take it for this machine
        {"Host": "127.0.0.1@evil.example"},
        {"Host": "[::1"},
        {"Host": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "https://localhost@evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[::1"},
        {"X-Forwarded-For": "203.0.113.7"},
        {"X-Forwarded-For": "127.0.0.1, 203.0.113.7"},
        {"X-Forwarded-Host": "api.example"},
        {"X-Real-IP": "2001:db8::1"},
        {"Forwarded": "for=203.0.113.7"},
    ],
    ids=str,
)
async def test_without_keys_no_page_of_another_host_and_no_proxy_gets_in(
    served: Served, headers: dict[str, str]
) -> None:
    answer = await served.client.get("/v1/me", headers=headers)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert "key" in answer.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost:8080"},
        {"Host": "[::1]:8080"},
        {"Host": "127.0.0.2"},
        {"Origin": "http://localhost:3000"},
        {"X-Forwarded-For": "127.0.0.1, ::1", "X-Forwarded-Host": "localhost:8080"},
        # These name no host.
        {"X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"},
    ],
    ids=str,
)
async def test_without_keys_all_from_this_machine_get_in(served: Served, headers: dict[str, str]) -> None:
    assert (await served.client.get("/v1/me", headers=headers)).status_code == 200


async def test_an_unknown_path_is_a_problem(served: Served) -> None:
    answer = await served.client.get("/v1/nothing")
    assert answer.status_code == 404
    assert answer.json()["status"] == 404


async def test_the_page_of_the_api_asks_no_other_host(served: Served) -> None:
    page = await served.client.get("/docs")
    assert page.status_code == 200
    assert "http://" not in page.text
    assert "https://" not in page.text
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"):
        assert name in page.text
        assert (await served.client.get(f"/docs/{name}")).status_code == 200
    assert (await served.client.get("/docs/../pyproject.toml")).status_code == 404


async def test_supervisors_see_health(served: Served) -> None:
    assert (await served.client.get("/healthz")).text == "alive\n"
    assert (await served.client.get("/metrics")).text.startswith("# HELP embedding_")
    assert (await served.client.get("/readyz")).status_code in (200, 503)


async def test_a_misspelt_field_is_named_with_the_one_that_is_missing(served: Served) -> None:
    answer = await served.client.post("/v1/jobs", json={"media_id": "1", "contents": "text"})
    assert answer.status_code == 400
    assert answer.json()["field"] == "contents"
    assert answer.json()["detail"].endswith("did you mean `content`?")
