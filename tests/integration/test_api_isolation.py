"""Every route with every id of another tenant: nothing is read, written, or hinted at.

The routes come from the OpenAPI document. So a route that is added is tried too, and the test fails until its
body is named in `BODIES`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.administration.schemas import KeyRequest
from embedfleet.api_keys import Scope
from support.api import Served, serving
from support.experiments import clicks_of, keep_answer
from support.system import make_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = "kingfisher"
"""Stands in the texts, names and metadata of alice, and nowhere else."""

ALL_OF_A_TENANT = frozenset({Scope.READ, Scope.WRITE, Scope.ADMIN})

# Answered without a key: they say nothing about any tenant.
OPEN = {"/healthz", "/readyz"}
# About the whole system, so for operators only.
OPERATORS = {
    ("GET", "/metrics"),
    ("GET", "/v1/tenants"),
    ("PATCH", "/v1/tenant"),
    ("DELETE", "/v1/tenant"),
    ("GET", "/v1/pools"),
    ("POST", "/v1/pools/{pool}/scale"),
    ("POST", "/v1/pools/{pool}/drain"),
    ("GET", "/v1/traffic"),
    ("PATCH", "/v1/traffic"),
    ("POST", "/v1/traffic:plan"),
    ("POST", "/v1/traffic:pause"),
    ("POST", "/v1/traffic:resume"),
    ("POST", "/v1/traffic:rollback"),
    ("POST", "/v1/traffic:retire"),
    ("POST", "/v1/traffic:restore"),
    ("GET", "/v1/traffic/history"),
    ("GET", "/v1/traffic/events"),
    ("POST", "/v1/traffic/shadows"),
    ("GET", "/v1/traffic/shadows"),
    ("GET", "/v1/traffic/shadows/{shadow_id}"),
    ("POST", "/v1/traffic/shadows/{shadow_id}/end"),
    ("GET", "/v1/model_switches:estimate"),
    ("POST", "/v1/model_switches"),
    ("GET", "/v1/model_switches"),
    ("GET", "/v1/model_switches/{switch_id}"),
    ("POST", "/v1/model_switches:pause"),
    ("POST", "/v1/model_switches:resume"),
    ("POST", "/v1/model_switches:throttle"),
    ("POST", "/v1/model_switches:serve"),
    ("POST", "/v1/model_switches:rollback"),
    ("POST", "/v1/model_switches:force"),
    ("POST", "/v1/model_switches:recheck"),
    ("POST", "/v1/model_switches:retire"),
    ("POST", "/v1/experiments:plan"),
    ("POST", "/v1/experiments"),
    ("GET", "/v1/experiments"),
    ("GET", "/v1/experiments/{experiment_id}"),
    ("POST", "/v1/experiments/{experiment_id}/end"),
    ("POST", "/v1/experiments/{experiment_id}/promote"),
}

Ids = Mapping[str, Any]

TRAFFIC_VERBS = ("pause", "resume", "rollback", "retire", "restore")
SWITCH_VERBS = ("pause", "resume", "throttle", "rollback", "force", "recheck", "retire")
PLAN = {"steps": [100], "hold_seconds": 0, "max_error_rate": 0.5, "max_p99_ratio": 9}
SHADOW_ID = "shd_0123456789abcdef"
SWITCH_ID = 10**9
EXPERIMENT_ID = "exp_0123456789abcdef"
EXPERIMENT = {"tenant": "alice", "model_a": "stub", "model_b": "minilm", "owner": "bob"}
NEW_JOB = {"media_id": "mine", "content": "A text of bob."}


def bodies(ids: Ids) -> dict[tuple[str, str], Any]:
    """A valid body for each operation that has one, which names the ids wherever it can."""
    return {
        ("POST", "/v1/jobs"): NEW_JOB,
        ("POST", "/v1/jobs:bulk"): [NEW_JOB],
        ("POST", "/v1/jobs:upload"): b"A file of bob.",
        ("POST", "/v1/jobs:estimate"): {"documents": [NEW_JOB]},
        ("POST", "/v1/jobs:estimate_upload"): b"A file of bob.",
        ("POST", "/v1/jobs:sum_estimates"): {"documents": []},
        ("POST", "/v1/jobs:find"): {"start": ids["job_id"]},
        ("POST", "/v1/jobs:wait"): {"job_ids": [ids["job_id"]]},
        ("POST", "/v1/jobs:retry"): {"job_ids": [ids["job_id"]]},
        ("POST", "/v1/jobs:match"): {"sources": [{"media_id": ids["media_id"], "source_hash": "x"}]},
        ("POST", "/v1/documents:models"): {"media_ids": [ids["media_id"]]},
        ("POST", "/v1/documents:describe"): {"media_ids": [ids["media_id"]]},
        ("POST", "/v1/dead_letters:requeue"): {"ids": [ids["dead_letter_id"]]},
        ("POST", "/v1/dead_letters:purge"): {"ids": [ids["dead_letter_id"]]},
        ("POST", "/v1/keys"): {"name": "another"},
        ("POST", "/v1/keys/{prefix}/rotate"): {"overlap_seconds": 0},
        ("PATCH", "/v1/tenant"): {"tier": "enterprise"},
        ("PUT", "/v1/tenant/routing"): {"rules": [{"model": "stub", "content_types": ["code"]}]},
        ("POST", "/v1/tenant/routing:plan"): {"rules": None},
        ("POST", "/v1/pools/{pool}/scale"): {"workers": 1},
        ("POST", "/v1/pools/{pool}/drain"): {},
        ("PATCH", "/v1/traffic"): {"percent": 100},
        ("POST", "/v1/traffic:plan"): PLAN,
        **{("POST", f"/v1/traffic:{verb}"): {"reason": "bob wants it"} for verb in TRAFFIC_VERBS},
        ("POST", "/v1/model_switches"): {"tenant_id": "alice", "to_model": "static"},
        **{("POST", f"/v1/model_switches:{verb}"): {"tenant_id": "alice"} for verb in SWITCH_VERBS},
        ("POST", "/v1/model_switches:serve"): {"tenant_id": "alice", "percent": 100},
        ("POST", "/v1/traffic/shadows"): {"owner": "bob", "rule": {"requests": 1}, "expires_seconds": 60},
        ("POST", "/v1/experiments:plan"): EXPERIMENT,
        ("POST", "/v1/experiments"): EXPERIMENT,
        ("POST", "/v1/experiments/{experiment_id}/promote"): {"arm": "route"},
        ("POST", "/v1/embeddings"): {"model": "stub", "input": "A text of bob."},
        ("POST", "/embed"): {"inputs": "A text of bob."},
        ("POST", "/v2/embed"): {"model": "stub", "input_type": "search_query", "texts": ["A text of bob."]},
        ("POST", "/v1/search"): {"query": "A text of bob."},
        ("POST", "/v1/feedback"): {"impression_id": ids["impression_id"], "clicked": [0]},
        ("PATCH", "/v1/documents/{media_id}"): {"metadata": {"bird": "crow"}},
        ("POST", "/v1/documents:delete"): {"media_ids": [ids["media_id"]]},
    }


@dataclass(frozen=True, slots=True)
class Answer:
    status_code: int
    text: str


@dataclass
class Two:
    """A server with two tenants. `alice` has one of everything; `bob` asks."""

    served: Served
    keys: dict[str, str]
    ids: dict[str, Any]

    async def ask(self, who: str | None, operation: Operation, ids: Ids) -> Answer:
        """Ask for the operation. Of a stream, take the first thing it says: it has no end."""
        headers = {} if who is None else {"Authorization": f"Bearer {self.keys[who]}"}
        method, path = operation.name
        for name, value in ids.items():
            path = path.replace(f"{{{name}}}", str(value)).replace(f"{{{name}:path}}", str(value))
        query = {name: ids[name] for name in operation.queries if name in ids}
        if operation.name == ("POST", "/v1/jobs:upload"):
            query |= {"media_id": "mine", "name": "mine.txt"}
        body = bodies(ids).get(operation.name)
        sent: dict[str, Any] = {} if body is None else {"json": body}
        if isinstance(body, bytes):
            sent = {"content": body}
        elif isinstance(body, list):
            sent = {"content": "\n".join(map(json.dumps, body))}
        client = self.served.client
        async with client.stream(method, path, headers=headers, params=query, **sent) as answer:
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                return Answer(answer.status_code, await anext(answer.aiter_text()))
            return Answer(answer.status_code, (await answer.aread()).decode())

    async def state_of_alice(self) -> Any:
        """All of alice that a request could change."""
        jobs = self.served.running.jobs.of("alice")
        administration = self.administration.of("alice")
        return (
            [one.json_document() for one in await jobs.list_jobs()],
            [one.json_document() for one in await jobs.list_documents()],
            [one.json_document() for one in await jobs.list_dead_letters(ended=True)],
            [one.model_dump(exclude={"used_at"}) for one in await administration.list_keys()],
            await administration.tenant(),
            await clicks_of(self.served.parts.database, "imp_0123456789abcdef"),
        )

    @property
    def administration(self) -> OperatorAdministration:
        parts = self.served.parts
        return OperatorAdministration(parts.database, parts.clock, parts.settings, actor="local")


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the API: its method and path, and what of it is in the query."""

    name: tuple[str, str]
    queries: tuple[str, ...]
    has_body: bool


def operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        for method, about in methods.items():
            queries = tuple(one["name"] for one in about.get("parameters", ()) if one["in"] == "query")
            yield Operation((method.upper(), path), queries, "requestBody" in about)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Two]:
    async with serving(make_settings(tmp_path_factory.mktemp("two"))) as served:
        one = Two(served, {}, {})
        one.keys["operator"] = (await one.administration.create_operator_key(KeyRequest())).key
        for tenant in ("alice", "bob"):
            made = await one.administration.of(tenant).create_key(KeyRequest(scopes=ALL_OF_A_TENANT))
            one.keys[tenant] = made.key
        one.ids |= await _things_of_alice(served, one.administration)
        yield one


async def _things_of_alice(served: Served, administration: OperatorAdministration) -> dict[str, Any]:
    alice = served.running.jobs.of("alice")
    ingested = await served.running.ingest(
        CANARY, f"The {CANARY} of alice.", user_id="alice", source=f"/{CANARY}.md", metadata={"bird": CANARY}
    )
    await alice.record_unreadable(media_id="bad", reason=f"is no {CANARY}")
    letters = await alice.list_dead_letters()
    await served.running.ingest("gone", f"Another {CANARY}.", user_id="alice")
    receipt_id = await alice.delete_document(media_id="gone")
    await served.running.settled()
    keys = await administration.of("alice").list_keys()
    await keep_answer(served.parts.database, "alice", "imp_0123456789abcdef")
    return {
        "job_id": ingested.job_id,
        "media_id": CANARY,
        "dead_letter_id": letters[0].dead_letter_id,
        "receipt_id": receipt_id,
        "prefix": keys[0].prefix,
        "pool": "chunking",
        "shadow_id": SHADOW_ID,
        "switch_id": SWITCH_ID,
        "experiment_id": EXPERIMENT_ID,
        "impression_id": "imp_0123456789abcdef",
    }


def unknown(ids: Ids) -> dict[str, Any]:
    """Ids like these that do not exist."""
    return {
        "job_id": "job_" + "0" * 32,
        "media_id": "unheard",
        "dead_letter_id": 10**9,
        "receipt_id": "0" * len(str(ids["receipt_id"])),
        "prefix": "x" * len(str(ids["prefix"])),
        "pool": "chunking",
        "shadow_id": SHADOW_ID[::-1],
        "switch_id": SWITCH_ID + 1,
        "experiment_id": EXPERIMENT_ID[::-1],
        "impression_id": "imp_never",
    }


def told(answer: Answer, ids: Ids) -> str:
    """What an answer says, without the ids that the question had."""
    text = answer.text.replace(f"`{ids['dead_letter_id']}`", "`ID`")  # a small number is in other words too
    for name in ("job_id", "media_id", "receipt_id", "prefix"):
        text = text.replace(str(ids[name]), "ID")
    return f"{answer.status_code} {text}"


async def test_no_route_reads_writes_or_hints_at_what_another_tenant_has(two: Two) -> None:
    before = await two.state_of_alice()
    document = (await two.served.client.get("/openapi.json")).json()
    found = list(operations(document))
    assert {one.name for one in found if one.has_body} == set(bodies(two.ids)), "a route is not tried"
    for operation in found:
        foreign = await two.ask("bob", operation, two.ids)
        never = await two.ask("bob", operation, unknown(two.ids))
        # `/readyz` says 503 while workers start.
        assert foreign.status_code < 500 or operation.name[1] in OPEN, (operation.name, foreign.text)
        if operation.name in OPERATORS:
            assert foreign.status_code == 403, operation.name
        if "{" in operation.name[1] and operation.name not in OPERATORS:
            assert foreign.status_code == 404, (operation.name, foreign.status_code, foreign.text)
        asked = "{" in operation.name[1] or any(name in two.ids for name in operation.queries)
        if asked and operation.name != ("POST", "/v1/jobs:upload"):  # it names a document of bob
            assert told(foreign, two.ids) == told(never, unknown(two.ids)), operation.name
        assert CANARY not in told(foreign, two.ids), operation.name
        assert "alice" not in foreign.text, operation.name
    assert await two.state_of_alice() == before


async def test_without_a_key_nothing_but_health_is_answered(two: Two) -> None:
    document = (await two.served.client.get("/openapi.json")).json()
    for operation in operations(document):
        answer = await two.ask(None, operation, two.ids)
        expected = {200, 503} if operation.name[1] in OPEN else {401}
        assert answer.status_code in expected, operation.name
