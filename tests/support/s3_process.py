"""An S3 server in memory, on loopback: `python s3_process.py PORT`, in the environment `.venv-s3`.

It is moto's, but answers one request after the other. moto looks whether an object exists and then writes it,
so of two requests that must not both succeed both would, and a commit of Lance is such a request.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any

from moto.server import (  # type: ignore[import-not-found]
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import run_simple


class OneByOne:
    """The application of moto, with a lock around each request."""

    def __init__(self) -> None:
        self._moto: Any = DomainDispatcherApplication(create_backend_app)
        self._lock = Lock()

    def __call__(self, environ: Mapping[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._lock:
            return list(self._moto(environ, start_response))


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), OneByOne(), threaded=True, request_handler=MotoRequestHandler)
