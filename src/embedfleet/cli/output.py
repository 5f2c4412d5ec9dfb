"""The output of commands: one line for an error, one JSON document for a command, fixed exit codes.

Results go to stdout, everything else to stderr. No other file of the command line writes to either: names and
texts of strangers are made harmless for the terminal here.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO, TextIOWrapper
from typing import Any, NoReturn

import typer

from embedfleet.account import Account
from embedfleet.errors import EmbedfleetError, Remedy, one_line
from embedfleet.printable import harmless, harmless_json, harmless_lines

DONE = 0
NOTHING_DONE = 1
WRONG_USAGE = 2
PARTLY_DONE = 3
INTERRUPTED = 130

JSON_SCHEMA_VERSION = 1

# What the command line offers for each remedy of an error.
_COMMANDS = {
    Remedy.LIST_JOBS: "`embedfleet jobs list`",
    Remedy.LIST_DOCUMENTS: "`embedfleet documents list`",
    Remedy.LIST_KEYS: "`embedfleet keys list`",
    Remedy.LIST_DEAD_LETTERS: "`embedfleet dlq list --ended`",
    Remedy.LIST_TENANTS: "`embedfleet tenants list`",
    Remedy.LIST_SHADOWS: "`embedfleet traffic shadow list`",
    Remedy.LIST_SWITCHES: "`embedfleet models switches --ended`",
    Remedy.LIST_EXPERIMENTS: "`embedfleet ab list`",
    Remedy.LIST_RECEIPTS: "`embedfleet documents receipt`",
    Remedy.CHOOSE_MODEL: "--model",
    Remedy.CHOOSE_FILES: "--glob",
    Remedy.PRUNE_ALL: "--prune-all deletes them, --dry-run shows them",
    Remedy.CHOOSE_DATA_DIRECTORY: "--data-dir",
    Remedy.OVERWRITE_FILE: "--force",
    Remedy.REPLACE_DATA_DIRECTORY: "--data-dir or --force",
    Remedy.UPGRADE_SCHEMA: "run `embedfleet db upgrade`",
    Remedy.UPGRADE_SCHEMA_AND_REBUILD: "run `embedfleet db upgrade`, then `embedfleet rebuild`",
    Remedy.REBUILD_VECTORS: "run `embedfleet rebuild`",
    Remedy.DOWNLOAD_MODEL: "run `embedfleet models warm`",
    Remedy.SHOW_SYSTEM: "`embedfleet system show`; on purpose: `embedfleet system move`",
    Remedy.END_MOVE: (
        "`embedfleet stores status`; to end a move: `embedfleet stores abort`, after its switch "
        "`embedfleet stores retire`"
    ),
    Remedy.MOVE_VECTORS: "`embedfleet stores move`; what is recorded: `embedfleet system show`",
    Remedy.EXAMINE: "run `embedfleet doctor`",
    Remedy.SHOW_TRAFFIC: "`embedfleet traffic status`",
    Remedy.RESTORE_OLD_PATH: "`embedfleet traffic restore`",
}

# The document that a command is writing piece by piece, or None. An error must end it and not begin another.
_begun: JsonDocument | None = None
_reader_ended = False

# Click's UsageError: newer releases of Typer contain a copy of click, older ones import it.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def run_safely(command: Callable[[], Any]) -> NoReturn:
    """Run a command and exit. Any error becomes one line on stderr, and with `--json` a JSON document too."""
    _prepare_streams()
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
    except OSError as exc:
        _fail(_explain_os_error(exc), NOTHING_DONE)
    except Exception as exc:
        from embedfleet.settings import DEBUG_ENV  # not at the top, as it takes longer than all of `--help`

        if os.environ.get(DEBUG_ENV):
            raise
        _fail(f"internal error: {exc!r}; set {DEBUG_ENV}=1 to see where, and report it", NOTHING_DONE)
    sys.exit(DONE)


def _explain_os_error(exc: OSError) -> str:
    """What the operating system refused, and of which file: a full disk, a permission, a folder."""
    place = f"{exc.filename}: " if exc.filename else ""
    return f"{place}{exc.strerror or exc}"


def explain(error: EmbedfleetError) -> str:
    """The error's message and, in brackets, the command or the flag that helps."""
    return with_command(str(error), error.remedy)


def with_command(message: str, remedy: Remedy | None) -> str:
    """The message and, in brackets, the command or the flag for this remedy."""
    return message if remedy is None else f"{message} ({_COMMANDS[remedy]})"


@dataclass(frozen=True, slots=True)
class Styled:
    """A piece of a line that looks different on a terminal. `colour`: one of the names of ANSI's colours."""

    text: str
    bold: bool | None = None
    dim: bool | None = None
    colour: str | None = None


def say(*pieces: str | Styled) -> None:
    """Write one line of the result to stdout. A newline in a piece is shown as an escape."""
    styled = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    _write("".join(_shown(piece, styled=styled) for piece in pieces) + "\n")


def _shown(piece: str | Styled, *, styled: bool) -> str:
    if isinstance(piece, str):
        return harmless(piece)
    text = harmless(piece.text)
    return typer.style(text, bold=piece.bold, dim=piece.dim, fg=piece.colour) if styled else text


def say_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Collection[int] = ()) -> None:
    """Write a table to stdout, one line for each row, as wide as its cells, on a terminal as in a pipe.

    Columns in `right` are aligned to the right, others to the left.
    """
    cells = [[harmless(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = [
            " " * (width - _width(cell)) + cell if number in right else cell + " " * (width - _width(cell))
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        say("  ".join(padded).rstrip())


def _width(text: str) -> int:
    """Return how many columns of a terminal the text fills: East Asian characters fill two, marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def readable_time(when: datetime) -> str:
    """Return the instant as people read it in every table and line. In JSON it is ISO 8601, in UTC."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def readable(value: object) -> str:
    """Return a field of a record as people read it."""
    if isinstance(value, datetime):
        return readable_time(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {readable(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(readable, value)) or "-"
    return "-" if value is None else str(value)


def say_fields(fields: Mapping[str, object], account: Account) -> None:
    """Write the fields of a record, one a line, and then what of its source is not in its text."""
    found = {"found": ", ".join(f"{count} {element}" for element, count in account.found)}
    lines = [*fields.items(), *found.items(), *(("account", entry.line) for entry in account.entries)]
    for name, value in lines:
        if name != "schema_version" and value != "":
            say(f"{name:<12} {readable(value)}")


def say_text(text: str) -> None:
    """Write a text of several lines to stdout, such as CSV. What a terminal would obey is escaped."""
    _write(harmless_lines(text))


def print_json(document: dict[str, Any]) -> None:
    """Write the only JSON document of a command to stdout."""
    _write(_json({"schema_version": JSON_SCHEMA_VERSION, **document}, indent=2) + "\n")


def print_json_line(document: Mapping[str, Any]) -> None:
    """Write one of many JSON documents to stdout, as a line."""
    _write(_json(document) + "\n")


def reader_ended() -> bool:
    """Whether the reader of stdout, such as `| head`, has ended: a command without an end stops then."""
    return _reader_ended


def _json(document: Any, *, indent: int | None = None) -> str:
    r"""Return JSON that is harmless on a terminal. What stdout's encoding lacks is written as `\uXXXX`."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("_", "-")
    return harmless_json(json.dumps(document, ensure_ascii=encoding not in ("utf-8", "utf8"), indent=indent))


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
        lines = [_json(entry) for entry in entries]
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
        body = _json(rest, indent=2).removeprefix("{")
        _write(f"{end_of_list},{body}\n")
        _begun = None

    def _begin(self) -> None:
        global _begun
        if _begun is None:
            _begun = self
            head = _json(self._head, indent=2).removesuffix("\n}")
            _write(f'{head},\n  "{self._list_name}": [')


def _write(text: str) -> None:
    """Write to stdout. Raises OSError if it takes no more, as on a full disk; after that it is dropped."""
    global _reader_ended
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _reader_ended = True
        _drop_output()
    except OSError:
        _drop_output()
        raise


def _prepare_streams() -> None:
    """Make both streams take any text: a character that the encoding lacks is written as its escape.

    A stream that was closed before the start (`>&-`) is None: what is written to it is dropped.
    """
    sys.stdout = sys.stdout or StringIO()
    sys.stderr = sys.stderr or StringIO()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Send what is written to stdout from now on nowhere: its reader ended (`| head`), or its disk is full.

    Without this, Python prints an error when it flushes at exit.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def confirm(question: str, *, yes: bool) -> None:
    """Ask on stderr whether to go on, unless `--yes` was given. Without a terminal there is no one to ask:
    that is wrong usage. Ends the command if the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"there is no terminal to ask: {harmless(question)} Give --yes")
    typer.confirm(harmless(question), abort=True, err=True)


def warn(message: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write(f"{harmless(one_line(message))}\n")


def show_progress(words: str, *, last: bool) -> None:
    """Write over the line of progress on stderr; the last one ends it. Only for a terminal."""
    sys.stderr.write(f"\r{harmless(words)} " + ("\n" if last else ""))
    sys.stderr.flush()


def _fail_usage(exc: Any) -> NoReturn:
    """Exit for a click UsageError, which prints itself with the usage line and how to get help."""
    if "--json" in sys.argv:
        print_json({"error": one_line(exc.format_message())})
    shown = StringIO()
    exc.show(shown)
    sys.stderr.write(harmless_lines(shown.getvalue()))
    sys.exit(WRONG_USAGE)


def _fail(message: str, code: int) -> NoReturn:
    if _begun is not None:
        _begun.end({"error": one_line(message)})
    elif "--json" in sys.argv:
        print_json({"error": one_line(message)})
    warn(f"error: {message}")
    sys.exit(code)
