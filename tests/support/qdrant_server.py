"""Qdrant's engine behind its HTTP API, on loopback: started, stopped, killed and started again."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from embedfleet.vectors.qdrant.layout import REGISTER
from support.hangs import HANG_SECONDS
from support.import_path import import_path
from support.loopback_server import LoopbackServer


class QdrantServer(LoopbackServer):
    """One server with one directory. With a `key`, it takes only requests that have it."""

    heartbeat = "/"

    def __init__(self, directory: Path, *, key: str | None = None) -> None:
        super().__init__(directory)
        self._key = key

    @property
    def command(self) -> list[str]:
        run = [str(self.directory), str(self.port), *([] if self._key is None else [self._key])]
        return [sys.executable, "-m", "support.qdrant_engine", *run]

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": import_path(Path(__file__).parents[1])}

    def empty(self) -> None:
        """Every collection, the mark too. To make one again takes the engine some tenths of a second."""
        self._empty(lambda _name: True)

    def lose_rows(self) -> None:
        """Those of all tenants. The register and the mark stay."""
        self._empty(lambda name: name != REGISTER)

    def drop_all(self) -> None:
        """Every collection, the mark too, as a server has it whose disk is another one."""
        for found in self._ask("GET")["collections"]:
            self._ask("DELETE", f"/{found['name']}")

    def _empty(self, chosen: Callable[[str], bool]) -> None:
        for found in self._ask("GET")["collections"]:
            if chosen(found["name"]):
                self._ask("POST", f"/{found['name']}/points/delete", {"filter": {"must": []}})

    def _ask(self, method: str, path: str = "", body: object = None) -> Any:
        headers = {} if self._key is None else {"api-key": self._key}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}/collections{path}", method=method, headers=headers, data=data
        )
        with urllib.request.urlopen(request, timeout=HANG_SECONDS) as answer:
            return json.load(answer)["result"]
