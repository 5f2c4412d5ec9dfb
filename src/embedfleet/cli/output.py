"""The output of commands: one line for an error, one JSON document for a command, fixed exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import typer

from embedfleet.errors import EmbedfleetError, Remedy, one_line

DONE = 0
NOTHING_DONE = 1
WRONG_USAGE = 2
PARTLY_DONE = 3
INTERRUPTED = 130

JSON_SCHEMA_VERSION = 1

# What the command line offers for each remedy of an error.
_COMMANDS = {
    Remedy.LIST_JOBS: "`embedfleet jobs list`",
    Remedy.LIST_DEAD_LETTERS: "`embedfleet dlq list --ended`",
    Remedy.CHOOSE_MODEL: "--model",
    Remedy.CHOOSE_FILES: "--glob",
    Remedy.CHOOSE_DATA_DIRECTORY: "--data-dir",
    Remedy.OVERWRITE_FILE: "--force",
    Remedy.REPLACE_DATA_DIRECTORY: "--data-dir or --force",
    Remedy.UPGRADE_SCHEMA: "run `embedfleet db upgrade`",
    Remedy.UPGRADE_SCHEMA_AND_REBUILD: "run `embedfleet db upgrade`, then `embedfleet rebuild`",
    Remedy.REBUILD_VECTORS: "run `embedfleet rebuild`",
    Remedy.DOWNLOAD_MODEL: "run `embedfleet models warm`",
    Remedy.EXAMINE: "run `embedfleet doctor`",
}

# The document that a command is writing piece by piece, or None. An error must end it and not begin another.
_begun: JsonDocument | None = None

# Click's UsageError: newer releases of Typer contain a copy of click, older ones import it.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def run_safely(command: Callable[[], Any]) -> NoReturn:
    """Run a command and exit. Any error becomes one line on stderr, and with `--json` a JSON document too."""
    try:
        if command() == INTERRUPTED:  # newer releases of Typer turn Ctrl-C into a return value
            _fail("interrupted", INTERRUPTED)
    except _UsageError as exc:
        _fail_usage(exc)
    except EmbedfleetError as exc:
        _fail(explain(exc), NOTHING_DONE)
    except (KeyboardInterrupt, asyncio.CancelledError, typer.Abort):
        _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        _drop_output()
    except Exception as exc:
        from embedfleet.settings import DEBUG_ENV  # not at the top, as it takes longer than all of `--help`

        if os.environ.get(DEBUG_ENV):
            raise
        _fail(f"internal error: {exc!r}; set {DEBUG_ENV}=1 to see where, and report it", NOTHING_DONE)
    sys.exit(DONE)


def explain(error: EmbedfleetError) -> str:
    """The error's message and, in brackets, the command or the flag that helps."""
    return with_command(str(error), error.remedy)


def with_command(message: str, remedy: Remedy | None) -> str:
    """The message and, in brackets, the command or the flag for this remedy."""
    return message if remedy is None else f"{message} ({_COMMANDS[remedy]})"


def print_json(document: dict[str, Any]) -> None:
    """Write the only JSON document of a command to stdout."""
    body = {"schema_version": JSON_SCHEMA_VERSION, **document}
    sys.stdout.write(json.dumps(body, ensure_ascii=False, indent=2) + "\n")
    sys.stdout.flush()


class JsonDocument:
    """The only JSON document of a command, written to stdout in pieces: it has one long list.

    The document begins with the first entries, so an error before that is a document of its own. An error
    after that becomes the last key of this document. If the reader ends early, the command goes on.
    """

    def __init__(self, head: Mapping[str, Any], list_name: str) -> None:
        """`head` comes before the list."""
        self._head = {"schema_version": JSON_SCHEMA_VERSION, **head}
        self._list_name = list_name
        self._entries = 0

    def add(self, entries: Iterable[Any]) -> None:
        """Write entries of the list, one a line. This blocks while the reader is slow."""
        lines = [json.dumps(entry, ensure_ascii=False) for entry in entries]
        if lines:
            self._begin()
            separator = ",\n    " if self._entries else "\n    "
            _write(separator + ",\n    ".join(lines))
            self._entries += len(lines)

    def end(self, rest: Mapping[str, Any]) -> None:
        """Write the end of the list, and what comes after it."""
        global _begun
        self._begin()
        end_of_list = "\n  ]" if self._entries else "]"
        # The rest as a document of its own begins with a brace and a line of its own, and ends this document.
        body = json.dumps(rest, ensure_ascii=False, indent=2).removeprefix("{")
        _write(f"{end_of_list},{body}\n")
        _begun = None

    def _begin(self) -> None:
        global _begun
        if _begun is None:
            _begun = self
            head = json.dumps(self._head, ensure_ascii=False, indent=2).removesuffix("\n}")
            _write(f'{head},\n  "{self._list_name}": [')


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()


def _drop_output() -> None:
    """Send what is written to stdout from now on nowhere: its reader, such as `| head`, has ended.

    Without this, Python prints an error when it flushes at exit.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(message: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write(f"{one_line(message)}\n")


def in_columns(rows: Sequence[Sequence[str]], *, right: Collection[int]) -> str:
    """A table with one line for each row. Columns in `right` are aligned to the right, others to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def _fail_usage(exc: Any) -> NoReturn:
    """Exit for a click UsageError, which prints itself with the usage line and how to get help."""
    if "--json" in sys.argv:
        print_json({"error": one_line(exc.format_message())})
    exc.show()
    sys.exit(WRONG_USAGE)


def _fail(message: str, code: int) -> NoReturn:
    if _begun is not None:
        _begun.end({"error": one_line(message)})
    elif "--json" in sys.argv:
        print_json({"error": one_line(message)})
    warn(f"error: {message}")
    sys.exit(code)
