"""Every field and parameter of every operation with values that databases, JSON and numbers choke on.

The operations and fields come from the OpenAPI document. The database is PostgreSQL, which takes neither NUL
nor lone surrogates in a text.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from support.api import Served, serving
from support.databases import PostgresDatabases
from support.openapi import Api, Operation
from support.system import make_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

# JSON as it is sent: Python would not write some of it.
VALUES = {
    "NUL": r'"a\u0000b"',
    "a lone surrogate": r'"a\ud800b"',
    "a large integer": "9" * 30,
    "more digits than Python converts": "9" * 5_000,
    "infinity": "1e999",
    "not a number": "NaN",
    "a deep list": "[" * 200 + "]" * 200,
    "a list with NUL": r'["\u0000"]',
    "an object with a strange name": r'{"\u0000\ud800": 1}',
}
# As they stand in a URL or a header: NUL, no UTF-8, a surrogate in UTF-8, and what a path may climb with.
IN_URLS = (
    "a%00b",
    "%ff",
    "%ED%A0%80",
    "..%2f..%2fetc",
    "9" * 30,
    "-1",
    "1e999",
    "%0d%0aX-Evil:1",
    "%7B%22a%22:%22%5Cud800%22%7D",
)
_SURROGATE = "a lone surrogate"
_HERE = "@here@"
JSON = {"Content-Type": "application/json"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(
    tmp_path_factory: pytest.TempPathFactory, postgres_databases: PostgresDatabases
) -> AsyncIterator[Served]:
    with postgres_databases.migrated() as url:
        settings = make_settings(tmp_path_factory.mktemp("hostile"), database_url=url)
        async with serving(settings) as one:
            yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(served: Served) -> Api:
    return Api((await served.client.get("/openapi.json")).json())


def assert_answered(name: str, answer: httpx.Response) -> None:
    """The answer says what is wrong, or that nothing is. It has no header that the request invented."""
    assert answer.status_code < 500, (name, answer.status_code, answer.text)
    assert "x-evil" not in answer.headers, name
    if answer.status_code >= 400:
        assert "json" in answer.headers["content-type"], (name, answer.text)
        answer.json()


def bodies_of(api: Api, operation: Operation, others: Iterator[str]) -> Iterator[tuple[str, str]]:
    """What stands where, and the body. Each field has a lone surrogate, and then the next other value."""
    assert operation.body is not None
    for path in api.fields(operation.body):
        body = json.dumps(api.sample_with(operation.body, path, _HERE))
        for name in (_SURROGATE, next(others)):
            yield f"{operation.name} {path}: {name}", body.replace(f'"{_HERE}"', VALUES[name])
    name = next(others)
    yield f"{operation.name}: {name} as the body", VALUES[name]


async def test_no_value_of_a_field_is_too_strange_to_be_answered(served: Served, api: Api) -> None:
    others = itertools.cycle(name for name in VALUES if name != _SURROGATE)
    tried = 0
    for operation in api.operations():
        if operation.body is None:
            continue
        url = operation.path.format(**dict.fromkeys(operation.parameters("path"), "1"))
        for name, body in bodies_of(api, operation, others):
            answer = await served.client.request(operation.method, url, content=body, headers=JSON)
            assert_answered(name, answer)
            tried += 1
    assert tried > 150


@pytest.mark.parametrize("body", [b"[" * 100_000, b'"\xff"', b'"\xed\xa0\x80"', b"\0", b"{", b""], ids=repr)
async def test_a_body_that_is_no_json_is_refused(served: Served, body: bytes) -> None:
    answer = await served.client.post("/v1/jobs", content=body, headers=JSON)
    assert answer.status_code == 400
    assert_answered("POST /v1/jobs", answer)


async def test_no_parameter_is_too_strange_to_be_answered(served: Served, api: Api) -> None:
    values = itertools.cycle(IN_URLS)
    for operation in api.operations():
        names = operation.parameters("path")
        plain = operation.path.format(**dict.fromkeys(names, "1"))
        body: dict[str, Any] = {} if operation.body is None else {"json": api.sample(operation.body)}
        for name in [*names, *operation.parameters("query")] * 2:
            value = next(values)
            url = (
                operation.path.format(**dict.fromkeys(names, "1") | {name: value})
                if name in names
                else f"{plain}?{name}={value}"
            )
            async with served.client.stream(operation.method, url, **body) as answer:
                if answer.headers["content-type"].startswith("text/event-stream"):
                    continue  # it has no end
                await answer.aread()
            assert_answered(f"{operation.method} {url}", answer)


@pytest.mark.parametrize("value", [b"%00", b"%ff", b"\xff", b"%ED%A0%80", b"", b"%", b"a\tb"])
async def test_no_header_is_too_strange_to_be_answered(served: Served, value: bytes) -> None:
    for header in (b"X-Tenant", b"X-Api-Key", b"Authorization", b"Idempotency-Key", b"Last-Event-ID"):
        for method in ("GET", "POST"):
            answer = await served.client.request(method, "/v1/jobs", headers={header: value}, content=b"{}")
            assert_answered(f"{header!r}: {value!r}", answer)
