"""Bodies that lie about their length, never end, or would fill the memory are refused with an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest
import pytest_asyncio

from support.api import Served, serving
from support.hangs import HANG_SECONDS
from support.system import make_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

POST = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
UPLOAD = (
    b"POST /v1/jobs:upload?media_id=1&name=a.txt HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n"
)
DOCUMENT = b'{"media_id": "1", "content": "words"}'
JSON = {"Content-Type": "application/json"}
MOST_BYTES = 100_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    limits = {"max_body_bytes": MOST_BYTES, "body_timeout_seconds": 0.1}
    settings = make_settings(
        tmp_path_factory.mktemp("bodies"), http=limits, parsing={"max_file_bytes": MOST_BYTES}
    )
    async with serving(settings) as one:
        yield one


async def answers_to(served: Served, pieces: Iterable[bytes]) -> bytes:
    """Send the pieces as long as the server takes them, and return its first answer, head and body.

    The connection then closes: what the client still sends is not taken.
    """
    host, port = served.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    async def send() -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(HANG_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"connection: close" in head.lower(), head
            length = next((line for line in head.lower().split(b"\r\n") if b"content-length" in line), b":0")
            return head + await reader.readexactly(int(length.partition(b":")[2]))
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Length: -1", DOCUMENT),
        (b"Content-Length: many", DOCUMENT),
        (b"Content-Length: 99999999999999999999999999", DOCUMENT),
        (b"Content-Length: 5\r\nContent-Length: 7", DOCUMENT),
        (b"Content-Length: 37\r\nTransfer-Encoding: chunked", DOCUMENT),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", DOCUMENT),
        (b"Transfer-Encoding: chunked", b"zz\r\nrubbish"),
        (b"Transfer-Encoding: chunked", b"fffffffffffffffff\r\n"),
        (b"Transfer-Encoding: chunked", b"-5\r\nwords\r\n"),
        (b"Content-Length: 5", DOCUMENT),  # what is more than it says is no next request
    ],
    ids=repr,
)
async def test_a_length_that_cannot_be_is_refused(served: Served, head: bytes, body: bytes) -> None:
    answers = await answers_to(served, [POST, head, b"\r\n\r\n", body])
    assert answers.startswith(b"HTTP/1.1 400 "), answers


@pytest.mark.parametrize("said", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
async def test_a_body_that_pauses_for_too_long_is_told_so(served: Served, said: bytes) -> None:
    answers = await answers_to(served, [POST, said, b"\r\n\r\n"])
    assert answers.startswith(b"HTTP/1.1 408 "), answers
    assert b"paused" in answers


async def test_a_body_over_the_limit_is_refused_in_the_form_of_its_route(served: Served) -> None:
    large = b'{"media_id": "1", "content": "' + b"x" * MOST_BYTES + b'"}'

    async def pieces() -> AsyncIterator[bytes]:
        yield large

    for content in (large, pieces()):  # with a length that is said, and without
        answer = await served.client.post("/v1/jobs", content=content, headers=JSON)
        assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
        assert f"more than {MOST_BYTES:,} bytes" in answer.json()["detail"]
        assert "http.max_body_bytes" in answer.json()["detail"]
    shaped = await served.client.post("/v1/embeddings", content=large, headers=JSON)
    assert (shaped.status_code, shaped.json()["error"]["code"]) == (413, "request_too_large")


async def test_a_length_over_the_limit_is_refused_before_the_body_is_sent(served: Served) -> None:
    """A client that asks first is not told to go on."""
    for request in (POST, UPLOAD.replace(b"Transfer-Encoding: chunked\r\n\r\n", b"")):
        head = b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % 10**12
        answers = await answers_to(served, [request, head])
        assert answers.startswith(b"HTTP/1.1 413 "), answers


def endless(start: bytes, piece: bytes) -> Iterable[bytes]:
    yield UPLOAD + (chunk(start) if start else b"")  # an empty one would be the last
    while True:
        yield chunk(piece * 1_000)


@pytest.mark.parametrize(
    ("start", "piece", "status"),
    [
        (b"", b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\nx\r\n', b"400"),
        (b"", b"--b\r\nContent-Disposition: form-data\r\n\r\n\r\n", b"400"),
        (b"--b\r\n", b"X-Header: y\r\n", b"400"),
        (b"--b\r\nX-Header: ", b"y", b"400"),
        (b"--b\r\n", b"x", b"400"),
        (b"x", b"x", b"400"),
        (b'--b\r\nContent-Disposition: form-data; name="title"\r\n\r\n', b"y", b"400"),
        (b'--b\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n', b"y", b"413"),
        (b'--b\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n', b"\r\n--", b"413"),
    ],
    ids=[
        "fields",
        "fields without a name",
        "headers",
        "one header",
        "the name of a header",
        "no boundary",
        "one field",
        "a file",
        "boundaries that are none",
    ],
)
async def test_a_form_without_end_is_refused_and_answered(
    served: Served, start: bytes, piece: bytes, status: bytes
) -> None:
    answers = await answers_to(served, endless(start, piece))
    assert answers.startswith(b"HTTP/1.1 " + status), answers
    assert b'"status":' + status in answers, "the answer is whole, though the client still sends"
