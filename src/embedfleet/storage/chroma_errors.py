"""chromadb's errors as ours."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from embedfleet.errors import Permanent, StorageFull, VectorStoreUnavailable

# HTTP codes that Chroma gives its errors: 404, a collection dropped between two calls; 429, too busy.
_WORTH_RETRYING = (404, 429)

# Chroma hides why a write failed ("Failed to apply logs to the metadata segment"), so the file system
# is asked instead: less room than one large batch with its write-ahead log needs means the disk is full.
_FULL_BELOW_BYTES = 16 * 2**20


def as_ours(exc: BaseException, directory: Path) -> BaseException:
    """The error of our tree that tells what to do about `exc`; anything that is no Chroma error unchanged."""
    from chromadb.errors import ChromaError

    text = " ".join(str(exc).split())
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


def _disk_full(exc: BaseException, directory: Path) -> bool:
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    try:
        return shutil.disk_usage(directory).free < _FULL_BELOW_BYTES
    except OSError:  # the directory itself is gone
        return False
