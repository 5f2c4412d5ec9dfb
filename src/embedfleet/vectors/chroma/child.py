"""The child process that holds an embedded Chroma: it answers calls from stdin on stdout until stdin ends.

`ChromaProcess` starts it as `python -P -m embedfleet.vectors.chroma.child DIRECTORY PARENT_PID`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from embedfleet.errors import EmbedfleetError, StorageFull, VectorStoreUnavailable
from embedfleet.lifetime import die_with_parent, end_process
from embedfleet.os_lock import OsLock
from embedfleet.vectors.chroma.directory_users import wait_until_closed
from embedfleet.vectors.chroma.frames import (
    OPEN,
    QUERY_IN_TURN,
    VECTORS_IN_TURN,
    Call,
    Failure,
    Value,
    read,
    write,
)
from embedfleet.vectors.chroma.quick_queries import QuickQueries

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embedfleet.vectors.chroma.operations import ChromaCollections
    from embedfleet.vectors.port import Hit

T = TypeVar("T")

_LOCK_FILE = "process.lock"
# A child that was killed a moment ago may still be in the kernel, finishing a write that it had begun.
_LOCK_SECONDS = 5.0
# A search holds the directory for its query alone: hundredths of a second, or seconds if the index is large.
_TURN_SECONDS = 60.0
_POLL_SECONDS = 0.01


class Directory:
    """Chroma in this process, which the first call opens. Every call gets an answer; it may be an error."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = OsLock(path / _LOCK_FILE)
        self._quick: QuickQueries | None = None
        self._collections: ChromaCollections | None = None

    def answer(self, call: Call) -> Value | Failure:
        try:
            if call.operation == QUERY_IN_TURN:
                return Value(self._query_in_turn(*call.args, **call.kwargs))
            if call.operation == VECTORS_IN_TURN:
                return Value(self._vectors_in_turn(*call.args, **call.kwargs))
            collections = self._ready()
            if call.operation == OPEN:
                return Value(None)
            return Value(getattr(collections, call.operation)(*call.args, **call.kwargs))
        except EmbedfleetError as exc:
            return failure(exc)
        except BaseException as exc:  # noqa: BLE001 - a panic of Chroma is no Exception, but needs an answer
            from embedfleet.vectors.chroma.errors import embedded_error

            ours = embedded_error(exc, self._path)
            if isinstance(ours, VectorStoreUnavailable | StorageFull):
                # A failed write can leave a transaction open on a pooled connection. The second write after
                # it would then wait for that transaction for ever. The next call opens the directory again,
                # which rolls the transaction back.
                self.close()
            return failure(ours)

    def close(self) -> None:
        """Close Chroma. This process still owns the directory."""
        if self._collections is not None:
            self._collections.close()
            self._collections = None

    def leave(self) -> None:
        """Close Chroma, and let another process own the directory."""
        self.close()
        wait_until_closed(self._path, but=_LOCK_FILE)
        self._lock.release()

    def _query_in_turn(self, name: str, vector: Sequence[float], space: str, limit: int) -> list[Hit]:
        if not self._path.is_dir():  # nothing was stored yet, and a query makes no directory
            return []
        found = self._quickly(lambda quick: quick.query(name, vector, space, limit))
        if found is not None:
            return found
        import numpy as np

        return self._ready().query(name, np.asarray(vector, dtype=np.float32), space, limit)

    def _vectors_in_turn(self, name: str, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        import numpy as np

        if not self._path.is_dir():
            return [], np.empty((0, 0), dtype=np.float32)
        found = self._quickly(lambda quick: quick.vectors(name, ids))
        if found is not None:
            dim = len(found[1][0]) if found[1] else 0
            return found[0], np.asarray(found[1], dtype=np.float32).reshape(len(found[1]), dim)
        return self._ready().vectors(name, ids)

    def _quickly(self, ask: Callable[[QuickQueries], T | None]) -> T | None:
        """Own the directory, and return the answer of Chroma's core alone; None if it gives none."""
        self._own(_TURN_SECONDS)
        if self._collections is not None:
            return None
        try:
            self._quick = self._quick or QuickQueries(self._path)
            found = ask(self._quick)
        except BaseException:  # noqa: BLE001 - whatever it is, chromadb's client finds it too and names it
            found = None
        if found is None:
            self._quick = None  # it has the directory open, and only one may
        return found

    def _ready(self) -> ChromaCollections:
        if self._collections is None:
            from embedfleet.vectors.chroma.clients import make_directory, open_directory
            from embedfleet.vectors.chroma.view_operations import ChromaViewCollections

            make_directory(self._path)
            self._own(_LOCK_SECONDS)
            self._collections = ChromaViewCollections(open_directory(self._path))
        return self._collections

    def _own(self, seconds: float) -> None:
        """Lock the directory until this process ends, as two processes that have it open corrupt it.

        The parent's lock on the data directory is not enough: it ends with the parent, a moment before this
        process does. Readers share that lock, but take turns here: even a query makes Chroma write. Raises
        VectorStoreUnavailable if another process still holds the directory after `seconds`.
        """
        give_up_at = time.monotonic() + seconds
        while not self._lock.take():
            if time.monotonic() > give_up_at:
                raise VectorStoreUnavailable(
                    f"the vector store in {self._path} is open in another process, after a wait of "
                    f"{seconds:.0f} s: end that process, or try again later"
                )
            time.sleep(_POLL_SECONDS)


def failure(exc: BaseException) -> Failure:
    """Return the answer that describes the error."""
    if isinstance(exc, EmbedfleetError):
        return Failure(type(exc).__name__, str(exc), exc.remedy)
    return Failure(None, "".join(traceback.format_exception(exc)))


def serve(parent_pid: str, answer: Callable[[Call], Value | Failure]) -> None:
    """Answer the calls on stdin until it ends. The process must end after that."""
    # Ctrl-C in a terminal and a supervisor's SIGTERM reach this process too, but the parent still needs it to
    # finish its work. This process ends when the parent closes stdin, or dies.
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    die_with_parent(int(parent_pid))
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not mix with answers
    with suppress(ImportError):  # Chroma's core, which the first call needs: loaded while the parent works
        import chromadb_rust_bindings  # noqa: F401
    while (call := read(sys.stdin.buffer)) is not None:
        assert isinstance(call, Call)
        write(answers, answer(call))


def main(directory: str, parent_pid: str) -> None:
    opened = Directory(Path(directory))
    serve(parent_pid, opened.answer)
    opened.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
    end_process(0)
