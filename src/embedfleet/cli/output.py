"""What a person or a program reads: one line an error, one JSON document a command, fixed exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

DONE = 0
NOTHING_DONE = 1
WRONG_USAGE = 2
PARTLY_DONE = 3
INTERRUPTED = 130

JSON_SCHEMA_VERSION = 1


def run_safely(command: Callable[[], Any]) -> NoReturn:
    """Run and exit; whatever goes wrong is one line on stderr (and in the JSON, if JSON was asked for)."""
    from embedfleet.errors import EmbedfleetError
    from embedfleet.settings import DEBUG_ENV

    try:
        command()
    except EmbedfleetError as exc:
        _fail(str(exc), NOTHING_DONE)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader (`| head`) has what it wanted. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as exc:
        if os.environ.get(DEBUG_ENV):
            raise
        _fail(f"internal error: {exc!r}; set {DEBUG_ENV}=1 to see where, and report it", NOTHING_DONE)
    sys.exit(DONE)


def print_json(document: dict[str, Any]) -> None:
    """The command's one document on stdout."""
    body = {"schema_version": JSON_SCHEMA_VERSION, **document}
    sys.stdout.write(json.dumps(body, ensure_ascii=False, indent=2) + "\n")
    sys.stdout.flush()


def warn(message: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"{one_line(message)}\n")


def one_line(message: str) -> str:
    return " ".join(message.split())


def _fail(message: str, code: int) -> NoReturn:
    if "--json" in sys.argv:
        print_json({"error": one_line(message)})
    warn(f"error: {message}")
    sys.exit(code)
