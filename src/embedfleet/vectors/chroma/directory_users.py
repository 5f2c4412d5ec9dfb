"""Which other processes of this machine have a directory of Chroma open."""

from __future__ import annotations

import os
from pathlib import Path

_PROCESSES = Path("/proc")


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


def _has_open(descriptors: Path, inside: str) -> bool:
    try:
        numbers = os.listdir(descriptors)
    except OSError:  # it has ended, or belongs to another user
        return False
    for number in numbers:
        try:
            target = os.readlink(descriptors / number)
        except OSError:
            continue
        if target.startswith(inside):
            return True
    return False
