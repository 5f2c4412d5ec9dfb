"""Gives each data directory one owner, or any number of readers: two writers would corrupt the vector store.

There are three files. `owner.lock` is held by the owner alone, or shared by readers. `owner.next` is held by
a process that is about to become the owner: as long as it waits for readers to end, no new reader begins.
Both locks are the operating system's, so they end with their process, however it dies. `owner.json` describes
the owner for messages. It may be out of date, and decides only whom a search asks.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from loguru import logger

from embedfleet.errors import ConfigError, DataDirectoryInUse, Remedy
from embedfleet.os_lock import OsLock
from embedfleet.whole_file import written_whole

_LOCK_FILE = "owner.lock"
_NEXT_FILE = "owner.next"
_RECORD_FILE = "owner.json"

_POLL_SECONDS = 0.02
# Several processes may look at the same time who the owner is. On Windows a look is an exclusive lock for an
# instant, and an owner that ends takes a moment to be gone. So a lock that is not free is tried this long.
_PROBE_SECONDS = 0.5
# A search takes a second or two; this is for one whose model loads slowly or whose model server hangs.
_READERS_SECONDS = 60.0
# A wait for readers is mentioned after this time. Most are over before.
_MENTION_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of a data directory. `pid` is 0 if the owner has not described itself yet.

    `answers_searches` says whether this process answers the searches that others ask through SQL.
    """

    pid: int
    host: str
    purpose: str
    since: datetime
    answers_searches: bool


class _Right:
    """A right to open the databases of a data directory, from `acquire` to `release` or the process's end.

    Keep a reference to this object for that time: when it is freed, the right ends. A child process does not
    inherit the right, neither by fork nor by exec. Any thread may release it.

    `with` waits on this thread; `async with` waits without blocking the event loop.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._lock = OsLock(data_dir / _LOCK_FILE)
        self._next = OsLock(data_dir / _NEXT_FILE)

    def acquire(self) -> None:
        """Get the right; creates the directory, with mode 0700, if it does not exist.

        Raises DataDirectoryInUse, naming the owner, or ConfigError if the directory cannot be written.
        """
        with closing(self._attempts()) as attempts:
            for _ in attempts:
                time.sleep(_POLL_SECONDS)

    def release(self) -> None:
        """Let another process have the right. Has no effect if this one does not have it."""
        self._lock.release()

    def _attempts(self) -> Generator[None]:
        """Try until the right is there; yields where the caller is to wait for a moment.

        Raises as `acquire` does.
        """
        try:
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            yield from self._tries()
        except OSError as exc:
            self._lock.release()
            raise ConfigError(
                f"data_dir: cannot write in {self._data_dir} ({exc.strerror or exc}): "
                "make it writable for this user or choose another directory"
            ) from exc
        finally:
            self._next.release()

    def _tries(self) -> Generator[None]:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    async def __aenter__(self) -> Self:
        with closing(self._attempts()) as attempts:
            for _ in attempts:
                await asyncio.sleep(_POLL_SECONDS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class DataDirectoryLock(_Right):
    """The right of the owner: no other process opens the databases, neither to write nor to read vectors."""

    def __init__(self, data_dir: Path, *, purpose: str, answers_searches: bool = False) -> None:
        """`answers_searches`: as in `Owner`."""
        super().__init__(data_dir)
        self._purpose = purpose
        self._answers_searches = answers_searches

    def release(self) -> None:
        if self._lock.held:
            # The record goes first. After the lock is released, the record may be that of the next owner.
            (self._data_dir / _RECORD_FILE).unlink(missing_ok=True)
        super().release()

    def _tries(self) -> Generator[None]:
        """Announce the next owner, then wait until the readers have ended. Do not wait for an owner."""
        started = time.monotonic()
        owned_since: float | None = None
        mentioned = False
        while not (self._next.take() and self._lock.take()):
            now = time.monotonic()
            if _has_owner(self._data_dir):
                owned_since = owned_since or now
                if now - owned_since > _PROBE_SECONDS:
                    raise DataDirectoryInUse(_refusal(_read_record(self._data_dir), self._data_dir))
            else:
                owned_since = None
                if now - started > _READERS_SECONDS:
                    raise DataDirectoryInUse(
                        f"{self._data_dir}: searches have been running for {_READERS_SECONDS:.0f} s: look "
                        "for one that hangs and end it"
                    )
                if now - started > _MENTION_SECONDS and not mentioned:
                    logger.warning("{}: waiting for running searches to end", self._data_dir)
                    mentioned = True
            yield
        self._write_record()

    def _write_record(self) -> None:
        owner = Owner(
            os.getpid(), socket.gethostname(), self._purpose, datetime.now(UTC), self._answers_searches
        )
        record = asdict(owner) | {"since": owner.since.isoformat()}
        # Other processes never read half a record.
        with written_whole(self._data_dir / _RECORD_FILE) as draft:
            draft.write_text(json.dumps(record), encoding="utf-8")


class ReadersShare(_Right):
    """The right of a reader: any number of processes have it at the same time, but none beside an owner."""

    def _tries(self) -> Generator[None]:
        started = time.monotonic()
        while not self._get():
            waited = time.monotonic() - started
            owner = owner_of(self._data_dir)
            if owner is not None and owner.pid != 0:
                raise DataDirectoryInUse(_refusal(owner, self._data_dir))
            # Without an owner that says who it is, the wait is short. An owner is starting or stopping, or
            # the next owner waits for the readers before this one. On Windows it may be another reader.
            if waited > _READERS_SECONDS:
                raise DataDirectoryInUse(_refusal(None, self._data_dir))
            yield

    def _get(self) -> bool:
        # Readers hold `owner.next` together for an instant, so they are not in each other's way.
        got = self._next.take(shared=True) and self._lock.take(shared=True)
        self._next.release()
        return got


def owner_of(data_dir: Path) -> Owner | None:
    """Return the current owner; None if there is none. Takes a reader's lock for an instant.

    Raises ConfigError if the directory's lock cannot be read.
    """
    return _read_record(data_dir) if _has_owner(data_dir) else None


def _has_owner(data_dir: Path) -> bool:
    if not (data_dir / _LOCK_FILE).exists():
        return False
    probe = OsLock(data_dir / _LOCK_FILE)
    try:
        return not probe.take(shared=True)
    except OSError as exc:
        raise ConfigError(
            f"data_dir: cannot read {data_dir / _LOCK_FILE} ({exc.strerror or exc}): "
            "run as the user who owns it"
        ) from exc
    finally:
        probe.release()


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
            bool(record.get("answers_searches", True)),  # missing: of an older release, most likely a worker
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Owner(0, socket.gethostname(), "starting", datetime.now(UTC), answers_searches=False)


def _refusal(owner: Owner | None, data_dir: Path) -> str:
    if owner is None or owner.pid == 0:
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
