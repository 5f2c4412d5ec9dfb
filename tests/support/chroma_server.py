"""A real Chroma server on loopback: started, stopped, killed and started again."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from typing import Any

from embedfleet.vectors.chroma.layout import MARK_COLLECTION, collection_name
from embedfleet.vectors.port import CollectionKey
from support.hangs import HANG_SECONDS
from support.loopback_server import LoopbackServer

_PROGRAM = "import sys, chromadb_rust_bindings; chromadb_rust_bindings.cli(['chroma', *sys.argv[1:]])"
"""`chroma run` without importing the rest of chromadb, which takes a second."""


class ChromaServer(LoopbackServer):
    """One server with one directory; its `url` stays the same when it is started again."""

    heartbeat = "/api/v2/heartbeat"

    @property
    def command(self) -> list[str]:
        run = ["run", "--path", str(self.directory), "--host", "127.0.0.1", "--port", str(self.port)]
        return [sys.executable, "-c", _PROGRAM, *run]

    def drop(self, *collections: CollectionKey) -> None:
        """Those that are there, as another client would."""
        for collection in collections:
            with suppress(urllib.error.HTTPError):
                self._ask("DELETE", f"/{_name(collection)}")

    def drop_all(self) -> None:
        """Every collection, the mark too."""
        for found in self._ask("GET", "?limit=100000"):
            self._ask("DELETE", f"/{found['name']}")

    def forget_mark(self) -> None:
        """The server belongs to no system from now on. Its rows stay."""
        with suppress(urllib.error.HTTPError):
            self._ask("DELETE", f"/{MARK_COLLECTION}")

    def rows(self, collection: CollectionKey) -> dict[str, tuple[dict[str, Any] | None, str | None]]:
        """Metadata and text of every row by its id, as Chroma's own users see them."""
        collection_id = self._ask("GET", f"/{_name(collection)}")["id"]
        got = self._ask("POST", f"/{collection_id}/get", {"include": ["metadatas", "documents"]})
        return dict(zip(got["ids"], zip(got["metadatas"], got["documents"], strict=True), strict=True))

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            f"{self.url}/api/v2/tenants/default_tenant/databases/default_database/collections{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=HANG_SECONDS) as answer:
            return json.load(answer)


def _name(collection: CollectionKey) -> str:
    return collection_name(collection.tenant, collection.space)
