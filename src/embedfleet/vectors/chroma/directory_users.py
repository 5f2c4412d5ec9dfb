"""Which other processes of this machine have a directory of Chroma open."""

from __future__ import annotations

import os
import time
from pathlib import Path

_PROCESSES = Path("/proc")
_CLOSING_SECONDS = 5.0
_POLL_SECONDS = 0.001


def users_of(directory: Path) -> list[int]:
    """Return the ids of the other processes that have a file of this directory open.

    Chroma keeps its database open as long as a client lives. Only Linux tells it, and only of processes that
    this user may look into: an empty answer is no proof that there are none.
    """
    inside = f"{directory.resolve()}{os.sep}"
    try:
        names = os.listdir(_PROCESSES)
    except OSError:
        return []
    return sorted(
        int(name)
        for name in names
        if name.isdigit() and int(name) != os.getpid() and _has_open(_PROCESSES / name / "fd", inside)
    )


def wait_until_closed(directory: Path, *, but: str | None = None) -> None:
    """Wait until this process has no file of this directory open but the one of that name; at most 5 s.

    A client of Chroma closes its database on a thread of its own, some milliseconds after its `close` has
    returned. Until then `users_of` names this process to others. Where no system tells it, there is no wait.
    """
    inside = f"{directory.resolve()}{os.sep}"
    kept = None if but is None else inside + but
    give_up_at = time.monotonic() + _CLOSING_SECONDS
    while _has_open(_PROCESSES / "self" / "fd", inside, kept) and time.monotonic() < give_up_at:
        time.sleep(_POLL_SECONDS)


def _has_open(descriptors: Path, inside: str, kept: str | None = None) -> bool:
    try:
        numbers = os.listdir(descriptors)
    except OSError:  # it has ended, or belongs to another user
        return False
    for number in numbers:
        try:
            target = os.readlink(descriptors / number)
        except OSError:
            continue
        if target.startswith(inside) and target != kept:
            return True
    return False
