"""API keys over HTTP: who is let in, what a scope allows and limits, and what one tenant sees of others.

One server has the keys of two tenants and of an operator. So it is closed from the start.
"""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.administration.schemas import KeyRequest
from embedfleet.api_keys import Scope
from embedfleet.records import api_keys
from support.api import Served, serving
from support.system import make_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Closed:
    """A server with keys, by tenant and scope."""

    served: Served
    operator: OperatorAdministration
    keys: dict[str, str] = field(default_factory=dict)

    async def ask(self, who: str, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.keys.get(who, who)}"} | more.pop("headers", {})
        return await self.served.client.request(method, path, headers=headers, **more)

    async def make(self, name: str, tenant: str, **wanted: Any) -> str:
        """Make a key and return its prefix."""
        made = await self.operator.of(tenant).create_key(KeyRequest(**wanted))
        self.keys[name] = made.key
        return made.info.prefix


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def closed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Closed]:
    folder: Path = tmp_path_factory.mktemp("closed")
    settings = make_settings(folder, prices={"per_million_tokens": {"stub": 1.0}})
    async with serving(settings) as served:
        parts = served.parts
        one = Closed(served, OperatorAdministration(parts.database, parts.clock, settings, actor="local"))
        one.keys["operator"] = (await one.operator.create_operator_key(KeyRequest())).key
        for tenant in ("alice", "bob"):
            for scope in (Scope.READ, Scope.WRITE, Scope.ADMIN):
                await one.make(f"{tenant} {scope}", tenant, scopes=frozenset({scope}))
        yield one


async def test_only_a_key_lets_a_request_in(closed: Closed) -> None:
    client = closed.served.client
    assert (await client.get("/v1/me")).status_code == 401
    key = closed.keys["alice read"]
    for wrong in ("nothing", key[:-1], key[:-1] + ("a" if key[-1] != "a" else "b"), key.upper(), "ef__", "é"):
        answer = await client.get("/v1/me", headers={b"Authorization": f"Bearer {wrong}".encode()})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert wrong not in answer.text
    by_header = await client.get("/v1/me", headers={"X-Api-Key": key})
    assert by_header.json() == (await closed.ask("alice read", "GET", "/v1/me")).json()
    assert by_header.json()["tenant_id"] == "alice"
    # A page of another host has no key to send, and a key is enough from anywhere.
    proxied = {"Host": "api.example", "X-Forwarded-For": "203.0.113.7", "Origin": "https://app.example"}
    assert (await closed.ask("alice read", "GET", "/v1/me", headers=proxied)).status_code == 200
    # Whatever a request says of where it comes from, it needs a key.
    for local in ({"Host": "localhost"}, {"X-Forwarded-For": "127.0.0.1"}, {"X-Real-IP": "::1"}):
        assert (await client.get("/v1/me", headers=local)).status_code == 401


async def test_a_scope_allows_what_it_says_and_no_more(closed: Closed) -> None:
    tried = {
        "read": ("GET", "/v1/jobs"),
        "write": ("POST", "/v1/jobs"),
        "admin": ("GET", "/v1/usage"),
        "operator": ("GET", "/v1/tenants"),
    }
    allowed = {
        "alice read": {"read"},
        "alice write": {"read", "write"},
        "alice admin": {"admin"},
        "operator": {"read", "write", "admin", "operator"},
    }
    for who, scopes in allowed.items():
        for scope, (method, path) in tried.items():
            body = {"json": {"media_id": "1", "content": "text"}} if method == "POST" else {}
            more = {"headers": {"X-Tenant": "carol"}} if who == "operator" else {}
            answer = await closed.ask(who, method, path, **body, **more)
            assert (answer.status_code != 403) == (scope in scopes), (who, scope, answer.text)
            if scope not in scopes:
                assert f"`{scope}`" in answer.json()["detail"]


async def test_what_no_ledger_counts_is_ordered_by_operators_only(closed: Closed) -> None:
    # A tenant that routes its documents to a dearer model would have them embedded again for nothing.
    path = "/v1/tenant/routing:move"
    refused = await closed.ask("alice admin", "POST", path)
    assert (refused.status_code, "`operator`" in refused.json()["detail"]) == (403, True)
    moved = await closed.ask("operator", "POST", path, headers={"X-Tenant": "carol"})
    assert moved.status_code == 200, moved.text


async def test_a_key_is_made_rotated_and_revoked_and_revoked_at_once(closed: Closed) -> None:
    made = await closed.ask("alice admin", "POST", "/v1/keys", json={"name": "app", "scopes": ["read"]})
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    key, info = made.json()["key"], made.json()["info"]
    assert (info["tenant_id"], info["state"]) == ("alice", "active")
    assert (await closed.ask(key, "GET", "/v1/me")).json()["key"] == info["prefix"]
    rotated = await closed.ask("alice admin", "POST", f"/v1/keys/{info['prefix']}/rotate")
    assert (await closed.ask(rotated.json()["key"], "GET", "/v1/me")).status_code == 200
    assert (await closed.ask(key, "GET", "/v1/me")).status_code == 200, "the old one still works"
    revoked = await closed.ask("alice admin", "DELETE", f"/v1/keys/{info['prefix']}")
    assert revoked.json()["state"] == "revoked"
    assert (await closed.ask(key, "GET", "/v1/me")).status_code == 401
    listed = (await closed.ask("alice admin", "GET", "/v1/keys")).text
    assert rotated.json()["info"]["prefix"] in listed
    assert key[14:] not in listed
    row = await closed.served.parts.database.read(lambda conn: api_keys.get(conn, info["prefix"]))
    assert row is not None
    assert row.used_at is not None
    log = (await closed.ask("alice admin", "GET", "/v1/audit", params={"limit": 3})).json()["audit"]
    assert [one["action"] for one in log] == ["key.revoke", "key.rotate", "key.create"]
    assert {one["actor"] for one in log} == {closed.keys["alice admin"][3:13]}


async def test_no_tenant_sees_or_reaches_what_another_has(closed: Closed) -> None:
    bobs = await closed.make("bob more", "bob", scopes=frozenset({Scope.READ}))
    await closed.ask("bob write", "POST", "/v1/jobs", json={"media_id": "b", "content": "a secret of bob"})
    for method, path in (("DELETE", "/v1/keys/{}"), ("POST", "/v1/keys/{}/rotate")):
        answers = [await closed.ask("alice admin", method, path.format(one)) for one in (bobs, "0123456789")]
        told = [one.text.replace(bobs, "ID").replace("0123456789", "ID") for one in answers]
        assert [one.status_code for one in answers] == [404, 404]
        assert told[0] == told[1]
    for path in ("/v1/keys", "/v1/usage", "/v1/audit", "/v1/tenant"):
        assert "bob" not in (await closed.ask("alice admin", "GET", path)).text, path
        foreign = await closed.ask("alice admin", "GET", path, headers={"X-Tenant": "bob"})
        assert foreign.status_code == 403, path
        every = await closed.ask("alice admin", "GET", path, headers={"X-Tenant": "*"})
        assert "bob" not in every.text, path
    assert (await closed.ask("bob more", "GET", "/v1/me")).status_code == 200
    made = await closed.ask("alice admin", "POST", "/v1/keys", json={"scopes": ["operator"]})
    assert made.status_code == 400


async def test_an_operator_acts_for_a_tenant_it_names_or_sees_all(closed: Closed) -> None:
    everything = (await closed.ask("operator", "GET", "/v1/keys", params={"limit": 1000})).json()["keys"]
    assert {"alice", "bob", None} <= {one["tenant_id"] for one in everything}
    named = {"X-Tenant": "dora"}
    changed = await closed.ask(
        "operator", "PATCH", "/v1/tenant", headers=named, json={"tier": "premium", "limits": {"weight": 3}}
    )
    assert changed.json()["own_limits"] == {"weight": 3}
    assert (await closed.ask("operator", "GET", "/v1/tenant", headers=named)).json() == changed.json()
    await closed.ask("operator", "PATCH", "/v1/tenant", headers={"X-Tenant": "erin"}, json={"tier": "free"})
    page = (await closed.ask("operator", "GET", "/v1/tenants", params={"limit": 1})).json()
    assert len(page["tenants"]) == 1
    assert page["next_cursor"] is not None
    refused = await closed.ask("operator", "PATCH", "/v1/tenant", json={})
    assert (refused.status_code, refused.json()["field"]) == (400, "X-Tenant")
    wrong = await closed.ask("operator", "PATCH", "/v1/tenant", headers=named, json={"limits": {"wieght": 1}})
    assert "did you mean `weight`" in wrong.json()["detail"]


async def test_what_an_operator_does_with_pools_is_in_the_audit_log(closed: Closed) -> None:
    scaled = await closed.ask("operator", "POST", "/v1/pools/storage/scale", json={"workers": 1})
    assert scaled.status_code == 202, scaled.text
    (newest,) = (await closed.ask("operator", "GET", "/v1/audit", params={"limit": 1})).json()["audit"]
    assert (newest["action"], newest["tenant_id"]) == ("pools.scale", None)
    assert newest["actor"] == closed.keys["operator"][3:13]
    assert newest["details"]["workers"] == 1


async def test_usage_names_the_key_that_submitted_and_its_price(closed: Closed) -> None:
    prefix = await closed.make("carl write", "carl", scopes=frozenset({Scope.WRITE, Scope.ADMIN}))
    await closed.ask("carl write", "POST", "/v1/jobs", json={"media_id": "1", "content": "two words"})
    rows = (await closed.ask("carl write", "GET", "/v1/usage")).json()["usage"]
    assert [(one["api_key"], one["tokens"], one["cost"]) for one in rows] == [(prefix, 2, 2e-06)]
    as_csv = await closed.ask("carl write", "GET", "/v1/usage", params={"format": "csv"})
    assert as_csv.headers["content-type"] == "text/csv; charset=utf-8"
    assert [row["tokens"] for row in csv.DictReader(as_csv.text.splitlines())] == ["2"]
    for wrong in ({"from": "yesterday"}, {"from": "2026-01-02", "to": "2026-01-01"}):
        assert (await closed.ask("carl write", "GET", "/v1/usage", params=wrong)).status_code == 400


async def test_over_a_limit_the_answer_says_which_what_is_used_and_when_it_frees(closed: Closed) -> None:
    await closed.operator.set_tenant("dave", limits={"daily_tokens": 3, "requests_per_minute": 4})
    await closed.make("dave write", "dave", scopes=frozenset({Scope.WRITE}))
    first = await closed.ask("dave write", "POST", "/v1/jobs", json={"media_id": "1", "content": "two words"})
    assert first.status_code == 202
    assert first.headers["x-ratelimit-limit-requests"] == "4"
    assert first.headers["x-ratelimit-remaining-requests"] == "3"
    over = await closed.ask("dave write", "POST", "/v1/jobs", json={"media_id": "2", "content": "two words"})
    problem = over.json()
    assert (over.status_code, problem["limit_name"], problem["limit"], problem["used"]) == (
        429,
        "daily_tokens",
        3,
        2,
    )
    assert 0 < int(over.headers["retry-after"]) <= 86_400
    assert over.headers["x-ratelimit-remaining-tokens"] == "1"
    assert (await closed.ask("dave write", "GET", "/v1/me")).status_code == 200
    assert (await closed.ask("dave write", "GET", "/v1/nothing")).status_code == 404
    assert (await closed.ask("dave write", "GET", "/v1/me")).headers["x-ratelimit-remaining-requests"] == "0"
    late = await closed.ask("dave write", "GET", "/v1/me")
    assert (late.status_code, late.json()["limit_name"]) == (429, "requests_per_minute")
    assert 0 < int(late.headers["retry-after"]) <= 61
    assert late.headers["x-ratelimit-remaining-requests"] == "0"
