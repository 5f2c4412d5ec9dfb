"""A real Chroma server on loopback: started, stopped, killed and started again."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from embedfleet.vectors.chroma.layout import MARK_COLLECTION, collection_name
from embedfleet.vectors.port import CollectionKey
from support.hangs import HANG_SECONDS

_LOOK_AGAIN_SECONDS = 0.02
_PROGRAM = "import sys, chromadb_rust_bindings; chromadb_rust_bindings.cli(['chroma', *sys.argv[1:]])"
"""`chroma run` without importing the rest of chromadb, which takes a second."""


class ChromaServer:
    """One server with one directory; its `url` stays the same when it is started again."""

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        """Started by `start`, or as a context manager; `port` None takes a free one."""
        self.directory = directory
        self.port = free_port() if port is None else port
        self._process: subprocess.Popen[bytes] | None = None

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
        run = ["run", "--path", str(self.directory), "--host", "127.0.0.1", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *run],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + HANG_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"Chroma did not start: {self.log.read_text()[-2000:]}")
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

    def drop(self, *collections: CollectionKey) -> None:
        """Those that are there, as another client would."""
        for collection in collections:
            with suppress(urllib.error.HTTPError):
                self._ask("DELETE", f"/{_name(collection)}")

    def forget_mark(self) -> None:
        """The server belongs to no system from now on. Its rows stay."""
        with suppress(urllib.error.HTTPError):
            self._ask("DELETE", f"/{MARK_COLLECTION}")

    def rows(self, collection: CollectionKey) -> dict[str, tuple[dict[str, Any] | None, str | None]]:
        """Metadata and text of every row by its id, as Chroma's own users see them."""
        collection_id = self._ask("GET", f"/{_name(collection)}")["id"]
        got = self._ask("POST", f"/{collection_id}/get", {"include": ["metadatas", "documents"]})
        return dict(zip(got["ids"], zip(got["metadatas"], got["documents"], strict=True), strict=True))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            f"{self.url}/api/v2/tenants/default_tenant/databases/default_database/collections{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=HANG_SECONDS) as answer:
            return json.load(answer)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/api/v2/heartbeat", timeout=HANG_SECONDS):
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


def _name(collection: CollectionKey) -> str:
    return collection_name(collection.tenant, collection.space)
