"""Lines of documents over HTTP: each has its own answer, while the others still come, in bounded memory."""

from __future__ import annotations

import asyncio
import json
import os
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from embedfleet.api.lines import lines_of
from embedfleet.api.spool import Spool
from support.api import Served, serving, serving_parts
from support.hangs import HANG_SECONDS
from support.system import make_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

MOST_LINE_BYTES = 2_000
MOST_CHARS_OF_A_DAY = 4_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    settings = make_settings(
        tmp_path_factory.mktemp("bulk"),
        http={"max_body_bytes": MOST_LINE_BYTES},
        tenants={"tiers": {"basic": {"daily_chars": MOST_CHARS_OF_A_DAY}}},
    )
    async with serving(settings) as one:
        yield one


def line(media_id: str, content: str = "Pumps move water.", **more: Any) -> bytes:
    return json.dumps({"media_id": media_id, "content": content, **more}).encode() + b"\n"


async def bulk(served: Served, content: Any, tenant: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await served.client.post("/v1/jobs:bulk", content=content, headers={"X-Tenant": tenant, **named})


def answers(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(text) for text in response.text.splitlines()]


async def media_ids(served: Served, tenant: str) -> set[str]:
    return {job.media_id for job in await served.running.jobs.of(tenant).list_jobs()}


async def test_an_error_of_a_line_is_the_answer_to_that_line_only(served: Served) -> None:
    secret = "no word of it in any error"
    body = b"".join(
        [
            line("1"),
            b"\n",
            b'{"media_id": "2", "content": "' + secret.encode() + b"\n",
            line("3", ""),
            line("4", secret, contents=secret),
            line("5", "x" * MOST_LINE_BYTES),
            line("6", model="nowhere"),
            b'{"media_id": "7", "content": "\xff"}\n',
            b"[" * 1_500 + b"\n",
            line("8").rstrip(),
        ]
    )
    response = await bulk(served, body, "errors")
    *each, end = answers(response)
    assert [one["line"] for one in each] == [1, 3, 4, 5, 6, 7, 8, 9, 10]
    assert [one["media_id"] for one in each if "job_id" in one] == ["1", "8"]
    assert {one["error"]["type"] for one in each if "error" in one} == {"InvalidRequest", "UnknownModel"}
    ids = sorted(one["job_id"] for one in each if "job_id" in one)
    assert end == {"submitted": 2, "failed": 7, "position": f"{ids[0]}..{ids[-1]}"}
    assert secret not in response.text
    assert await media_ids(served, "errors") == {"1", "8"}


async def test_of_lines_over_a_quota_the_first_ones_are_admitted(served: Served) -> None:
    await served.post("/v1/jobs", {"media_id": "0", "content": "x"}, status=202, headers={"X-Tenant": "poor"})
    await served.running.jobs.create_job(media_id="0", user_id="poor", content="x", user_tier="basic")
    *each, end = answers(
        await bulk(served, b"".join(line(str(n), f"{n} " + "word " * 250) for n in range(1, 7)), "poor")
    )
    assert ["job_id" in one for one in each] == [True] * 3 + [False] * 3
    assert (end["submitted"], end["failed"]) == (3, 3)
    assert each[-1]["error"]["status"] == 429


@asynccontextmanager
async def sending(url: str, tenant: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A request that reads its answer while it sends its body, in chunks."""
    async with asyncio.timeout(HANG_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
        writer.write(
            b"POST /v1/jobs:bulk HTTP/1.1\r\nHost: localhost\r\nX-Tenant: %b\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" % tenant.encode()
        )
        try:
            yield reader, writer
        finally:
            writer.close()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_lines_are_answered_while_later_ones_still_come(served: Served) -> None:
    async with sending(served.url, "live") as (reader, writer):
        for number in (1, 2):
            writer.write(chunk(line(str(number))))
            await reader.readuntil(b'{"line":%d,' % number)
            assert str(number) in await media_ids(served, "live")
        writer.write(chunk(b""))
        assert b'"submitted":2' in await reader.readuntil(b"0\r\n\r\n")


async def test_a_body_that_pauses_ends_with_a_line_that_says_so(served: Served) -> None:
    settings = served.parts.settings
    http = settings.http.model_copy(update={"body_timeout_seconds": 0.2})
    parts = replace(served.parts, settings=settings.model_copy(update={"http": http}))
    async with serving_parts(parts) as (url, _), sending(url, "slow") as (reader, writer):
        writer.write(chunk(line("1")))
        assert b"connection: close" in await reader.readuntil(b"\r\n\r\n")
        assert b'"submitted":1' in await reader.readuntil(b'"status":408')


async def test_a_repeated_bulk_gets_the_first_answer_and_makes_no_job(served: Served) -> None:
    body = line("1") + line("2", "") + line("3")
    first = await bulk(served, body, "again", Idempotency_Key="b1")
    end = answers(first)[-1]
    assert (end["submitted"], end["failed"]) == (2, 1)
    again = await bulk(served, body, "again", Idempotency_Key="b1")
    assert (again.text, again.headers["Idempotency-Replayed"]) == (first.text, "true")
    assert len(await served.running.jobs.of("again").list_jobs()) == 2
    assert (await bulk(served, line("1"), "again", Idempotency_Key="b1")).status_code == 409
    many = await bulk(served, b"\n" * 10_001, "again", Idempotency_Key="b2")
    assert (many.status_code, many.json()["field"]) == (400, "Idempotency-Key")


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
async def test_lines_are_the_same_wherever_the_stream_is_cut(size: int) -> None:
    data = b"one\n\n  two \r\n" + b"x" * 11 + b"\n" + b"y" * 10 + b"\nend"
    found = [(one.number, one.text) async for one in lines_of(pieces(data, size), most_bytes=10)]
    assert found == [(1, b"one"), (3, b"two"), (4, None), (5, b"y" * 10), (6, b"end")]


async def test_a_line_without_an_end_takes_no_memory() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100_000

    tracemalloc.start()
    try:
        assert [one.text async for one in lines_of(endless(), most_bytes=1_000)] == [None]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1_000_000


async def test_what_is_spooled_is_read_in_order_whoever_is_faster(tmp_path: Path) -> None:
    blocks: Iterable[bytes] = [bytes([number]) * 50_000 for number in range(8)]
    with Spool(tmp_path) as spool:

        async def write() -> None:
            for block in blocks:
                await spool.write(block)
            spool.end()

        writing = asyncio.create_task(write())
        early = b"".join([data async for data in spool.read()])
        await writing
        assert early == b"".join(blocks)
        assert b"".join([data async for data in spool.read()]) == early
    assert not os.listdir(tmp_path)
