"""What the log of our own processes looks like, and that a library's user sees none of it."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys

from support.hangs import HANG_SECONDS

LOGGING = """
from loguru import logger
from embedfleet import log
from embedfleet.trouble import Trouble
from embedfleet.errors import BrokerUnavailable
{configure}
Trouble().note(BrokerUnavailable("redis is \\x1b[31maway"))
"""
OURS = 'log.configure(level="INFO", as_json={as_json})'


def log_of(configure: str) -> str:
    """What a process prints on stderr that logs one failure."""
    done = subprocess.run(
        [sys.executable, "-c", LOGGING.format(configure=configure)],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=True,
    )
    assert done.stdout == ""
    return done.stderr


def test_as_a_library_it_logs_nothing_unless_the_application_asks() -> None:
    assert log_of("") == ""
    assert "waiting: redis is" in log_of('logger.enable("embedfleet")')


def test_a_line_has_date_zone_host_and_nothing_that_a_terminal_obeys() -> None:
    line = log_of(OURS.format(as_json=False))
    assert re.fullmatch(
        rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{{3}}[+-]\d{{4}} {re.escape(socket.gethostname())} WARNING "
        r"waiting: redis is \S*away\n",
        line,
    ), line
    assert "\x1b" not in line


def test_what_an_exception_says_is_harmless_too_in_lines_and_in_json() -> None:
    raising = """
try:
    raise ValueError("bad \\x1b]0;title\\x07 \\x9b31m name")
except ValueError:
    logger.patch(lambda record: record.update(name="embedfleet")).exception("failed")
"""
    for as_json in (False, True):
        text = log_of(OURS.format(as_json=as_json) + raising)
        assert "ValueError: bad" in text
        assert not {"\x1b", "\x07", "\x9b"} & set(text)


def test_a_line_of_json_has_the_same_as_fields() -> None:
    record = json.loads(log_of(OURS.format(as_json=True)))["record"]
    assert record["extra"]["host"] == socket.gethostname()
    assert record["level"]["name"] == "WARNING"
    assert "\x1b" not in record["message"]
