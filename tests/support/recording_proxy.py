"""A real HTTP server before another one: it records what comes, and can answer itself or wait."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

from support.hangs import HANG_SECONDS


@dataclass(frozen=True, slots=True)
class Request:
    """One that came; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class RecordingProxy:
    """On a free port of loopback while the block runs."""

    def __init__(self, backend: str | None, *, prefix: str = "") -> None:
        """`backend` is a url; None answers 404 with a page. `prefix` is a path cut off before passing on."""
        self._backend = None if backend is None else urlsplit(backend).netloc
        self._prefix = prefix
        self.requests: list[Request] = []
        self.answer: tuple[int, str] | None = None if backend else (404, "<html>no such page</html>")
        """Status and body of every answer; None passes requests on."""
        self.hold_upserts = threading.Event()
        """While set, an upsert waits until `go_on` is set, after it set `held`."""
        self.held = threading.Event()
        self.go_on = threading.Event()

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{self._prefix}"

    def upserts(self) -> list[Request]:
        return [request for request in self.requests if request.path.endswith("/upsert")]

    def take(self, request: Request) -> tuple[int, bytes]:
        self.requests.append(request)
        if self.answer is not None:
            return self.answer[0], self.answer[1].encode()
        if request.path.endswith("/upsert") and self.hold_upserts.is_set():
            self.held.set()
            self.go_on.wait()
        assert self._backend is not None
        connection = http.client.HTTPConnection(self._backend, timeout=HANG_SECONDS)
        try:
            path = request.path.removeprefix(self._prefix)
            kind = {"Content-Type": request.headers.get("content-type", "text/plain")}
            connection.request(request.method, path, request.body, kind)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, answer = proxy.take(Request(self.command, self.path, headers, body))
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = serve

            def log_message(self, format: str, *args: object) -> None:
                return None

        return Handler
