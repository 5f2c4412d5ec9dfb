"""Keys and texts are where they must be and nowhere else; and what operators and admins do is written down.

The routes come from the OpenAPI document. So a route for operators that writes no row of the audit log fails.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from loguru import logger
from sqlalchemy import Connection, delete, func, select

from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.administration.schemas import KeyRequest
from embedfleet.api_keys import Scope
from embedfleet.job_manager import EmbeddingJobManager
from embedfleet.log import _write_json, configure
from embedfleet.records import collections, model_switches, traffic_counts
from embedfleet.records.model_switches import NewSwitch
from embedfleet.records.traffic_counts import CountKey, Counts
from embedfleet.sql import model_tables, tables
from embedfleet.sql.schema import SCHEMA
from embedfleet.sql.states import SwitchPhase
from support.api import Served, serving
from support.hangs import HANG_SECONDS
from support.openapi import Api, Operation
from support.system import make_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

SENTENCE = "Seventeen cobalt teapots whisper to the lighthouse keeper"
# Texts of documents, until they are deleted: what can be embedded again, and what answers show.
HOLD_TEXT = {"segments"}


@dataclass
class Seen:
    """A closed server, its keys, and all that it told while the module ran."""

    served: Served
    operator: str
    tenant: str
    reader: str
    answers: list[httpx.Response] = field(default_factory=list)

    async def ask(self, key: str, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"} | more.pop("headers", {})
        answer = await self.served.client.request(method, path, headers=headers, **more)
        self.answers.append(answer)
        return answer

    @property
    def secrets(self) -> list[str]:
        """The secret parts of the keys: the rest is their name."""
        return [key.split("_")[2] for key in (self.operator, self.tenant, self.reader)]


@contextmanager
def all_logs() -> Iterator[StringIO]:
    """What all loggers say, of every level, in both forms of our log."""
    stream = StringIO()
    others = logging.StreamHandler(stream)
    others.addFilter(lambda record: not record.name.startswith("http"))  # the client of the test
    root = logging.getLogger()
    level = root.level
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", stream)
        configure(level="TRACE", as_json=False)
        logger.add(_write_json, level="TRACE", serialize=True, backtrace=False, diagnose=False)
        root.addHandler(others)
        root.setLevel(logging.DEBUG)
        try:
            yield stream
        finally:
            root.removeHandler(others)
            root.setLevel(level)
            logger.remove()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Seen]:
    folder: Path = tmp_path_factory.mktemp("secrets")
    async with serving(make_settings(folder)) as served:
        parts = served.parts
        administration = OperatorAdministration(parts.database, parts.clock, parts.settings, actor="local")
        alice = administration.of("alice")
        every = frozenset({Scope.READ, Scope.WRITE, Scope.ADMIN})
        yield Seen(
            served,
            operator=(await administration.create_operator_key(KeyRequest())).key,
            tenant=(await alice.create_key(KeyRequest(scopes=every))).key,
            reader=(await alice.create_key(KeyRequest(scopes=frozenset({Scope.READ})))).key,
        )


async def test_no_log_metric_error_event_or_row_holds_a_key_or_a_text(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    with all_logs() as log:
        await _say_the_sentence_everywhere(seen)
        await _fail_with_the_sentence(seen, monkeypatch)
        for key in (seen.tenant[:-1], seen.tenant + "x", seen.tenant.upper()):
            assert (await seen.ask(key, "GET", "/v1/me")).status_code == 401
        pages = ("/metrics", "/v1/audit", "/v1/events/page")
        told = [await seen.ask(seen.operator, "GET", path) for path in pages]
    everything = log.getvalue()
    assert "defect" in everything, "the log was not heard"
    for where, text in [("log", everything), *((str(one.url), one.text) for one in [*told, *_errors(seen)])]:
        assert SENTENCE not in text, where
        assert not [one for one in seen.secrets if one in text], where
    rows = await seen.served.parts.database.read(lambda conn: _tables_that_hold(conn, [SENTENCE]))
    assert rows == HOLD_TEXT, rows
    assert not await seen.served.parts.database.read(lambda conn: _tables_that_hold(conn, seen.secrets))


async def _say_the_sentence_everywhere(seen: Seen) -> None:
    key = seen.tenant
    job: dict[str, Any] = {"media_id": "1", "content": SENTENCE}
    once = {"Idempotency-Key": "once"}
    made = await seen.ask(key, "POST", "/v1/jobs", json=job, headers=once)
    assert made.status_code == 202
    lines = [json.dumps(job | {"media_id": "2"}), SENTENCE, json.dumps(job | {"content": [SENTENCE]})]
    await seen.ask(key, "POST", "/v1/jobs:bulk", content="\n".join(lines), headers=once)
    for name in ("a.txt", "a.pdf"):
        params, headers = {"media_id": name, "name": name}, {"Idempotency-Key": name}
        file = SENTENCE.encode()
        await seen.ask(key, "POST", "/v1/jobs:upload", headers=headers, params=params, content=file)
    await seen.served.running.jobs.of("alice").wait(made.json()["job_id"], timeout_seconds=HANG_SECONDS)
    found = await seen.ask(key, "POST", "/v1/search", json={"query": SENTENCE})
    assert SENTENCE in found.text, "the hits show it on purpose"
    await seen.ask(key, "POST", "/v1/embeddings", json={"model": "stub", "input": SENTENCE})
    await seen.ask(key, "POST", "/embed", json={"inputs": SENTENCE})
    await seen.ask(key, "POST", "/v1/jobs:estimate", json={"documents": [job]})
    for wrong in ({"content": [SENTENCE]}, job | {"priority": SENTENCE}, SENTENCE, job | {"strict": 5}):
        refused = await seen.ask(key, "POST", "/v1/jobs", json=wrong)
        assert refused.status_code == 400
    for path, body in (
        ("/v1/search", {"query": [SENTENCE]}),
        ("/v1/search", {"query": SENTENCE, "limit": "many"}),
        ("/v1/embeddings", {"model": "stub", "input": [SENTENCE, 1]}),
        ("/embed", {"inputs": [SENTENCE, ""]}),
        ("/v2/embed", {"model": "stub", "texts": [SENTENCE, 1], "input_type": "search_query"}),
    ):
        assert (await seen.ask(key, "POST", path, json=body)).status_code == 400


async def _fail_with_the_sentence(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meet a defect while a text is in the variables of the frames: the log shows no variables."""

    def broken(_self: EmbeddingJobManager, _tenant: str, **_more: Any) -> Any:
        raise RuntimeError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingJobManager, "of", broken)
        answer = await seen.ask(seen.tenant, "POST", "/v1/jobs", json={"media_id": "9", "content": SENTENCE})
        assert (answer.status_code, answer.json()["type"]) == (500, "Defect")


def _errors(seen: Seen) -> list[httpx.Response]:
    return [one for one in seen.answers if one.status_code >= 400]


def _tables_that_hold(conn: Connection, words: list[str]) -> set[str]:
    """The names of the tables that have one of the words in any column."""
    return {
        table.name
        for table in SCHEMA.sorted_tables
        for row in conn.execute(select(table))
        for value in row
        if any(word in _text(value) for word in words)
    }


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


# What the smallest valid body of an operation leaves out although nothing is done without it.
BODIES: dict[str, Any] = {
    "PATCH /v1/tenant": {"tier": "basic"},
    "PUT /v1/tenant/routing": {"rules": [{"model": "stub", "content_types": ["code"]}]},
    "PATCH /v1/traffic": {"percent": 1},
    "POST /v1/traffic:plan": {
        "steps": [1, 2],
        "hold_seconds": 60,
        "max_error_rate": 0.01,
        "max_p99_ratio": 2,
    },
    "POST /v1/traffic:retire": {"after_seconds": 0},
    "POST /v1/experiments": {
        "tenant": "carol",
        "model_a": "stub",
        "model_b": "static",
        "owner": "me",
        "source": "clicks",
    },
    "POST /v1/model_switches": {"tenant_id": "new", "to_model": "static"},
    **{
        f"POST /v1/model_switches:{order}": {"tenant_id": "dora", **more}
        for order, more in {
            "pause": {},
            "resume": {},
            "throttle": {"most_jobs": 3},
            "serve": {"percent": 50},
            "rollback": {},
            "force": {},
            "recheck": {},
            "retire": {},
        }.items()
    },
}
# What a switch must be like, so that the order changes it.
SWITCHES: dict[str, dict[str, Any]] = {
    "resume": {"paused": True},
    "rollback": {"percent": 50.0, "phase": SwitchPhase.SERVING},
    "recheck": {"phase": SwitchPhase.REFUSED},
}
# Its workers are drained, at the next heartbeat: no test of this module may wait for what they do.
UNUSED_POOL = "deletion"
# A running experiment ends with its promotion.
ROWS = {"POST /v1/experiments/{experiment_id}/promote": 2}
# They are for operators, and change nothing.
LOOKS = {"POST /v1/experiments:plan"}


async def test_whatever_only_admins_and_operators_may_do_is_in_the_audit_log(seen: Seen) -> None:
    api = Api((await seen.served.client.get("/openapi.json")).json())
    changes = [one for one in api.operations() if one.method != "GET" and one.name not in LOOKS]
    guarded = [one for one in changes if await _is_guarded(seen, api, one)]
    names = {one.name for one in guarded}
    assert {"POST /v1/keys", "PATCH /v1/tenant", "POST /v1/pools/{pool}/drain"} <= names
    for operation in guarded:
        made = await seen.ask(seen.operator, "POST", "/v1/keys", json={}, headers={"X-Tenant": "bob"})
        ids = {"prefix": made.json()["info"]["prefix"], "pool": UNUSED_POOL}
        if operation.name == "POST /v1/traffic:retire":
            await _send_all_to_the_fleet(seen)
        if operation.path.startswith("/v1/model_switches:"):
            await _put_switch(seen, SWITCHES.get(operation.path.partition(":")[2], {}))
        if "{shadow_id}" in operation.path:
            runs = (await seen.ask(seen.operator, "GET", "/v1/traffic/shadows")).json()["shadows"]
            ids["shadow_id"] = runs[0]["shadow_id"]
        if "{experiment_id}" in operation.path:
            ids["experiment_id"] = await _begin_experiment(seen, tenant=operation.path.rpartition("/")[2])
        if operation.name == "POST /v1/experiments":
            await _put_document(seen, "carol")
        before = await _deeds(seen)
        answer = await _send(seen, seen.operator, api, operation, ids)
        assert answer.status_code < 300, (operation.name, answer.text)
        rows = ROWS.get(operation.name, 1)
        assert await _deeds(seen) == before + rows, f"{operation.name} leaves not {rows} rows"
    entry = (await seen.ask(seen.operator, "GET", "/v1/audit?limit=1")).json()["audit"][0]
    assert entry["actor"] == seen.operator.split("_")[1]


async def _send_all_to_the_fleet(seen: Seen) -> None:
    """The old path may be retired when every request goes to the fleet, and there was one."""
    state = (await seen.ask(seen.operator, "PATCH", "/v1/traffic", json={"percent": 100})).json()
    parts = seen.served.parts
    counted = CountKey(int(parts.clock.now()) + 60, "a router", "async", state["change_id"])
    await parts.database.write(lambda conn: traffic_counts.record(conn, {counted: Counts(requests=1)}))


async def _put_document(seen: Seen, tenant: str) -> None:
    job_id = await seen.served.running.submit("compared", "A text.", user_id=tenant)
    await seen.served.running.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)


async def _begin_experiment(seen: Seen, tenant: str) -> str:
    """Begin an experiment of a tenant of its own: soon after one has ended, its space is being emptied."""
    await _put_document(seen, tenant)
    body = BODIES["POST /v1/experiments"] | {"tenant": tenant}
    made = await seen.ask(seen.operator, "POST", "/v1/experiments", json=body)
    experiment_id: str = made.json()["experiment_id"]
    return experiment_id


async def _put_switch(seen: Seen, like: dict[str, Any]) -> None:
    """Have dora's switch be like that. She has no documents, so nothing serves by itself."""

    def put(conn: Connection) -> None:
        conn.execute(delete(model_tables.model_switches))
        wanted = [collections.Wanted("dora", name, name, 4) for name in ("old", "new")]
        old, new = collections.ensure(conn, wanted).values()
        begun = model_switches.begin(conn, NewSwitch("c", "dora", old, new, 100.0, "query"), 0.0)
        assert begun is not None
        model_switches.change(conn, begun, **{"most_jobs": 5, **like})

    await seen.served.parts.database.write(put)


async def _is_guarded(seen: Seen, api: Api, operation: Operation) -> bool:
    """Whether the operation needs more than to read and write, as a key that may only read is told."""
    ids = dict.fromkeys(operation.parameters("path"), "1")
    answer = await _send(seen, seen.reader, api, operation, ids)
    return answer.status_code == 403 and "`write`" not in answer.json()["detail"]


async def _send(seen: Seen, key: str, api: Api, operation: Operation, ids: dict[str, str]) -> httpx.Response:
    body = {} if operation.body is None else {"json": api.sample(operation.body)}
    if operation.name in BODIES:
        body = {"json": BODIES[operation.name]}
    headers = {"X-Tenant": "bob"} if key == seen.operator else {}
    return await seen.ask(key, operation.method, operation.path.format(**ids), headers=headers, **body)


async def _deeds(seen: Seen) -> int:
    def count(conn: Connection) -> int:
        return conn.execute(select(func.count()).select_from(tables.audit)).scalar_one()

    return await seen.served.parts.database.read(count)
