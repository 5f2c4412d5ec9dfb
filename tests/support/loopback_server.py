"""A server of a vector store on loopback, as a process: started, stopped, killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Self

from support.hangs import HANG_SECONDS

_LOOK_AGAIN_SECONDS = 0.02


class LoopbackServer(ABC):
    """One server with one directory; its `url` stays the same when it is started again."""

    heartbeat: ClassVar[str]
    """The path that answers as soon as the server runs."""

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        """Started by `start`, or as a context manager; `port` None takes a free one."""
        self.directory = directory
        self.port = free_port() if port is None else port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def command(self) -> list[str]:
        """What runs the server on its directory and port."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What its environment has beside ours."""
        return {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What it printed, of all its starts."""
        return self.directory.with_name(f"{self.directory.name}.log")

    def start(self) -> None:
        """Returns when it answers."""
        assert self._process is None, "it runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + HANG_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"{type(self).__name__} did not start: {self.log.read_text()[-2000:]}")
            time.sleep(_LOOK_AGAIN_SECONDS)  # it sends no event when it is ready

    def stop(self) -> None:
        """SIGTERM, and wait; harmless when it does not run."""
        if self._process is not None:
            self._process.terminate()
            self._gone()

    def kill(self) -> None:
        """SIGKILL; harmless when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._gone()

    def restart(self) -> None:
        """On the same port and directory, whether it runs or not."""
        self.stop()
        self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """While the block runs, it accepts connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}{self.heartbeat}", timeout=HANG_SECONDS):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def _gone(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(timeout=HANG_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def free_port() -> int:
    """A port that no process listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
