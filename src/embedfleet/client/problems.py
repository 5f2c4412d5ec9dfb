"""The errors of the server as those of our tree: what a caller in the server's process would have met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from embedfleet import errors
from embedfleet.errors import EmbedfleetError, Remedy, one_line

_LONGEST_EXCERPT = 200
_FIRST_SERVER_ERROR = 500


def is_problem(response: httpx.Response) -> bool:
    """Whether the answer is an error that the server describes, and not one of a proxy before it."""
    return str(response.headers.get("Content-Type", "")).startswith("application/problem+json")


def error_of(response: httpx.Response) -> EmbedfleetError:
    """Return the error that an answer describes. Its body is in memory."""
    if not is_problem(response):
        return _of_a_stranger(response)
    return described(response.json())


def described(problem: Mapping[str, Any]) -> EmbedfleetError:
    """Return the error that a document of RFC 9457 describes, as the server makes them."""
    kind = getattr(errors, str(problem.get("type")), None)
    if not (isinstance(kind, type) and issubclass(kind, EmbedfleetError)):
        # A later release may know more errors.
        server = int(problem.get("status", _FIRST_SERVER_ERROR)) >= _FIRST_SERVER_ERROR
        kind = errors.ServerFailed if server else errors.InvalidRequest
    message = one_line(str(problem.get("detail", "the server gave no reason")))
    return kind(
        message, remedy=Remedy.from_code(problem.get("remedy")), **_particulars(kind, message, problem)
    )


def _particulars(kind: type[EmbedfleetError], message: str, problem: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the constructor of this error takes beside the message and the remedy."""
    if issubclass(kind, errors.InvalidRequest):
        return {"field": problem.get("field") or "", "reason": problem.get("reason") or message}
    if issubclass(kind, errors.QuotaExceeded):
        numbers = {name: problem.get(name) for name in ("limit", "used", "retry_after")}
        return {"name": problem.get("limit_name") or "", **numbers}
    if issubclass(kind, errors.Transient):
        return {"retry_after_seconds": float(problem.get("retry_after") or 0.0)}
    return {}


def _of_a_stranger(response: httpx.Response) -> EmbedfleetError:
    """Return the error of an answer that is none of the server's: of a proxy, or of another server."""
    where = response.request.url.copy_with(query=None)
    words = one_line(response.text)[:_LONGEST_EXCERPT]
    message = f"{where}: answered {response.status_code} ({words}): is an embedfleet server there?"
    if response.status_code >= _FIRST_SERVER_ERROR:
        return errors.ServerUnavailable(message)
    return errors.InvalidRequest(message)


def unreachable(address: str, exc: httpx.RequestError) -> EmbedfleetError:
    """Return the error of a request to which no answer came."""
    if isinstance(exc, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return errors.InvalidRequest(f"{address}: {one_line(exc)}: give an address such as http://host:8080")
    reason = one_line(exc) or type(exc).__name__
    return errors.ServerUnavailable(
        f"no answer from {address} ({reason}): look whether the server runs, and whether the address is right"
    )
