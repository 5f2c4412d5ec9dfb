"""A lock of the operating system on a file, held by one process or shared. It ends with its process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from weakref import WeakSet

_held: WeakSet[OsLock] = WeakSet()


class OsLock:
    """A lock that is free, held by one, or held by any number that share it. It never waits.

    Keep a reference to this object while the lock is held: when it is freed, the lock is released. A child
    process does not inherit the lock, neither by fork nor by exec. Any thread may release it. On Windows
    nothing is shared: a shared lock excludes the others too.
    """

    def __init__(self, path: Path) -> None:
        """Describe the lock on this file, which the first `take` creates for its user only."""
        self._path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def take(self, *, shared: bool = False) -> bool:
        """Take the lock if it is free now. Return whether this object holds it.

        Raises OSError if the file cannot be created or opened.
        """
        if self._descriptor is None:
            # Python's descriptors are closed by exec, so an executed child does not have the lock.
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                locked = _lock(descriptor, shared=shared)
            except BaseException:
                os.close(descriptor)
                raise
            if not locked:
                os.close(descriptor)
                return False
            self._descriptor = descriptor
            _held.add(self)
        return True

    def release(self) -> None:
        """Release the lock. Has no effect if this object does not hold it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            _held.discard(self)
            os.close(descriptor)

    def __del__(self) -> None:
        self.release()


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, *, shared: bool) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def _lock(descriptor: int, *, shared: bool) -> bool:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _let_go_in_child() -> None:
    """Close the descriptors that a fork has copied: with one of them open, the lock outlives its process."""
    for lock in list(_held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)
