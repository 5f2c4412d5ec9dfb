"""Logs on stderr: one event in each line, readable or as JSON. Never document text or secrets.

embedfleet as a library logs nothing, unless the application asks: `loguru.logger.enable("embedfleet")`. Its
own processes call `configure`.
"""

from __future__ import annotations

import socket
import sys
from traceback import format_exception
from typing import TYPE_CHECKING

from loguru import logger

from embedfleet.printable import harmless, harmless_json, harmless_lines

if TYPE_CHECKING:
    from loguru import Record

_TRACEBACK = "traceback"


def configure(*, level: str, as_json: bool) -> None:
    """Send this process's logs of `level` and above to stderr. Replaces any earlier configuration."""
    logger.remove()
    logger.configure(extra={"host": socket.gethostname()}, patcher=_make_harmless)
    logger.enable("embedfleet")
    # `diagnose` stays off: it prints the values of variables, and some of them are document text.
    if as_json:
        logger.add(_write_json, level=level, serialize=True, backtrace=False, diagnose=False)
    else:
        logger.add(sys.stderr, level=level, format=_readable, backtrace=False, diagnose=False)


def _make_harmless(record: Record) -> None:
    """Names of files, tenants and hosts may hold what a terminal obeys, and so may messages of exceptions."""
    record["message"] = harmless(record["message"])
    for key, value in record["extra"].items():
        if isinstance(value, str):
            record["extra"][key] = harmless(value)


def _write_json(line: str) -> None:
    sys.stderr.write(harmless_json(line))


def _readable(record: Record) -> str:
    """Return the format of a line: date, time and zone, host, level, message, and the bound values."""
    bound = " ".join(f"{key}={{extra[{key}]}}" for key in record["extra"] if key not in ("host", _TRACEBACK))
    # Not loguru's own `{exception}`: the text of an exception comes from strangers, too.
    record["extra"][_TRACEBACK] = _traceback(record)
    return (
        "{time:YYYY-MM-DD HH:mm:ss.SSSZZ} {extra[host]} {level: <7} {message}"
        + (f" <dim>{bound}</dim>" if bound else "")
        + f"\n{{extra[{_TRACEBACK}]}}"
    )


def _traceback(record: Record) -> str:
    raised = record["exception"]
    if raised is None or raised.value is None:
        return ""
    return harmless_lines("".join(format_exception(raised.value)))
