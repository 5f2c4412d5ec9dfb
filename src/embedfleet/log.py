"""Logs: one event a line on stderr, readable or as JSON. Never document text, never secrets."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from loguru import logger

if TYPE_CHECKING:
    from loguru import Record


def configure(*, level: str, as_json: bool) -> None:
    """Send this process's logs to stderr from `level` on. Replaces what was configured before."""
    logger.remove()
    if as_json:
        logger.add(sys.stderr, level=level, serialize=True, backtrace=False, diagnose=False)
    else:
        logger.add(sys.stderr, level=level, format=_readable, backtrace=False, diagnose=False)


def _readable(record: Record) -> str:
    """`diagnose` stays off above: it would print the values of variables, document text among them."""
    bound = " ".join(f"{key}={{extra[{key}]}}" for key in record["extra"])
    return (
        "{time:HH:mm:ss.SSS} {level: <7} {message}"
        + (f" <dim>{bound}</dim>" if bound else "")
        + "\n{exception}"
    )
