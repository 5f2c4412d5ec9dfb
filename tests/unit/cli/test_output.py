"""What commands write: harmless, whole, and readable by programs."""

from __future__ import annotations

import io
import json
import os
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from embedfleet.cli.output import (
    PARTLY_DONE,
    Styled,
    print_json,
    readable_time,
    reader_ended,
    run_safely,
    say,
    say_table,
    show_progress,
    warn,
)
from embedfleet.errors import InputError

TITLE = "\x1b]0;owned\x07\n\x9b2J\u202ecod.exe"
SHOWN = "\\x1b]0;owned\\x07\\n\\x9b2J\\u202ecod.exe"


def test_what_strangers_write_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    say(TITLE, " ", Styled(TITLE, bold=True))
    say_table(("name",), [(TITLE,)])
    print_json({"name": TITLE})
    warn(TITLE)
    show_progress(TITLE, last=True)
    written = capsys.readouterr()
    assert written.out.startswith(f"{SHOWN} {SHOWN}\nname\n{SHOWN}\n{{")
    assert json.loads(written.out.partition("\n{")[2].join(("{", "")))["name"] == TITLE
    one_line = SHOWN.replace("\\n", " ")
    assert written.err == f"{one_line}\n\r{SHOWN} \n"
    assert not set("\x1b\x07\x9b\u202e") & set(written.out + written.err)


def test_an_error_and_a_wrong_argument_are_harmless(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["embedfleet", "--json"])

    def fail() -> None:
        raise InputError(f"no {TITLE}")

    with pytest.raises(SystemExit):
        run_safely(fail)
    written = capsys.readouterr()
    assert not set("\x1b\x07\x9b\u202e") & set(written.out + written.err)
    assert json.loads(written.out)["error"] == "no " + " ".join(TITLE.split())


def test_a_table_is_as_wide_as_its_cells_and_aligned_by_what_a_terminal_shows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "x" * 300
    say_table(("source", "n"), [("漢字", "1"), (long, "20")], right=(1,))
    head, wide, row = capsys.readouterr().out.splitlines()
    assert row == f"{long}  20"
    assert head == "source" + " " * 296 + " n"
    assert wide == "漢字" + " " * 296 + "   1"


def test_a_stream_of_another_encoding_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))

    def command() -> None:
        say("naïve")
        print_json({"name": "naïve 👩"})

    with pytest.raises(SystemExit) as ended:
        run_safely(command)
    assert ended.value.code == 0
    line, _, document = raw.getvalue().decode("ascii").partition("\n")
    assert line == "na\\xefve"
    assert json.loads(document)["name"] == "naïve 👩"


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_stream_that_is_closed_from_the_start_is_no_error(
    closed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, closed, None)

    def command() -> None:
        say("a line")
        warn("a warning")
        print_json({})

    with pytest.raises(SystemExit) as ended:
        run_safely(command)
    assert ended.value.code == 0


def test_a_reader_that_ends_early_does_not_change_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    def command() -> None:
        say("a line that nothing reads")
        assert reader_ended()
        print_json({})
        raise SystemExit(PARTLY_DONE)

    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as ended:
            run_safely(command)
    assert ended.value.code == PARTLY_DONE


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no device that is always full")
def test_a_full_disk_under_the_result_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["embedfleet", "--json"])
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as ended:
            run_safely(lambda: print_json({}))
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: No space left on device\n"


def test_what_the_system_refuses_is_no_internal_error(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise PermissionError(13, "Permission denied", "/srv/x\x1b")

    with pytest.raises(SystemExit) as ended:
        run_safely(command)
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: /srv/x\\x1b: Permission denied\n"


def test_times_are_in_utc() -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert readable_time(noon) == "2026-03-01 12:00:00 UTC"
    assert readable_time(noon.astimezone(timezone(timedelta(hours=5)))) == "2026-03-01 12:00:00 UTC"
