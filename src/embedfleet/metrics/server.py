"""The monitoring port of a host: `/metrics` for Prometheus, `/healthz` and `/readyz` for supervisors."""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from time import monotonic
from typing import TypeAlias

from loguru import logger
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from embedfleet.errors import ConfigError

Answer: TypeAlias = tuple[HTTPStatus, str, bytes]
_TEXT = "text/plain; charset=utf-8"
_LARGEST_BODY = 1 << 16  # bytes: no client of this port has anything to send


class Health:
    """The orchestrator's report about itself. Its event loop writes it, the server's threads read it.

    It is alive if its event loop has called `beat` in the last `stuck_after_seconds`. It is ready if it is
    alive and nothing prevents work. A supervisor should restart an orchestrator that is not alive. One that
    is not ready waits for a service, and a restart does not help.
    """

    def __init__(self, *, stuck_after_seconds: float = 30.0, now: Callable[[], float] = monotonic) -> None:
        self._stuck_after = stuck_after_seconds
        self._now = now
        self._seen = now()
        self._obstacles: Sequence[str] = ("starting",)

    def beat(self, obstacles: Sequence[str]) -> None:
        """Report that the event loop runs. `obstacles`: what prevents work now, in words."""
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
    """Serves HTTP on threads of its own until it is closed."""

    def __init__(self, collector: Collector, health: Health, *, host: str, port: int) -> None:
        """Start to listen; port 0 means any free port.

        Raises ConfigError, naming the setting, if the port is in use or the host is not one of this machine.
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
        """The port on which the server listens."""
        return self._server.server_port

    def close(self) -> None:
        """Stop listening. The port is free when this returns. May be called twice."""
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

    def handle_error(self, request: object, client_address: object) -> None:
        """Log a defect. A client that has gone, or that takes its answer too slowly, is none."""
        if not isinstance(sys.exception(), OSError):
            logger.exception("the monitoring port could not answer {}", client_address)

    def server_bind(self) -> None:
        """Listen, but do not look up this host's name in DNS, as HTTPServer would for `server_name`."""
        TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)


def _health_answer(good: bool, words: str) -> Answer:
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return status, _TEXT, f"{words}\n".encode()


def _handler(answer: Callable[[str, str], Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 30  # seconds: a client that sends nothing must not occupy a thread forever
        # What is no request at all, or of a method that HTTP does not have, is told so in plain text.
        error_message_format = "%(code)d %(message)s\n"
        error_content_type = _TEXT

        def do_GET(self) -> None:
            self._send(*answer(self.path, self.headers.get("Accept", "")))

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            # A body that is left unread would reset the connection before the client has the answer.
            length = self.headers.get("Content-Length", "")
            self.rfile.read(min(int(length), _LARGEST_BODY) if length.isdecimal() else 0)
            body = b"only GET and HEAD are answered here\n"
            self._send(HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, body, Allow="GET, HEAD")

        do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_POST

        def _send(self, status: HTTPStatus, content_type: str, body: bytes, **headers: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: a scrape is not an event."""

    return Handler
