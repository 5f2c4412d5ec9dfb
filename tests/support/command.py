"""The `embedfleet` command as its users run it: a process of its own."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest
from loguru import logger

from embedfleet.cli import main
from support.hangs import HANG_SECONDS

_LOOK_AGAIN_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Result:
    """What a command left: exit code and both streams, as text."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document that is all of stdout."""
        loaded: dict[str, Any] = json.loads(self.stdout)
        return loaded


@dataclass(frozen=True, slots=True)
class Command:
    """Runs commands with one data directory and the stub model, in a folder of the test's own."""

    folder: Path
    model: str = "stub"

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """No setting of the machine's own user reaches the command."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EMBEDFLEET_")}
        own = {
            "EMBEDFLEET_DATA_DIR": str(self.data_dir),
            "EMBEDFLEET_MODELS__DEFAULT": self.model,
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            # A machine that is busy with other tests refuses no switch to another model.
            "EMBEDFLEET_MODEL_SWITCHING__GATE__MAX_LATENCY_RATIO": "1e6",
            "EMBEDFLEET_MONITORING__METRICS_PORT": "0",  # tests run side by side: a fixed port is taken
        }
        return kept | own | dict(more or {})

    def start(
        self,
        *arguments: str | os.PathLike[str],
        module: str = "embedfleet",
        env: Mapping[str, str] | None = None,
        stdout: IO[str] | int = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """In a process group of its own, as a terminal would, so that signals can be sent to all of it."""
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str | os.PathLike[str], env: Mapping[str, str] | None = None) -> Result:
        return finish(self.start(*arguments, env=env))

    def typed(self, *arguments: str | os.PathLike[str], env: Mapping[str, str] | None = None) -> Result:
        """The same in this process, which saves a second. For tests of neither its start, its signals nor its
        end."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            for name in os.environ:
                if name.startswith("EMBEDFLEET_"):
                    patch.delenv(name)
            for name, value in self.environment(env).items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", ["embedfleet", *(os.fspath(one) for one in arguments)])
            try:
                with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as exited:
                    main()
            finally:
                logger.remove()  # the command sent the logs to a stream that ends with it
                logger.add(sys.stderr)
        return Result(int(exited.value.code or 0), out.getvalue(), err.getvalue())

    def jobs_completed(self) -> int:
        """How many there are now, read beside the process that runs."""
        database = self.data_dir / "embedfleet.db"
        if not database.exists():
            return 0
        with closing(
            sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=HANG_SECONDS)
        ) as connection:
            made = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'jobs'").fetchone()[0]
            if not made:
                return 0
            query = "SELECT count(*) FROM jobs WHERE status = 'completed'"
            return int(connection.execute(query).fetchone()[0])

    def wait_for_completed(self, process: subprocess.Popen[str], count: int) -> None:
        """Return when `count` jobs are completed. Raises AssertionError if the process ends before."""
        while self.jobs_completed() < count:
            try:
                process.wait(_LOOK_AGAIN_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"ended too early: {finish(process)}")


def finish(process: subprocess.Popen[str]) -> Result:
    """Wait for its end."""
    try:
        stdout, stderr = process.communicate(timeout=HANG_SECONDS)
    finally:
        process.kill()
    return Result(process.returncode, stdout, stderr)
