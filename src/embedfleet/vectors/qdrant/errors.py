"""Maps the errors of Qdrant's client, and of the connection to its server, to ours."""

from __future__ import annotations

import json
import re

from embedfleet.errors import (
    ConfigError,
    EmbedfleetError,
    Permanent,
    StorageFull,
    VectorStoreUnavailable,
    one_line,
)

# What a server says, with HTTP 500, when its disk is full.
_FULL_SAYS = ("No space left on device", "disk is full", "Out of disk space")

# HTTP codes of a server, or of a proxy before it, that is too busy now, or that another process changes.
_MAY_PASS = (408, 409, 425, 429)

# What Qdrant itself says, in its own form of an error, of a collection that it does not have.
_NO_COLLECTION = re.compile(r"^Not found: Collection .* doesn't exist")

_MOST_QUOTED_CHARS = 200


class CollectionMissing(VectorStoreUnavailable):
    """The Qdrant collection that a call names is not there. It is made by `ensure_collection`."""


class RequestTooLarge(Permanent):
    """The server, or a proxy before it, takes no request of this size."""


def server_error(exc: Exception, url: str, *, opening: bool) -> Exception:
    """Return embedfleet's error for what a call to the server at `url` raised. Return a defect unchanged.

    While `opening`, an answer that points to a wrong setting is a ConfigError. Later the same answer is
    VectorStoreUnavailable: the setting has worked before, so a proxy is being replaced or a key was
    withdrawn, and no document must be given up for that.
    """
    from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    if isinstance(exc, EmbedfleetError):
        return exc
    if isinstance(exc, ResourceExhaustedResponse):
        return VectorStoreUnavailable(
            f"the vector store at {url} is busy: {one_line(exc)}", retry_after_seconds=exc.retry_after_s
        )
    if isinstance(exc, ResponseHandlingException | json.JSONDecodeError):
        source = exc.source if isinstance(exc, ResponseHandlingException) else exc
        return _no_answer(source, url, opening=opening)
    if isinstance(exc, UnexpectedResponse):
        return _refusal(exc.status_code or 0, _said(exc.content), url, opening=opening)
    if isinstance(exc, ValueError):  # of pydantic, which cannot write a lone surrogate as JSON
        return Permanent(f"the vector store refuses this: {one_line(exc)}")
    return exc


def _no_answer(source: Exception, url: str, *, opening: bool) -> Exception:
    """Return the error for a request that got no answer, or one that is no answer of Qdrant."""
    from httpx import TransportError

    if isinstance(source, TransportError):
        said = one_line(source) or type(source).__name__
        return VectorStoreUnavailable(f"no answer from the vector store at {url}: {said}")
    wrong_setting = ConfigError if opening else VectorStoreUnavailable
    return wrong_setting(f"vector_store.url: no Qdrant server answers at {url}")


def _refusal(status: int, said: str, url: str, *, opening: bool) -> Exception:
    """Return the error for an answer that is no success."""
    wrong_setting = ConfigError if opening else VectorStoreUnavailable
    if status in (401, 403):
        return wrong_setting(
            f"vector_store.token: the vector store at {url} refuses it (HTTP {status}): correct it"
        )
    if status == 507 or any(hint in said for hint in _FULL_SAYS):
        return StorageFull(f"no space left at the vector store {url}: free some ({said})")
    if status == 413:
        return RequestTooLarge(
            f"one row is too large for the vector store at {url}, or for a proxy before it"
        )
    if status >= 500 or status in _MAY_PASS:
        return VectorStoreUnavailable(f"the vector store at {url} failed: HTTP {status} {said}")
    if opening:
        return ConfigError(f"vector_store.url: no Qdrant server answers at {url}: HTTP {status} {said}")
    if status == 404:
        if _NO_COLLECTION.search(said):
            return CollectionMissing(
                f"a collection is not in the vector store at {url}: ensure it, then repeat"
            )
        # Of a proxy whose route is being replaced: it says nothing of what Qdrant has.
        return VectorStoreUnavailable(f"no Qdrant server answers at {url}: HTTP 404 {said}")
    return Permanent(f"the vector store refuses this: HTTP {status} {said}")


def _said(content: bytes) -> str:
    """Return what Qdrant says of the error, or the beginning of what a proxy says."""
    try:
        said = json.loads(content)["status"]["error"]
    except (ValueError, TypeError, KeyError):
        said = content.decode("utf-8", "replace")
    return one_line(str(said))[:_MOST_QUOTED_CHARS]
