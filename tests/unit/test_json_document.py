"""A document that is written piece by piece is one valid document, however it ends."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from embedfleet.cli.output import JsonDocument, run_safely
from embedfleet.errors import StorageFull

HEAD = {"tenant": "größe"}
REST = {"errors": [{"source": "a", "error": "b"}], "totals": {"files": 3}}


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("pieces", [[], [[]], [[1]], [[1, 2], [], [{"a": ["ü"]}]]])
def test_pieces_make_one_document(capsys: pytest.CaptureFixture[str], pieces: list[list[Any]]) -> None:
    document = JsonDocument(HEAD, "files")
    for piece in pieces:
        document.add(piece)
    document.end(REST)
    files = [entry for piece in pieces for entry in piece]
    assert printed(capsys) == {"schema_version": 1, **HEAD, "files": files, **REST}


def test_each_piece_is_out_before_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    document = JsonDocument(HEAD, "files")
    document.add([{"source": "first"}])
    assert capsys.readouterr().out.endswith('{"source": "first"}')
    document.end(REST)


def ended(command: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["embedfleet", "ingest", "--json"])
    with pytest.raises(SystemExit) as exited:
        run_safely(command)
    return int(exited.value.code or 0)


def test_an_error_after_the_first_piece_ends_the_document(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def command() -> None:
        JsonDocument(HEAD, "files").add([1])
        raise StorageFull("no space is left")

    assert ended(command, monkeypatch) == 1
    assert printed(capsys) == {"schema_version": 1, **HEAD, "files": [1], "error": "no space is left"}


def test_an_error_before_the_first_piece_is_a_document_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def command() -> None:
        JsonDocument(HEAD, "files").add([])
        raise StorageFull("no space is left")

    assert ended(command, monkeypatch) == 1
    assert printed(capsys) == {"schema_version": 1, "error": "no space is left"}


def test_the_command_goes_on_when_its_reader_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = []

    def command() -> None:
        document = JsonDocument(HEAD, "files")
        document.add([1])
        document.add([2])
        document.end(REST)
        done.append(True)

    with os.fdopen(writer, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert ended(command, monkeypatch) == 0
    assert done
