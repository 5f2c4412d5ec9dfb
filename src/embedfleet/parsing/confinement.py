"""Confines a parser process: limits its memory, CPU time, files and network, and ends it with its parent.

Linux has all of these limits. macOS does not enforce the memory limit and cannot cut off the network. Windows
has no `resource` module, so only the limits that the parent enforces hold there: time and output.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import sys

from embedfleet.lifetime import die_with_parent

if sys.platform != "win32":
    import resource

_CLONE_NEWUSER = 0x1000_0000
_CLONE_NEWNET = 0x4000_0000


def confine(*, memory_mb: int) -> None:
    """Set the limits that hold for the whole life of the process. Call it before any thread starts.

    Limits are only lowered: if the system has already set a lower one, that one stays.
    """
    if sys.platform == "linux":
        die_with_parent()
        _leave_network()
    if sys.platform != "win32":
        _limit(resource.RLIMIT_AS, memory_mb << 20)
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_FSIZE, 0)


def allow_cpu_seconds(seconds: int) -> None:
    """Let the process use this many more seconds of CPU time from now on; then SIGXCPU ends it."""
    if sys.platform != "win32":
        usage = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, math.ceil(usage.ru_utime + usage.ru_stime) + seconds)


if sys.platform != "win32":

    def _limit(kind: int, value: int) -> None:
        """Set the soft limit. The hard one stays, so that each file can be granted CPU time of its own."""
        _, hard = resource.getrlimit(kind)
        soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS refuses some values of RLIMIT_AS
            resource.setrlimit(kind, (soft, hard))


def _leave_network() -> None:
    """Move to a network namespace without interfaces: as root directly, otherwise in a new user namespace.

    Many containers forbid both. Then the network stays reachable; but nothing that the parser calls opens
    connections.
    """
    libc = ctypes.CDLL(None)
    if libc.unshare(_CLONE_NEWNET) != 0:
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
