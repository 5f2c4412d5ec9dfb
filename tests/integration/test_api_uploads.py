"""Files over HTTP: taken to the disk, counted before they are read, and read in the confined process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.types import Message, Receive, Scope, Send

from embedfleet.api.limits import UnreadBodies
from embedfleet.api.turns import TenantTurns
from support.api import Served, serving
from support.hangs import HANG_SECONDS
from support.system import make_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = b"<html><title>Pumps</title><body><h1>Seals</h1><p>A seal keeps the water in.</p></body></html>"
MOST_BYTES = 50_000
MOST_CHARS = 20_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    settings = make_settings(
        tmp_path_factory.mktemp("uploads"),
        parsing={"max_file_bytes": MOST_BYTES},
        http={"max_upload_chars": MOST_CHARS},
    )
    async with serving(settings) as one:
        yield one
        assert not list((settings.data_dir / "uploads").iterdir()), "a file was left"


async def upload(served: Served, **request: Any) -> httpx.Response:
    return await served.client.post("/v1/jobs:upload", **request)


async def job_of(served: Served, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["job_id"]
    await served.running.jobs.of("local").wait(job_id, timeout_seconds=HANG_SECONDS)
    job: dict[str, Any] = await served.get(f"/v1/jobs/{job_id}")
    return job


async def test_a_body_and_a_form_with_the_same_file_make_the_same_document(served: Served) -> None:
    said = {"media_id": "1", "model": "stub", "metadata": '{"team": "water"}'}
    as_body = await upload(served, content=PAGE, params={**said, "name": "seal.html"})
    assert (await job_of(served, as_body))["status"] == "completed"
    as_form = await upload(
        served, data=said | {"priority": "", "strict": "true"}, files={"file": ("seal.html", PAGE)}
    )
    job = await job_of(served, as_form)
    assert (job["generation"], job["source"]) == (1, "seal.html"), "the version that readers see already"
    jobs = served.running.jobs.of("local")
    text = await jobs.read_text(media_id="1")
    assert text.text is not None
    assert "A seal keeps the water" in text.text
    document = await jobs.get_document(media_id="1")
    assert (document.title, document.metadata) == ("Pumps", {"team": "water"})


async def test_a_repeated_upload_is_recognised_whatever_the_boundary_of_its_form(served: Served) -> None:
    headers = {"Idempotency-Key": "u1"}

    async def send(content: bytes) -> httpx.Response:
        return await upload(
            served, headers=headers, data={"media_id": "again"}, files={"file": ("a.txt", content)}
        )

    first, again = await send(b"some words"), await send(b"some words")
    assert (again.json(), again.headers["Idempotency-Replayed"]) == (first.json(), "true")
    assert (await send(b"other words")).status_code == 409


FORM = "multipart/form-data; boundary=b"
FIELD = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nwords\r\n'
MEDIA_ID = FIELD % (b"media_id", b"1")
END = b"--b--\r\n"


@pytest.mark.parametrize(
    ("content", "content_type", "status", "says"),
    [
        (b"words", "text/plain", 400, "media_id: is missing"),
        (MEDIA_ID + FILE, FORM, 400, "last boundary"),
        (FIELD % (b"media_id", b"1") + END, FORM, 400, "file: is missing"),
        (FILE + FILE + END, FORM, 400, "several files"),
        (FILE + END, FORM, 400, "media_id: is missing"),
        (FILE + FIELD % (b"colour", b"red") + END, FORM, 400, "colour"),
        (FILE + FIELD % (b"metadata", b"{") + END, FORM, 400, "metadata"),
        (
            b"".join(FIELD % (b"%d" % n, b"x") for n in range(40)) + FILE + END,
            FORM,
            400,
            "more than 32 fields",
        ),
        (FIELD % (b"title", b"x" * 70_000) + FILE + END, FORM, 400, "65536 bytes"),
        (FIELD % (b"media_id", b"\xff") + FILE + END, FORM, 400, "UTF-8"),
        (b"no form at all", FORM, 400, "not the form"),
        (FILE + END, "multipart/form-data", 400, "no boundary"),
        (MEDIA_ID + FILE.replace(b"words", b"") + END, FORM, 422, "empty"),
        (MEDIA_ID + FILE.replace(b"words", b"x" * (MOST_BYTES + 1)) + END, FORM, 413, "bytes"),
        (
            FIELD % (b"media_id", b"1") + FILE.replace(b"words", b"word " * 5_000) + END,
            FORM,
            422,
            "20000 char",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_broken_upload_is_refused_and_says_why(
    served: Served, content: bytes, content_type: str, status: int, says: str
) -> None:
    answer = await upload(served, content=content, headers={"Content-Type": content_type})
    problem = answer.json()
    assert (answer.status_code, says in problem["detail"]) == (status, True), problem
    assert "uploads" not in problem["detail"], "the path on the server is its own matter"


async def test_a_file_over_the_limit_is_refused_though_its_length_was_not_said(served: Served) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 10_000

    answer = await upload(served, content=pieces(), params={"media_id": "1", "name": "a.txt"})
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")
    assert answer.json()["limit"] == MOST_BYTES


async def test_the_rest_of_an_endless_body_is_not_taken() -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    async def refuse(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})

    scope = {"type": "http", "headers": [(b"transfer-encoding", b"chunked")]}
    async with asyncio.timeout(HANG_SECONDS):
        await UnreadBodies(refuse, linger_seconds=0.01)(scope, receive, send)
    assert [one.get("more_body", False) for one in sent] == [False, True, False]
    assert sent[0]["headers"] == [(b"connection", b"close")]


async def test_one_tenant_never_has_all_places() -> None:
    turns = TenantTurns(2)
    entered: asyncio.Queue[str] = asyncio.Queue()
    leave = asyncio.Event()

    async def take(tenant: str) -> None:
        async with turns.turn(tenant):
            entered.put_nowait(tenant)
            await leave.wait()

    async with asyncio.timeout(HANG_SECONDS), asyncio.TaskGroup() as tasks:
        for tenant in ("greedy", "greedy", "greedy", "modest"):
            tasks.create_task(take(tenant))
        assert {await entered.get(), await entered.get()} == {"greedy", "modest"}
        assert entered.empty()
        leave.set()
    assert entered.qsize() == 2
