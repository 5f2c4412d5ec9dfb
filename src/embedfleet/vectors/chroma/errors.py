"""Maps the errors of chromadb, and of the connection to a Chroma server, to ours."""

from __future__ import annotations

import errno
import json
import re
import shutil
from pathlib import Path

from embedfleet.errors import (
    ConfigError,
    EmbedfleetError,
    Permanent,
    Remedy,
    StorageFull,
    VectorStoreUnavailable,
    one_line,
)

# HTTP codes of Chroma's errors that may pass: 404, a collection was dropped between two calls; 429, too busy.
_WORTH_RETRYING = (404, 429)

# HTTP codes of a server, or of a proxy before it, that is too busy now.
_BUSY = (408, 425, 429)

# HTTP codes of a Chroma server: during the call another process dropped (404) or created (409) the
# collection.
_CHANGED_BY_OTHERS = (404, 409)

# What a server may say when its disk is full. Often it only says "Failed to apply logs", which has other
# causes too.
_FULL_SAYS = ("disk is full", "No space left on device")

# Embedded Chroma hides why a write failed ("Failed to apply logs to the metadata segment"), so we ask the
# file system. The disk counts as full if it has less room than one large batch needs with its write-ahead
# log.
_FULL_BELOW_BYTES = 16 * 2**20


def embedded_error(exc: BaseException, directory: Path) -> BaseException:
    """Return embedfleet's error for an error of embedded Chroma. Return any other exception unchanged."""
    from chromadb.errors import ChromaError

    text = one_line(exc)
    refused = isinstance(exc, ValueError | TypeError | OverflowError) or (
        isinstance(exc, ChromaError) and exc.code() < 500 and exc.code() not in _WORTH_RETRYING
    )
    if refused:
        return Permanent(f"the vector store refuses this: {text}")
    # A panic of Chroma's Rust core is a BaseException of a class that cannot be imported: its name must do.
    if not (isinstance(exc, ChromaError | OSError) or type(exc).__name__ == "PanicException"):
        return exc
    if _disk_full(exc, directory):
        return StorageFull(f"no space left for vectors in {directory}: free some, then run again ({text})")
    passing = isinstance(exc, OSError) or _passes(text)
    return VectorStoreUnavailable(
        f"the vector store in {directory} failed: {text}", remedy=None if passing else Remedy.REBUILD_VECTORS
    )


# SQLite's codes that say nothing of damage: busy, locked, read-only, input or output failed, full, cannot be
# opened (whose right is missing).
_SQLITE_PASSES = (5, 6, 8, 10, 13, 14)
_SQLITE_CODE = re.compile(r"\(code: (\d+)\)")


def _passes(text: str) -> bool:
    code = _SQLITE_CODE.search(text)
    return code is not None and int(code[1]) % 256 in _SQLITE_PASSES  # the lowest byte is the plain code


def server_error(exc: Exception, url: str, *, opening: bool) -> Exception:
    """Return embedfleet's error for what a call to the server at `url` raised. Return a defect unchanged.

    While `opening`, an answer that points to a wrong setting is a ConfigError. Later the same answer is
    VectorStoreUnavailable: the setting has worked before, so a proxy is being replaced or a token was
    withdrawn, and no document must be given up for that.
    """
    from chromadb.errors import ChromaError
    from httpx import HTTPStatusError, TransportError

    text = one_line(exc)
    wrong_setting = ConfigError if opening else VectorStoreUnavailable
    if isinstance(exc, EmbedfleetError):
        return exc
    if isinstance(exc, TransportError):
        return VectorStoreUnavailable(f"no answer from the vector store at {url}: {text}")
    status = _status(exc)
    if status in (401, 403):
        return wrong_setting(
            f"vector_store.token: the vector store at {url} refuses it (HTTP {status}): correct it"
        )
    if status == 507 or any(hint in text for hint in _FULL_SAYS):
        return StorageFull(f"no space left at the vector store {url}: free some, then restart it ({text})")
    if status == 413:
        return Permanent(f"one row is too large for the vector store at {url}, or for a proxy before it")
    busy = status >= 500 or status in _BUSY or (isinstance(exc, ChromaError) and status in _CHANGED_BY_OTHERS)
    if busy:
        return VectorStoreUnavailable(f"the vector store at {url} failed: {text}")
    if isinstance(exc, HTTPStatusError | json.JSONDecodeError):
        return wrong_setting(f"vector_store.url: no Chroma server of version 1 answers at {url}: {text}")
    if isinstance(exc, ValueError | TypeError | OverflowError) or status:
        return Permanent(f"the vector store refuses this: {text}")
    return exc


def _status(exc: Exception) -> int:
    """Return the HTTP status that the error came with; 0 if it came with none."""
    from chromadb.errors import ChromaError
    from httpx import HTTPStatusError

    if isinstance(exc, ChromaError):
        return int(exc.code())
    if isinstance(exc, HTTPStatusError):
        return exc.response.status_code
    return 0


def _disk_full(exc: BaseException, directory: Path) -> bool:
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    try:
        return shutil.disk_usage(directory).free < _FULL_BELOW_BYTES
    except OSError:  # the directory itself is gone
        return False
