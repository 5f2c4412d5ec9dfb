"""Logs on stderr: one event in each line, readable or as JSON. Never document text or secrets."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from loguru import logger

if TYPE_CHECKING:
    from loguru import Record


def configure(*, level: str, as_json: bool) -> None:
    """Send this process's logs of `level` and above to stderr. Replaces any earlier configuration."""
    logger.remove()
    # `diagnose` stays off: it prints the values of variables, and some of them are document text.
    if as_json:
        logger.add(sys.stderr, level=level, serialize=True, backtrace=False, diagnose=False)
    else:
        logger.add(sys.stderr, level=level, format=_readable, backtrace=False, diagnose=False)


def _readable(record: Record) -> str:
    """Return the format of a line: time, level, message, and the bound values."""
    bound = " ".join(f"{key}={{extra[{key}]}}" for key in record["extra"])
    return (
        "{time:HH:mm:ss.SSS} {level: <7} {message}"
        + (f" <dim>{bound}</dim>" if bound else "")
        + "\n{exception}"
    )
