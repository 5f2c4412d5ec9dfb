"""`embedfleet serve` as its users run it: the API of one machine, and API processes beside its owner."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx
import pytest

from support.command import Command, finish
from support.hangs import HANG_SECONDS


@contextmanager
def serve(
    command: Command, *arguments: str, env: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process of a server that listens, and its address."""
    process = command.start("serve", "--port", "0", *arguments, env=env)
    try:
        yield process, _address(process)
    finally:
        process.kill()
        process.communicate()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        name, _, rest = line.strip().partition(" ")
        if name == "API":
            return rest.split("/v1")[0].strip()
    raise AssertionError(finish(process))


def test_a_server_of_one_machine_answers_and_ends_on_sigterm(command: Command) -> None:
    with serve(command) as (process, address):
        assert httpx.get(f"{address}/v1/me", timeout=HANG_SECONDS).json()["tenant_id"] == "local"
        assert httpx.get(f"{address}/healthz", timeout=HANG_SECONDS).text == "alive\n"
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
        assert (ended.code, "Traceback" in ended.stderr) == (0, False)


def test_api_processes_own_nothing_so_several_run_beside_the_owner(command: Command) -> None:
    with (
        serve(command) as (_, _owner),
        serve(command, "--workers", "none") as (_, first),
        serve(command, "--workers", "none") as (process, second),
    ):
        for address in (first, second):
            assert httpx.get(f"{address}/v1/me", timeout=HANG_SECONDS).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert finish(process).code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--address", "0.0.0.0"), "there is no API key"),
        (("--workers", "some"), "must be a number or `none`"),
    ],
)
def test_what_it_cannot_serve_is_refused(command: Command, arguments: tuple[str, ...], words: str) -> None:
    result = command.typed("serve", "--port", "0", *arguments)
    assert result.code != 0
    assert words in result.stderr


def test_insecure_serves_other_machines_without_a_key(command: Command) -> None:
    with serve(command, "--workers", "none", "--address", "0.0.0.0", "--insecure") as (_, address):
        local = address.replace("0.0.0.0", "127.0.0.1")
        answer = httpx.get(f"{local}/v1/me", headers={"Host": "elsewhere.example"}, timeout=HANG_SECONDS)
        assert answer.status_code == 200


def test_a_taken_port_is_named(command: Command) -> None:
    with serve(command, "--workers", "none") as (_, address):
        second = command.typed("serve", "--port", address.rpartition(":")[2], "--workers", "none")
    assert second.code == 1
    assert "http.port" in second.stderr
