"""Logs on stderr: one event in each line, readable or as JSON. Never document text or secrets.

embedfleet as a library logs nothing, unless the application asks: `loguru.logger.enable("embedfleet")`. Its
own processes call `configure`.
"""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

from loguru import logger

from embedfleet.printable import harmless

if TYPE_CHECKING:
    from loguru import Record


def configure(*, level: str, as_json: bool) -> None:
    """Send this process's logs of `level` and above to stderr. Replaces any earlier configuration."""
    logger.remove()
    logger.configure(extra={"host": socket.gethostname()}, patcher=_make_harmless)
    logger.enable("embedfleet")
    # `diagnose` stays off: it prints the values of variables, and some of them are document text.
    if as_json:
        logger.add(sys.stderr, level=level, serialize=True, backtrace=False, diagnose=False)
    else:
        logger.add(sys.stderr, level=level, format=_readable, backtrace=False, diagnose=False)


def _make_harmless(record: Record) -> None:
    """Names of files, tenants and hosts may hold what a terminal obeys."""
    record["message"] = harmless(record["message"])
    for key, value in record["extra"].items():
        if isinstance(value, str):
            record["extra"][key] = harmless(value)


def _readable(record: Record) -> str:
    """Return the format of a line: date, time and zone, host, level, message, and the bound values."""
    bound = " ".join(f"{key}={{extra[{key}]}}" for key in record["extra"] if key != "host")
    return (
        "{time:YYYY-MM-DD HH:mm:ss.SSSZZ} {extra[host]} {level: <7} {message}"
        + (f" <dim>{bound}</dim>" if bound else "")
        + "\n{exception}"
    )
