"""The process of an embedded vector store as its parent sees it: start, call, end. All of it blocks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from embedfleet import errors
from embedfleet.errors import EmbedfleetError, Permanent
from embedfleet.vectors.chroma import frames as chroma_frames
from embedfleet.vectors.chroma.frames import Call, Failure, Value

# What Python, the loader and SQLite need. Chroma is told all else: its own variables count for nothing.
_PASSED_ON = (
    *("PATH", "HOME", "USERPROFILE", "SYSTEMROOT", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE"),
    *("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
)


def start(directory: Path) -> subprocess.Popen[bytes]:
    """The child, with pipes as its standard input and output."""
    return subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "embedfleet.vectors.chroma.child"),
            *(str(directory), str(os.getpid())),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        start_new_session=True,
    )


_EXIT_SECONDS = 60.0
"""Chroma writes down what it has not yet when it is closed."""


class ProcessLost(Exception):
    """The process ended before it had answered; says how."""


class StoreDefect(Exception):
    """A call failed in a way that nobody foresaw; says where."""


class ChromaProcess:
    """A running child. For one thread, which must live as long: its end is the child's (Linux)."""

    def __init__(self, directory: Path) -> None:
        """Start it in a session of its own, so that signals of the terminal do not reach it.

        -P keeps the current folder off its import path: it may be full of strangers' files.
        """
        self._process = start(directory)

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, operation: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """What the operation returns in the child, or its error. After ProcessLost only `end` is left."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            chroma_frames.write(self._process.stdin, Call(operation, args, kwargs or {}))
        except OSError as exc:
            raise ProcessLost(self._how_it_ended()) from exc
        except (ValueError, TypeError, OverflowError) as exc:
            raise Permanent(f"the vector store refuses this: {exc}") from exc
        match chroma_frames.read(self._process.stdout):
            case Value(value):
                return value
            case Failure(error, words):
                raise _error(error, words)
        raise ProcessLost(self._how_it_ended())

    def end(self) -> None:
        """Have it finish, and wait until nothing of it is left."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):  # it is gone, and what was not sent is of no use
            self._process.stdin.close()
        try:
            self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            return "it fell silent"
        return f"exit code {code}" if code >= 0 else f"killed by signal {signal.Signals(-code).name}"


def _error(name: str | None, words: str) -> Exception:
    kind = StoreDefect if name is None else getattr(errors, name)
    assert issubclass(kind, EmbedfleetError | StoreDefect)
    return kind(words)
