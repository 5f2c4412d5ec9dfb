"""An OpenAI-compatible embedding server over real HTTP, which can be ill in all the ways of a real one."""

from __future__ import annotations

import json
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedfleet.inference.backend import ModelInfo, TokenBatch
from embedfleet.inference.backends.stub import StubBackend
from embedfleet.inference.model_files import bundled_tokenizer
from embedfleet.settings import ModelSettings

MODEL = "hashes"
DIM = 16


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    at: float

    @property
    def texts(self) -> Sequence[str]:
        texts: list[str] = self.body["input"]
        return texts


@dataclass(frozen=True, slots=True)
class Reply:
    """`body` is sent as JSON, bytes as they are."""

    status: int
    body: Any = ""
    headers: Mapping[str, str] = field(default_factory=dict)


Behaviour = Callable[[Asked], Reply | None]
"""None: the connection is dropped without an answer."""


def vectors_of(texts: Sequence[str], dim: int = DIM) -> NDArray[np.float32]:
    """What the server answers: the stub's hashes of the texts' bytes, float32 (n, dim), of length 1."""
    raw = [text.encode() for text in texts]
    info = ModelInfo(MODEL, dim, 10**9, "", bundled_tokenizer(), "", 0)
    ids = np.frombuffer(b"".join(raw), dtype=np.uint8).astype(np.uint32)
    return StubBackend(info).embed_tokens(TokenBatch(ids, np.array([len(one) for one in raw])))


def serves(asked: Asked, **more: Any) -> Reply:
    data = [
        {"object": "embedding", "index": place, "embedding": vector.tolist()}
        for place, vector in enumerate(vectors_of(asked.texts))
    ]
    return Reply(200, {"object": "list", "data": data, "model": asked.body["model"]} | more)


def says(status: int, message: str | None = None, **headers: str) -> Behaviour:
    """`retry_after="3"` is the header `Retry-After`."""
    body = "" if message is None else {"error": {"message": message}}
    return lambda _: Reply(status, body, {k.replace("_", "-"): v for k, v in headers.items()})


def drops(_: Asked) -> None:
    return None


class EmbeddingServer:
    """Does what `script` says, one entry a request, and when that is empty what `usual` does.

    While `gate` is cleared, requests are taken and not answered; `arrived` is released for each.
    `latency_seconds` is what every answer takes (for measurements, not tests).
    """

    def __init__(self) -> None:
        self.script: deque[Behaviour] = deque()
        self.usual: Behaviour = serves
        self.asked: list[Asked] = []
        self.connections = 0
        self.most_at_once = 0
        self.latency_seconds = 0.0
        self.arrived = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self._under_way = 0
        self._lock = threading.Lock()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, name="embedding server"
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def entry(self, *, remote: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """Of the catalogue: a model that it serves."""
        there = {"url": self.url, "model": MODEL} | dict(remote or {})
        return {"backend": "remote", "dim": DIM, "remote": there} | more

    def settings(self, *, remote: Mapping[str, Any] | None = None, **more: Any) -> ModelSettings:
        """The same, validated."""
        return ModelSettings.model_validate(self.entry(remote=remote, **more))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, asked: Asked) -> Reply | None:
        with self._lock:
            self.asked.append(asked)
            behaviour = self.script.popleft() if self.script else self.usual
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        self.arrived.release()
        try:
            self.gate.wait()
            if self.latency_seconds:
                sleep(self.latency_seconds)
            return behaviour(asked)
        finally:
            with self._lock:
                self._under_way -= 1


class _Http(ThreadingHTTPServer):
    owner: EmbeddingServer
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    def setup(self) -> None:
        super().setup()
        self.server.owner.connections += 1

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.owner.answer(Asked(self.path, headers, body, monotonic()))
        if reply is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests say what they saw."""
