"""The parent's side of the child process of an embedded Chroma: start it, call it, end it.

Every function here blocks.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from embedfleet import child_environment, errors
from embedfleet.errors import EmbedfleetError, Permanent, Remedy
from embedfleet.vectors.chroma.frames import Call, Failure, Value, read, write

# The environment variables that Python, the loader and SQLite need. Chroma's own variables are left out: we
# tell Chroma its settings, and the user's environment must not change them.
_PASSED_ON = (
    *("PATH", "HOME", "USERPROFILE", "SYSTEMROOT", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE"),
    *("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
)


CHILD = "embedfleet.vectors.chroma.child"
"""The module of the child that holds one directory."""
VIEW_CHILD = "embedfleet.vectors.chroma.view_child"
"""The module of the child that holds the directories of a view by turns."""


def start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start the child with pipes as its stdin and stdout. It gets these arguments and our process id.

    It has a session of its own, so that a terminal's signals do not reach it. `-P` keeps the current folder
    off its import path: modules there could take the place of those that we import.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child_environment.of_these(_PASSED_ON),
        start_new_session=True,
    )


_EXIT_SECONDS = 60.0
"""How long the child may take to end: when Chroma is closed it writes what is not on disk yet."""


class ProcessLost(Exception):
    """The child ended before it had answered. The message says how it ended."""


class StoreDefect(Exception):
    """A call failed through a defect in the child. The message is its traceback."""


class ChromaProcess:
    """A running child. Only one thread may use it.

    That thread must live as long as the child: on Linux the child dies with the thread that started it.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = start(module, *arguments)

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, operation: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Run the operation in the child. Return its result or raise its error.

        Raises Permanent for arguments that msgpack cannot hold. Raises ProcessLost if the child has ended;
        after that only `end` may be called. Raises StoreDefect for a defect.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            write(self._process.stdin, Call(operation, args, kwargs or {}))
        except OSError as exc:
            raise ProcessLost(self._how_it_ended()) from exc
        except (ValueError, TypeError, OverflowError) as exc:
            raise Permanent(f"the vector store refuses this: {exc}") from exc
        match read(self._process.stdout):
            case Value(value):
                return value
            case Failure(error, detail, remedy):
                raise _error(error, detail, remedy)
        raise ProcessLost(self._how_it_ended())

    def end(self) -> None:
        """Let the child finish, and wait until it is gone. Kill it after `_EXIT_SECONDS`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):  # the child is gone, so the unsent bytes do not matter
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


def _error(name: str | None, detail: str, remedy: str | None) -> Exception:
    """Return the error that a Failure describes."""
    if name is None:
        return StoreDefect(detail)
    kind = getattr(errors, name)
    assert issubclass(kind, EmbedfleetError)
    described: Exception = kind(detail, remedy=Remedy.from_code(remedy))
    return described
