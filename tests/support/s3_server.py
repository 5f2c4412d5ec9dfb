"""An S3 server for tests, as a process on loopback, and its buckets.

It keeps the objects in memory, so what it had is gone when it is stopped. It checks no signature: what real
S3 says to a wrong key is not tested.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

import pytest

from support.hangs import HANG_SECONDS
from support.loopback_server import LoopbackServer

_ROOT = Path(__file__).parents[2]
_REGION = "us-east-1"
# It says which region a bucket is made in; nothing in it is checked.
_AUTHORIZATION = (
    f"AWS4-HMAC-SHA256 Credential=a/20260101/{_REGION}/s3/aws4_request, SignedHeaders=host, Signature=x"
)
_XML = "{http://s3.amazonaws.com/doc/2006-03-01/}"


def require_s3_server() -> Path:
    """The Python that has the server; without one a test is skipped, but fails where CI runs it."""
    python = _ROOT / ".venv-s3" / "bin" / "python"
    if not python.exists():
        reason = "no S3 server: make .venv-s3/.made"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return python


class S3Server(LoopbackServer):
    """One server. Its directory has nothing but its log beside it."""

    heartbeat: ClassVar[str] = "/moto-api/"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._python = require_s3_server()
        self._names = count()

    @property
    def command(self) -> list[str]:
        return [str(self._python), str(Path(__file__).with_name("s3_process.py")), str(self.port)]

    @property
    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": ""}  # what we test is not installed there

    @property
    def variables(self) -> dict[str, str]:
        """What the environment of a process has that uses the server, as a user would give it."""
        return {
            "AWS_ENDPOINT": self.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_REGION": _REGION,
        }

    def bucket(self) -> S3Bucket:
        """A new bucket. No process has used its name before: Lance keeps connections by the name."""
        made = S3Bucket(self, f"vectors-{self.port}-{next(self._names)}")
        made.create()
        return made

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The body of the answer. Raises HTTPError for one that is no success."""
        headers = {"Authorization": _AUTHORIZATION, "Content-Type": "application/octet-stream"}
        request = urllib.request.Request(f"{self.url}{path}", method=method, headers=headers, data=body)
        with urllib.request.urlopen(request, timeout=HANG_SECONDS) as answer:
            answered: bytes = answer.read()
            return answered


@dataclass(frozen=True, slots=True)
class S3Bucket:
    """A bucket, looked at past the code under test."""

    server: S3Server
    name: str

    @property
    def url(self) -> str:
        """Of the folder in it that the tests give as `vector_store.path`."""
        return f"s3://{self.name}/vectors"

    def create(self) -> None:
        """A server that was stopped has no bucket any more."""
        self.server.ask("PUT", f"/{self.name}")

    def names(self) -> list[str]:
        """The names of all objects."""
        return list(self._pages())

    def object(self, key: str) -> bytes:
        return self.server.ask("GET", f"/{self.name}/{quote(key)}")

    def put(self, key: str, content: bytes) -> None:
        self.server.ask("PUT", f"/{self.name}/{quote(key)}", content)

    def objects(self) -> dict[str, bytes]:
        """All objects by their names."""
        return {key: self.object(key) for key in self.names()}

    def copy_to(self, folder: Path) -> None:
        """Each object as a file of its name."""
        for key, content in self.objects().items():
            file = folder / key
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def empty(self) -> None:
        """Remove all objects; the bucket stays."""
        for key in self.names():
            self.server.ask("DELETE", f"/{self.name}/{quote(key)}")

    def _pages(self) -> Iterator[str]:
        after: dict[str, str] = {}
        while True:
            page = ElementTree.fromstring(
                self.server.ask("GET", f"/{self.name}?{urlencode({'list-type': '2'} | after)}")
            )
            yield from (one.text or "" for one in page.iter(f"{_XML}Key"))
            token = page.findtext(f"{_XML}NextContinuationToken")
            if token is None:
                return
            after = {"continuation-token": token}
