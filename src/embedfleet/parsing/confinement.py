"""The walls around a parser process: memory, CPU, files, network, and the life of its parent.

Linux has all of them. macOS does not enforce the memory limit and has no network wall; Windows has no
`resource` module, so there only the parent's time and output limits hold.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import sys
from collections.abc import Iterator

from embedfleet.lifetime import die_with_parent

if sys.platform != "win32":
    import resource

_CLONE_NEWUSER = 0x1000_0000
_CLONE_NEWNET = 0x4000_0000


def confine(*, memory_mb: int) -> None:
    """Raise the walls that stand for the whole life of the process. Call it before any thread starts.

    Limits only ever get lower: where the system already set a lower one, that stays.
    """
    if sys.platform == "linux":
        die_with_parent()
        _leave_network()
    if sys.platform != "win32":
        _limit(resource.RLIMIT_AS, memory_mb << 20)
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_FSIZE, 0)


def allow_cpu_seconds(seconds: int) -> None:
    """Let the process use this much more CPU time from now; then SIGXCPU ends it."""
    if sys.platform != "win32":
        usage = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, math.ceil(usage.ru_utime + usage.ru_stime) + seconds)


@contextlib.contextmanager
def writable_files() -> Iterator[None]:
    """Lift the ban on writing files for a while: for our own doing, never around a user's file."""
    if sys.platform == "win32":
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


if sys.platform != "win32":

    def _limit(kind: int, value: int) -> None:
        """Set a soft limit; the hard one stays, so that CPU time can be granted file by file."""
        _, hard = resource.getrlimit(kind)
        soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS refuses some values of RLIMIT_AS
            resource.setrlimit(kind, (soft, hard))


def _leave_network() -> None:
    """Move to a network namespace without interfaces: as root directly, else inside a user namespace.

    Where the system forbids both (many containers), only the parser's own restraint is left: nothing it
    calls opens connections.
    """
    libc = ctypes.CDLL(None)
    if libc.unshare(_CLONE_NEWNET) != 0:
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
