"""The monitoring port of a host: `/metrics` for Prometheus, `/healthz` and `/readyz` for supervisors."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from embedfleet.errors import ConfigError

Answer: TypeAlias = tuple[HTTPStatus, str, bytes]
_TEXT = "text/plain; charset=utf-8"


class Health:
    """What the orchestrator says about itself. Written on its event loop, read by the server's threads.

    Alive: its loop has turned in the last `stuck_after_seconds`. Ready: alive, and nothing is in the way of
    work. A supervisor restarts what is not alive; what is not ready needs its services, not a restart.
    """

    def __init__(self, *, stuck_after_seconds: float = 30.0, now: Callable[[], float] = monotonic) -> None:
        self._stuck_after = stuck_after_seconds
        self._now = now
        self._seen = now()
        self._obstacles: Sequence[str] = ("starting",)

    def beat(self, obstacles: Sequence[str]) -> None:
        """The loop turns; `obstacles` says in words what keeps work from being done now."""
        self._obstacles = tuple(obstacles)
        self._seen = self._now()

    def alive(self) -> tuple[bool, str]:
        silent = self._now() - self._seen
        if silent > self._stuck_after:
            return False, f"the orchestrator's event loop has been stuck for {silent:.0f} s"
        return True, "alive"

    def ready(self) -> tuple[bool, str]:
        alive, words = self.alive()
        if not alive:
            return alive, words
        return not self._obstacles, "\n".join(self._obstacles) or "ready"


class MonitoringServer:
    """Answers on threads of its own until closed."""

    def __init__(self, collector: Collector, health: Health, *, host: str, port: int) -> None:
        """Listen; port 0 takes a free one.

        Raises ConfigError, naming the setting, when the port is taken or the host is not this machine's.
        """
        self._registry = CollectorRegistry()
        self._registry.register(collector)
        self._health = health
        try:
            self._server = _Server((host, port), _handler(self._answer))
        except OSError as exc:
            culprit = "port" if exc.errno in (errno.EADDRINUSE, errno.EACCES) else "host"
            raise ConfigError(
                f"monitoring.metrics_{culprit}: cannot listen on {host} port {port} "
                f"({exc.strerror or exc}): choose another {culprit}, or port 0 for no metrics"
            ) from exc
        self._thread = threading.Thread(target=self._server.serve_forever, name="monitoring", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.server_port

    def close(self) -> None:
        """Stop listening; the port is free on return. May be called twice."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def _answer(self, path: str, accept: str) -> Answer:
        match path.partition("?")[0]:
            case "/metrics":
                encode, content_type = choose_encoder(accept)
                return HTTPStatus.OK, content_type, encode(self._registry)
            case "/healthz":
                return _health_answer(*self._health.alive())
            case "/readyz":
                return _health_answer(*self._health.ready())
        return HTTPStatus.NOT_FOUND, _TEXT, b"here are /metrics, /healthz and /readyz\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = True


def _health_answer(good: bool, words: str) -> Answer:
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return status, _TEXT, f"{words}\n".encode()


def _handler(answer: Callable[[str, str], Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 30  # seconds; a client that says nothing does not hold a thread for ever

        def do_GET(self) -> None:
            status, content_type, body = answer(self.path, self.headers.get("Accept", ""))
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Scrapes are not events."""

    return Handler
