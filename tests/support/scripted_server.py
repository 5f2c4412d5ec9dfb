"""An HTTP server that answers with the bytes that a test wrote down, one answer a request."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

HANGS_UP = b""
"""The connection is closed without an answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


def answer(status: int, body: Any = None, *, kind: str = "application/json", **headers: str) -> bytes:
    """An answer with a body of JSON. `_` in the name of a header stands for `-`."""
    content = json.dumps(body).encode()
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = [
        f"HTTP/1.1 {status} Said",
        f"Content-Type: {kind}",
        f"Content-Length: {len(content)}",
        "Connection: close",
        *lines,
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content


def problem(status: int, type: str, detail: str, **more: Any) -> bytes:
    """An error as the API describes it. With `retry_after`, it asks for a pause."""
    body = {"type": type, "title": "", "status": status, "detail": detail, **more}
    after = {"Retry_After": str(more["retry_after"])} if "retry_after" in more else {}
    return answer(status, body, kind="application/problem+json", **after)


def cut_off(kind: str, body: bytes) -> bytes:
    """The beginning of a stream: the connection ends before the stream does."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + f"{len(body):x}\r\n".encode() + body + b"\r\n"


def streamed(kind: str, body: bytes) -> bytes:
    """A whole stream."""
    return cut_off(kind, body) + b"0\r\n\r\n"


class ScriptedServer:
    """Gives `answers` in order, and the last of them again after that. `asked` are the requests."""

    def __init__(self, *answers: bytes) -> None:
        self.asked: list[Asked] = []
        left = list(answers)

        class Handler(BaseHTTPRequestHandler):
            def take(handler) -> None:
                size = int(handler.headers.get("Content-Length", 0))
                body = handler.rfile.read(size)
                self.asked.append(Asked(handler.command, handler.path, dict(handler.headers), body))
                handler.wfile.write(left.pop(0) if len(left) > 1 else left[0])
                handler.close_connection = True

            do_GET = do_POST = do_DELETE = do_PATCH = do_PUT = take

            def log_message(handler, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(0.01))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
