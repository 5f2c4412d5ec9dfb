"""Ends child processes together with their parent, and without the slow exit of the interpreter."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

# The option of prctl(2) that sets the signal for the death of the parent, from <sys/prctl.h>.
_PR_SET_PDEATHSIG = 1
# The code by which shells tell of an end by SIGTERM.
_TERMINATED = 128 + signal.SIGTERM


def die_with_parent(parent_pid: int | None = None) -> None:
    """Have the kernel kill this process when the thread that started it ends, even by SIGKILL (Linux only).

    With `parent_pid`, exit with code 0 at once if the parent has ended already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The check comes second. A parent that ended before the request sends no signal, but is seen here; one
    # that ends after the request sends it. With the check first, an end between the two would go unnoticed.
    if parent_pid is not None and os.getppid() != parent_pid:
        raise SystemExit(0)


def end_at_sigterm() -> None:
    """Have SIGTERM end this process, if it is the first one of a container.

    The kernel gives that process no signal that it has no handler for. So a pod that is told to stop while it
    starts would begin to work, until it is killed. A command that drains sets a handler of its own later.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))


def end_process(code: int) -> NoReturn:
    """End the process at once. Everything must be closed before.

    The interpreter's own clean-up is skipped, because it would take up to a second more.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # its reader has ended, or its disk is full: a command has told of that
            stream.flush()
    os._exit(code)
