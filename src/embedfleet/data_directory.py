"""One data directory, one owner: SQLite would queue a second writer, Chroma would be corrupted by it.

Two files: `owner.lock` carries the operating system's lock, which ends with the process however it
dies; `owner.json` says in words who holds it and decides nothing, so that it may be stale.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from embedfleet.errors import ConfigError, DataDirectoryInUse, Remedy

_LOCK_FILE = "owner.lock"
_RECORD_FILE = "owner.json"

# `owner_of` holds the lock for an instant; whoever acquires meanwhile must outwait it.
_PROBE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns a data directory. `pid` is 0 while an owner has not yet said who it is."""

    pid: int
    host: str
    purpose: str
    since: datetime


class DataDirectoryLock:
    """The right to open a data directory's databases, from `acquire` to `release` or the process's end.

    Keep this object as long: dropping it releases too. A child process does not inherit the right, by
    fork or by exec. Any thread may release it.
    """

    def __init__(self, data_dir: Path, *, purpose: str) -> None:
        self._data_dir = data_dir
        self._purpose = purpose
        self._lock = _os_lock(data_dir)

    def acquire(self) -> None:
        """Own the directory, creating it (mode 0700) if it is missing.

        Raises DataDirectoryInUse naming the owner, ConfigError if the directory cannot be written.
        """
        try:
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock.acquire(timeout=_PROBE_SECONDS)
            self._write_record()
        except Timeout as exc:
            raise DataDirectoryInUse(_refusal(self._data_dir)) from exc
        except OSError as exc:
            self._lock.release(force=True)
            raise ConfigError(
                f"data_dir: cannot write in {self._data_dir} ({exc.strerror or exc}): "
                "make it writable for this user or choose another directory"
            ) from exc

    def release(self) -> None:
        """Let another process own the directory. Without effect unless acquired."""
        if self._lock.is_locked:
            # First the record, then the lock: the next owner's record must not be the one removed.
            (self._data_dir / _RECORD_FILE).unlink(missing_ok=True)
            self._lock.release(force=True)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _write_record(self) -> None:
        owner = Owner(os.getpid(), socket.gethostname(), self._purpose, datetime.now(UTC))
        record = asdict(owner) | {"since": owner.since.isoformat(timespec="seconds")}
        draft = self._data_dir / f"{_RECORD_FILE}.new"
        draft.write_text(json.dumps(record), encoding="utf-8")
        draft.replace(self._data_dir / _RECORD_FILE)


def owner_of(data_dir: Path) -> Owner | None:
    """The live owner, None when the directory is free or missing. Holds the lock for an instant only.

    Raises ConfigError if the directory's lock cannot be read.
    """
    if not (data_dir / _LOCK_FILE).exists():
        return None
    probe = _os_lock(data_dir)
    try:
        probe.acquire(timeout=0)
    except Timeout:
        return _read_record(data_dir)
    except OSError as exc:
        raise ConfigError(
            f"data_dir: cannot read {data_dir / _LOCK_FILE} ({exc.strerror or exc}): "
            "run as the user who owns it"
        ) from exc
    probe.release()
    return None


def _os_lock(data_dir: Path) -> FileLock:
    # thread_local would let only the acquiring thread release.
    return FileLock(data_dir / _LOCK_FILE, mode=0o600, thread_local=False)


def _read_record(data_dir: Path) -> Owner:
    """What the owner wrote. For the instant until it has: an unnamed owner, or a killed predecessor."""
    try:
        record = json.loads((data_dir / _RECORD_FILE).read_text(encoding="utf-8"))
        return Owner(
            int(record["pid"]),
            str(record["host"]),
            str(record["purpose"]),
            datetime.fromisoformat(record["since"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Owner(0, socket.gethostname(), "starting", datetime.now(UTC))


def _refusal(data_dir: Path) -> str:
    owner = _read_record(data_dir)
    if owner.pid == 0:
        return f"{data_dir} is in use by a process that is starting or stopping: try again in a moment"
    return (
        f"{data_dir} is in use by process {owner.pid} on {owner.host} ({owner.purpose}, "
        f"since {owner.since:%Y-%m-%d %H:%M:%S} UTC): stop it first, or set data_dir to another directory"
    )


def create_data_dir(path: Path) -> None:
    """Create it, for its user only (vectors are as private as text). ConfigError if that cannot be done."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"data_dir: cannot create {path} ({exc.strerror or exc}): make its parent writable for this user "
            "or choose another data directory",
            remedy=Remedy.CHOOSE_DATA_DIRECTORY,
        ) from exc
