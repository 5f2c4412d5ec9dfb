"""The child process that writes the directories of a view by turns, one at a time.

`ChromaProcess` starts it as `python -P -m embedfleet.vectors.chroma.view_child BESIDE PARENT_PID`. The first
argument of every call is the directory.
"""

from __future__ import annotations

import os.path
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedfleet.errors import EmbedfleetError, VectorStoreUnavailable
from embedfleet.lifetime import end_process
from embedfleet.vectors.chroma.child import Directory, failure, serve
from embedfleet.vectors.chroma.directory_users import users_of
from embedfleet.vectors.chroma.frames import REST, Call, Failure, Value

BESIDE = "beside"
ALONE = "alone"
"""Whether a directory is written while another process has it open."""

_CREATING = ("ensure_view",)
# What the other operations answer where there is no directory, and so no collection.
_OF_NOTHING: Mapping[str, Any] = {
    "all_ids": [],
    "labels_with": {},
    "view_metadatas": ([], []),
    "delete": None,
    "forget_deleted": None,
}


class _Directories:
    """The directories of a view. At most one is open."""

    def __init__(self, *, beside: bool) -> None:
        self._beside = beside
        self._path: Path | None = None
        self._open: Directory | None = None

    def answer(self, call: Call) -> Value | Failure:
        if call.operation == REST:
            self.rest()
            return Value(None)
        path = Path(call.args[0])
        rest = call.args[1:]
        if (other := _no_directory(path)) is not None:
            told = f"{path} cannot be the directory of the view: {other} is no directory, name another path"
            return failure(VectorStoreUnavailable(told))
        if call.operation not in _CREATING and not path.is_dir():
            return _nothing(call.operation)
        try:
            opened = self._opened(path)
        except EmbedfleetError as exc:
            return failure(exc)
        except OSError as exc:
            return failure(VectorStoreUnavailable(f"cannot make {path} ({exc.strerror or exc})"))
        return opened.answer(Call(call.operation, rest, call.kwargs))

    def rest(self) -> None:
        """Close what is open, so that other processes may open it."""
        if self._open is not None:
            self._open.leave()
        self._open = self._path = None

    def _opened(self, path: Path) -> Directory:
        if self._open is not None and self._path == path:
            return self._open
        self.rest()
        # With the rights that the user's other directories get, as the reader may be another user.
        path.mkdir(parents=True, exist_ok=True)
        others = [] if self._beside else users_of(path)
        if others:
            raise VectorStoreUnavailable(
                f"{path} is open in process {', '.join(map(str, others))}: two processes that write one "
                "directory of Chroma damage it, so use a Chroma server, or end that process while this "
                "system writes"
            )
        self._path, self._open = path, Directory(path)
        return self._open


def _no_directory(path: Path) -> Path | None:
    """Return what is in the place of the directory or of one above it: a file, or a link to nothing."""
    there = next((one for one in (path, *path.parents) if os.path.lexists(one)), None)
    return None if there is None or there.is_dir() else there


def _nothing(operation: str) -> Value | Failure:
    if operation == "view_rows":
        import numpy as np

        return Value(([], np.empty((0, 0), dtype=np.float32), [], []))
    if operation in _OF_NOTHING:
        return Value(_OF_NOTHING[operation])
    return failure(VectorStoreUnavailable("the directory of the view is not there: ensure its collection"))


def main(beside: str, parent_pid: str) -> None:
    directories = _Directories(beside=beside == BESIDE)
    serve(parent_pid, directories.answer)
    directories.rest()


if __name__ == "__main__":
    main(*sys.argv[1:])
    end_process(0)
