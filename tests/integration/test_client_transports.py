"""Both clients over real HTTP, against a server that says what each test wrote down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from embedfleet.client import AsyncClient, Client, Patience
from embedfleet.client.steps import Ask, FileBody, Flow, Give, NextLine, Open, Steps
from embedfleet.client.transports import Operation, Series
from embedfleet.errors import Forbidden, InvalidRequest, ServerUnavailable, UnknownJob
from support.scripted_server import HANGS_UP, ScriptedServer, answer, cut_off, problem, streamed

ME = {"tenant_id": "alice", "scopes": ["read"], "key": "ef_1"}
FAST = Patience(tries=3, seconds=5)


def _upload(path: Path) -> Steps[Any]:
    response = yield Ask("POST", "/v1/jobs", body=FileBody(path)).once()
    return response.json()


def _lines() -> Flow[str]:
    yield Open(Ask("GET", "/v1/lines"))
    while isinstance(line := (yield NextLine()), str):
        yield Give([line])
    yield Give([f"ended by {type(line).__name__}"])


def _excused() -> Steps[str]:
    try:
        yield Ask("GET", "/v1/jobs/1")
    except UnknownJob:
        return "unknown"
    return "known"


class More:
    """Operations of these tests."""

    send = Operation(_upload)
    lines = Series(_lines)
    excused = Operation(_excused)


class _Blocking(More, Client):
    pass


class _Async(More, AsyncClient):
    pass


Asking = Callable[..., Any]
"""Calls an operation by its name, with a client of its own."""


def by_blocking(url: str, name: str, *args: Any, **options: Any) -> Any:
    with _Blocking(url, patience=FAST, **options) as client:
        result = getattr(client, name)(*args)
        return list(result) if name == "lines" else result


def by_awaiting(url: str, name: str, *args: Any, **options: Any) -> Any:
    async def run() -> Any:
        async with _Async(url, patience=FAST, **options) as client:
            if name == "lines":
                return [line async for line in client.lines()]
            return await getattr(client, name)(*args)

    return asyncio.run(run())


both = pytest.mark.parametrize("ask", [by_blocking, by_awaiting])


@both
def test_the_answer_is_a_record_and_the_request_says_who_asks(ask: Asking) -> None:
    with ScriptedServer(answer(200, ME | {"of_a_later_release": 1})) as server:
        found = ask(f"{server.url}/below/", "me", api_key="ef_1_secret", tenant="münchen/1")

    assert (found.tenant_id, found.scopes, found.key) == ("alice", ("read",), "ef_1")
    [asked] = server.asked
    assert asked.path == "/below/v1/me"
    assert asked.headers["Authorization"] == "Bearer ef_1_secret"
    assert asked.headers["X-Tenant"] == "m%C3%BCnchen%2F1"


@both
def test_a_busy_server_is_asked_again(ask: Asking) -> None:
    busy = problem(503, "DatabaseUnavailable", "busy", retry_after=0)
    with ScriptedServer(busy, HANGS_UP, answer(200, ME)) as server:
        assert ask(server.url, "me").tenant_id == "alice"

    assert len(server.asked) == 3


@both
def test_a_creation_is_repeated_whole_and_with_the_same_key(ask: Asking, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4000
    file = tmp_path / "file.bin"
    file.write_bytes(content)
    with ScriptedServer(HANGS_UP, answer(200, {"job_id": "1"})) as server:
        assert ask(server.url, "send", file) == {"job_id": "1"}

    first, second = server.asked
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first.body == second.body == content
    assert second.headers["Content-Length"] == str(len(content))


@both
def test_two_creations_have_different_keys(ask: Asking, tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    file.write_text("text")
    with ScriptedServer(answer(200, {})) as server:
        ask(server.url, "send", file)
        ask(server.url, "send", file)

    assert len({asked.headers["Idempotency-Key"] for asked in server.asked}) == 2


@both
def test_an_error_is_that_of_our_tree(ask: Asking) -> None:
    with (
        ScriptedServer(problem(403, "Forbidden", "the API key lacks the scope `read`")) as server,
        pytest.raises(Forbidden, match="lacks the scope"),
    ):
        ask(server.url, "me")


@both
def test_an_operation_may_handle_an_error(ask: Asking) -> None:
    with ScriptedServer(problem(404, "UnknownJob", "no job `1`")) as server:
        assert ask(server.url, "excused") == "unknown"


@both
def test_a_server_that_is_not_there_is_named(ask: Asking) -> None:
    with ScriptedServer(HANGS_UP) as server:
        url = server.url
    with pytest.raises(ServerUnavailable, match=f"no answer from {url}/v1/me"):
        ask(url, "me")


@both
def test_lines_come_and_their_end_is_told_from_a_break(ask: Asking) -> None:
    body = "one\ntwo\u2028two\nthr".encode()
    with ScriptedServer(streamed("text/plain", body), cut_off("text/plain", body)) as server:
        assert ask(server.url, "lines") == ["one", "two\u2028two", "thr", "ended by NoneType"]
        assert ask(server.url, "lines") == ["one", "two\u2028two", "ended by RemoteProtocolError"]


@both
def test_an_error_in_place_of_a_stream_is_raised(ask: Asking) -> None:
    with (
        ScriptedServer(problem(404, "UnknownJob", "no job `1`")) as server,
        pytest.raises(UnknownJob, match="no job `1`"),
    ):
        ask(server.url, "lines")


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://host", "", "http://", "http://[::1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="is no address of a server"):
        Client(url)


def test_no_key_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Client("http://here", api_key="ef_1_secret") as client:
        assert "secret" not in repr(client) + repr(client._server) + repr(vars(client))
    with pytest.raises(InvalidRequest) as refused:
        Client("http://here", api_key="ef_1_sécret")
    assert "cret" not in str(refused.value)


def test_a_stream_that_is_left_is_closed() -> None:
    """The connection is free again, and nothing waits for the rest of the stream."""
    many = streamed("text/plain", b"line\n" * 100_000)
    with ScriptedServer(many, answer(200, ME)) as server, _Blocking(server.url) as client:
        lines = client.lines()
        assert next(lines) == "line"
        lines.close()  # type: ignore[attr-defined]
        assert client.me().tenant_id == "alice"


def _names(client: type[Any]) -> Sequence[str]:
    return sorted(name for name in dir(client) if not name.startswith("_"))


def test_both_clients_have_the_same_operations() -> None:
    assert _names(Client) == _names(AsyncClient)
