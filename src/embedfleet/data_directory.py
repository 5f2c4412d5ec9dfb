"""Gives each data directory one owner: SQLite would make a second writer wait, Chroma would be corrupted.

There are two files. `owner.lock` carries a lock of the operating system, which ends with the process, however
it dies. `owner.json` describes the owner for messages. It decides nothing, so it may be out of date.
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
from embedfleet.whole_file import written_whole

_LOCK_FILE = "owner.lock"
_RECORD_FILE = "owner.json"

# `owner_of` holds the lock for an instant. `acquire` waits this long, so as not to mistake that for an owner.
_PROBE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of a data directory. `pid` is 0 if the owner has not described itself yet."""

    pid: int
    host: str
    purpose: str
    since: datetime


class DataDirectoryLock:
    """The right to open the databases of a data directory, from `acquire` to `release` or the process's end.

    Keep a reference to this object for that time: when it is freed, the lock is released. A child process
    does not inherit the right, neither by fork nor by exec. Any thread may release it.
    """

    def __init__(self, data_dir: Path, *, purpose: str) -> None:
        self._data_dir = data_dir
        self._purpose = purpose
        self._lock = _os_lock(data_dir)

    def acquire(self) -> None:
        """Become the owner of the directory; creates it, with mode 0700, if it does not exist.

        Raises DataDirectoryInUse, naming the owner, or ConfigError if the directory cannot be written.
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
        """Let another process become the owner. Has no effect if this one is not."""
        if self._lock.is_locked:
            # The record goes first. After the lock is released, the record may be that of the next owner.
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
        # Other processes never read half a record.
        with written_whole(self._data_dir / _RECORD_FILE) as draft:
            draft.write_text(json.dumps(record), encoding="utf-8")


def owner_of(data_dir: Path) -> Owner | None:
    """Return the current owner; None if the directory is free or missing. Takes the lock for an instant.

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
    # With thread_local, only the thread that has acquired the lock could release it.
    return FileLock(data_dir / _LOCK_FILE, mode=0o600, thread_local=False)


def _read_record(data_dir: Path) -> Owner:
    """Return the owner's record.

    Before the owner has written it, the result has pid 0, or is the record of an earlier, killed owner.
    """
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
    """Create a data directory that only its user can read, as vectors are as private as texts.

    Raises ConfigError if it cannot be created.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"data_dir: cannot create {path} ({exc.strerror or exc}): make its parent writable for this user "
            "or choose another data directory",
            remedy=Remedy.CHOOSE_DATA_DIRECTORY,
        ) from exc
