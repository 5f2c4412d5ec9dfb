"""How processes of ours end: with the one that started them, and without taking the interpreter apart."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int | None = None) -> None:
    """Have the kernel kill this process when the thread that started it ends, even by SIGKILL (Linux).

    With `parent_pid` a parent that was gone before this was asked ends the process now, with exit code 0.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent_pid is not None and os.getppid() != parent_pid:
        raise SystemExit(0)


def end_process(code: int) -> NoReturn:
    """Now, everything being closed: to take the interpreter apart as well costs up to a second."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(BrokenPipeError):  # its reader is gone
            stream.flush()
    os._exit(code)
