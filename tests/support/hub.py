"""A hub on this machine: the part of the Hugging Face hub's HTTP interface that downloading a model calls."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Repository:
    """A model as it lies there: its one commit, and its files by their path in it."""

    commit: str
    files: Mapping[str, Path | bytes]

    def content(self, name: str) -> bytes:
        source = self.files[name]
        return source if isinstance(source, bytes) else source.read_bytes()


@dataclass(slots=True)
class Hub:
    """Serves `repositories` by their id; `fetched` has the files that were sent, as `id/path`."""

    repositories: dict[str, Repository]
    fetched: list[str] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None

    @property
    def environment(self) -> dict[str, str]:
        """For a process that should know no other hub."""
        assert self._server is not None
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return {"HF_ENDPOINT": url, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}

    def __enter__(self) -> Self:
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, name="hub", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        match parts:
            case ["api", "models", owner, name, "revision", revision]:
                self._describe(f"{owner}/{name}", revision)
            case ["api", "models", owner, name, "tree", revision]:
                self._list(f"{owner}/{name}", revision)
            case [owner, name, "resolve", revision, *path]:
                self._send_file(f"{owner}/{name}", revision, "/".join(path))
            case _:
                self._refuse("RepoNotFound")

    def _describe(self, model: str, revision: str) -> None:
        if (repository := self._repository(model, revision)) is not None:
            siblings = [{"rfilename": name} for name in repository.files]
            self._send_json({"id": model, "sha": repository.commit, "siblings": siblings})

    def _list(self, model: str, revision: str) -> None:
        if (repository := self._repository(model, revision)) is not None:
            self._send_json(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": _digest(content)}
                    for name in repository.files
                    if (content := repository.content(name)) is not None
                ]
            )

    def _send_file(self, model: str, revision: str, name: str) -> None:
        repository = self._repository(model, revision)
        if repository is None:
            return
        if name not in repository.files:
            self._refuse("EntryNotFound")
            return
        content = repository.content(name)
        if self.command == "GET":
            self.server.hub.fetched.append(f"{model}/{name}")
        self._send(content, {"ETag": f'"{_digest(content)}"', "X-Repo-Commit": repository.commit})

    def _repository(self, model: str, revision: str) -> Repository | None:
        repository = self.server.hub.repositories.get(model)
        if repository is None:
            self._refuse("RepoNotFound")
            return None
        if revision not in ("main", repository.commit):
            self._refuse("RevisionNotFound")
            return None
        return repository

    def _send_json(self, document: Any) -> None:
        self._send(json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _refuse(self, code: str) -> None:
        self._send(b"", {"X-Error-Code": code, "X-Error-Message": code}, status=404)

    def _send(self, content: bytes, headers: Mapping[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Tests have nothing to read there."""


def _digest(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
