"""The child process that holds an embedded Chroma: it answers calls from stdin on stdout until stdin ends.

`ChromaProcess` starts it as `python -P -m embedfleet.vectors.chroma.child DIRECTORY PARENT_PID`.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path

from filelock import FileLock, Timeout

from embedfleet.errors import EmbedfleetError, StorageFull, VectorStoreUnavailable
from embedfleet.lifetime import die_with_parent, end_process
from embedfleet.vectors.chroma.clients import make_directory, open_directory
from embedfleet.vectors.chroma.errors import embedded_error
from embedfleet.vectors.chroma.frames import OPEN, Call, Failure, Value, read, write
from embedfleet.vectors.chroma.operations import ChromaCollections

_LOCK_FILE = "process.lock"
# A child that was killed a moment ago may still be in the kernel, finishing a write that it had begun.
_LOCK_SECONDS = 5.0


class _Directory:
    """Chroma in this process, which the first call opens. Every call gets an answer; it may be an error."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path / _LOCK_FILE, mode=0o600)
        self._collections: ChromaCollections | None = None

    def answer(self, call: Call) -> Value | Failure:
        try:
            collections = self._ready()
            if call.operation == OPEN:
                return Value(None)
            return Value(getattr(collections, call.operation)(*call.args, **call.kwargs))
        except EmbedfleetError as exc:
            return _failure(exc)
        except BaseException as exc:  # noqa: BLE001 - a panic of Chroma is no Exception, but needs an answer
            ours = embedded_error(exc, self._path)
            if isinstance(ours, VectorStoreUnavailable | StorageFull):
                # A failed write can leave a transaction open on a pooled connection. The second write after
                # it would then wait for that transaction for ever. The next call opens the directory again,
                # which rolls the transaction back.
                self.close()
            return _failure(ours)

    def close(self) -> None:
        if self._collections is not None:
            self._collections.close()
            self._collections = None

    def _ready(self) -> ChromaCollections:
        if self._collections is None:
            make_directory(self._path)
            self._own()
            self._collections = ChromaCollections(open_directory(self._path))
        return self._collections

    def _own(self) -> None:
        """Lock the directory until this process ends, as two processes that have it open corrupt it.

        The parent's lock on the data directory is not enough: it ends with the parent, a moment before this
        process does. Raises VectorStoreUnavailable if another process holds the directory.
        """
        try:
            self._lock.acquire(timeout=0 if self._lock.is_locked else _LOCK_SECONDS)
        except Timeout as exc:
            raise VectorStoreUnavailable(
                f"the vector store in {self._path} is open in another process: end it first"
            ) from exc


def _failure(exc: BaseException) -> Failure:
    if isinstance(exc, EmbedfleetError):
        return Failure(type(exc).__name__, str(exc))
    return Failure(None, "".join(traceback.format_exception(exc)))


def main(directory: str, parent_pid: str) -> None:
    # Ctrl-C in a terminal and a supervisor's SIGTERM reach this process too, but the parent still needs it to
    # finish its work. This process ends when the parent closes stdin, or dies.
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    die_with_parent(int(parent_pid))
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not mix with answers
    opened = _Directory(Path(directory))
    while (call := read(sys.stdin.buffer)) is not None:
        assert isinstance(call, Call)
        write(answers, opened.answer(call))
    opened.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
    end_process(0)
