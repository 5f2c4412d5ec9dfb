"""chromadb's errors, and those of the connection to a server, as ours."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

from embedfleet.errors import (
    ConfigError,
    EmbedfleetError,
    Permanent,
    StorageFull,
    VectorStoreUnavailable,
)

# HTTP codes that Chroma gives its errors: 404, a collection dropped between two calls; 429, too busy.
_WORTH_RETRYING = (404, 429)

# HTTP codes of a server, or a proxy before it, that is too busy now.
_BUSY = (408, 425, 429)

# Of a server's Chroma only: another process dropped (404) or made (409) the collection meanwhile.
_OUTRUN = (404, 409)

# What a full disk may look like from outside; often it is "Failed to apply logs", and then nobody can tell.
_FULL_SAYS = ("disk is full", "No space left on device")

# Chroma hides why a write failed ("Failed to apply logs to the metadata segment"), so the file system
# is asked instead: less room than one large batch with its write-ahead log needs means the disk is full.
_FULL_BELOW_BYTES = 16 * 2**20


def embedded_error(exc: BaseException, directory: Path) -> BaseException:
    """The error of our tree that tells what to do about `exc`; anything that is no Chroma error unchanged."""
    from chromadb.errors import ChromaError

    text = _one_line(exc)
    refused = isinstance(exc, ValueError | TypeError | OverflowError) or (
        isinstance(exc, ChromaError) and exc.code() < 500 and exc.code() not in _WORTH_RETRYING
    )
    if refused:
        return Permanent(f"the vector store refuses this: {text}")
    # A panic of Chroma's Rust core is a BaseException of a class that cannot be imported.
    if not (isinstance(exc, ChromaError | OSError) or type(exc).__name__ == "PanicException"):
        return exc
    if _disk_full(exc, directory):
        return StorageFull(
            f"no space left for vectors in {directory}: free some, nothing needs repair ({text})"
        )
    return VectorStoreUnavailable(f"the vector store in {directory} failed: {text}")


def server_error(exc: Exception, url: str, *, opening: bool) -> Exception:
    """The same for what a call to the server at `url` raised.

    What points to a wrong setting is a ConfigError when `opening`. Later that setting has worked before: a
    proxy is being renewed, a token was withdrawn, and no document shall be given up for that.
    """
    from chromadb.errors import ChromaError
    from httpx import HTTPStatusError, TransportError

    text = _one_line(exc)
    misled = ConfigError if opening else VectorStoreUnavailable
    if isinstance(exc, EmbedfleetError):
        return exc
    if isinstance(exc, TransportError):
        return VectorStoreUnavailable(f"no answer from the vector store at {url}: {text}")
    status = _status(exc)
    if status in (401, 403):
        return misled(f"vector_store.token: the vector store at {url} refuses it (HTTP {status}): correct it")
    if status == 507 or any(hint in text for hint in _FULL_SAYS):
        return StorageFull(f"no space left at the vector store {url}: free some, then restart it ({text})")
    if status == 413:
        return Permanent(f"one row is too large for the vector store at {url}, or for a proxy before it")
    busy = status >= 500 or status in _BUSY or (isinstance(exc, ChromaError) and status in _OUTRUN)
    if busy:
        return VectorStoreUnavailable(f"the vector store at {url} failed: {text}")
    if isinstance(exc, HTTPStatusError | json.JSONDecodeError):
        return misled(f"vector_store.url: no Chroma server of version 1 answers at {url}: {text}")
    if isinstance(exc, ValueError | TypeError | OverflowError) or status:
        return Permanent(f"the vector store refuses this: {text}")
    return exc


def _status(exc: Exception) -> int:
    """The HTTP status it came with, 0 if with none."""
    from chromadb.errors import ChromaError
    from httpx import HTTPStatusError

    if isinstance(exc, ChromaError):
        return int(exc.code())
    if isinstance(exc, HTTPStatusError):
        return exc.response.status_code
    return 0


def _one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split())


def _disk_full(exc: BaseException, directory: Path) -> bool:
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    try:
        return shutil.disk_usage(directory).free < _FULL_BELOW_BYTES
    except OSError:  # the directory itself is gone
        return False
