"""Errors as RFC 9457 describes them: `application/problem+json`.

An error says the same as on the command line: `detail` is the message, and `remedy` names, as data, the
operation that helps. A defect is logged with a number, and the answer has only that number.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from loguru import logger
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from embedfleet import errors
from embedfleet.errors import EmbedfleetError, QuotaExceeded, Transient
from embedfleet.validation import plain_message

# The nearest class of an error in its tree counts.
_STATUSES: Mapping[type[EmbedfleetError], HTTPStatus] = {
    errors.InvalidRequest: HTTPStatus.BAD_REQUEST,
    errors.UnknownModel: HTTPStatus.BAD_REQUEST,
    errors.UnknownJob: HTTPStatus.NOT_FOUND,
    errors.UnknownDocument: HTTPStatus.NOT_FOUND,
    errors.UnknownDeadLetter: HTTPStatus.NOT_FOUND,
    errors.UnknownTenant: HTTPStatus.NOT_FOUND,
    errors.UnknownReceipt: HTTPStatus.NOT_FOUND,
    errors.UnknownShadow: HTTPStatus.NOT_FOUND,
    errors.UnknownSwitch: HTTPStatus.NOT_FOUND,
    errors.UnknownExperiment: HTTPStatus.NOT_FOUND,
    errors.UnknownImpression: HTTPStatus.NOT_FOUND,
    errors.KeyReused: HTTPStatus.CONFLICT,
    errors.RequestUnderWay: HTTPStatus.CONFLICT,
    errors.UnknownKey: HTTPStatus.NOT_FOUND,
    errors.ParseError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InputError: HTTPStatus.BAD_REQUEST,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.AccessDenied: HTTPStatus.FORBIDDEN,
    errors.QuotaExceeded: HTTPStatus.TOO_MANY_REQUESTS,
    errors.SpaceMismatch: HTTPStatus.CONFLICT,
    errors.PathRetired: HTTPStatus.CONFLICT,
    errors.NotReady: HTTPStatus.CONFLICT,
    errors.LeaseLost: HTTPStatus.CONFLICT,
    errors.StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.EmbedfleetError: HTTPStatus.SERVICE_UNAVAILABLE,
}
# A service that is away is usually back after some seconds.
_RETRY_AFTER_SECONDS = 5


class Problem(BaseModel):
    """Why a request was refused or failed."""

    type: str = Field(description="The kind of error, stable: the class of `embedfleet.errors` it is.")
    title: str = Field(description="The kind of error, for people.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What was wrong, where, and what to do: one line.")
    remedy: str | None = Field(default=None, description="The operation that helps, if one does.")
    field: str | None = Field(default=None, description="The path of the wrong field, if one is wrong.")
    limit_name: str | None = Field(
        default=None, description="Which limit is exceeded, by its name in the settings of a tier."
    )
    reason: str | None = Field(
        default=None, description="`detail` without the name of what is wrong, if it begins with one."
    )
    limit: int | None = Field(default=None, description="What is allowed, if a limit is exceeded.")
    used: int | None = Field(default=None, description="What is used of the limit.")
    retry_after: float | None = Field(
        default=None, description="Seconds after which another try may succeed; None: it cannot."
    )


def problem_response(problem: Problem, *, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the answer that has this problem as its body."""
    more = dict(headers or {})
    if problem.retry_after is not None:
        more["Retry-After"] = str(math.ceil(problem.retry_after))
    return JSONResponse(
        problem.model_dump(exclude_none=True),
        status_code=problem.status,
        media_type="application/problem+json",
        headers=more,
    )


def problem_of(exc: EmbedfleetError) -> Problem:
    """Return the description of an error of our tree."""
    more: dict[str, Any] = {}
    status = _status_of(exc)
    if isinstance(exc, errors.InvalidRequest):
        more["field"] = exc.field or None
        more["reason"] = exc.reason if exc.reason != str(exc) else None
    elif isinstance(exc, QuotaExceeded):
        more.update(limit_name=exc.name or None, limit=exc.limit, used=exc.used, retry_after=exc.retry_after)
        if exc.retry_after is None:  # too large at any time
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    elif isinstance(exc, Transient):
        more["retry_after"] = exc.retry_after_seconds or _RETRY_AFTER_SECONDS
    return Problem(
        type=type(exc).__name__,
        title=status.phrase,
        status=status,
        detail=errors.one_line(exc),
        remedy=exc.remedy,
        **more,
    )


def problem_of_http(exc: HTTPException) -> Problem:
    """Return the description of an error of the framework."""
    status = HTTPStatus(exc.status_code)
    return Problem(
        type=status.name.title().replace("_", ""), title=status.phrase, status=status, detail=str(exc.detail)
    )


def _status_of(exc: EmbedfleetError) -> HTTPStatus:
    return next(_STATUSES[kind] for kind in type(exc).__mro__ if kind in _STATUSES)


def responses(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Return what the OpenAPI document says of these errors of a route, beside those of every route."""
    every = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    late = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        int(status): {"description": status.phrase, "content": content}
        for status in (*every, *statuses, *late)
    }


def add_handlers(app: FastAPI) -> None:
    """Have every error of the application answered as a problem."""
    app.add_exception_handler(EmbedfleetError, _of_our_tree)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _of_defect)


def headers_of(exc: EmbedfleetError) -> dict[str, str]:
    """Return the headers of the answer to an error, beside `Retry-After`."""
    if isinstance(exc, errors.Unauthenticated):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(exc, QuotaExceeded) and exc.name == "daily_tokens":
        return {
            "x-ratelimit-limit-tokens": str(exc.limit),
            "x-ratelimit-remaining-tokens": str(max(exc.limit - exc.used, 0)),
            "x-ratelimit-reset-tokens": f"{math.ceil(exc.retry_after or 0.0)}s",
        }
    return {}


async def _of_our_tree(_request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, EmbedfleetError)
    return problem_response(problem_of(exc), headers=headers_of(exc))


async def _of_validation(_request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, RequestValidationError)
    return problem_response(problem_of_validation(exc))


def problem_of_validation(exc: RequestValidationError) -> Problem:
    """Return the description of a request that is not as the route wants it."""
    found = exc.errors()
    # An unknown name comes first: it is probably a misspelling of a field that is missing.
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    # The first name says where the value stood: in the body, the query, the path or the headers.
    field = ".".join(map(str, first["loc"][1:] or first["loc"]))
    status = HTTPStatus.BAD_REQUEST
    return Problem(
        type="InvalidRequest",
        title=status.phrase,
        status=status,
        detail=errors.one_line(f"{field}: {_message(first, found)}"),
        field=field,
    )


def _message(first: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> str:
    if first["type"] != "extra_forbidden":
        return plain_message(str(first["msg"]))
    missing = [str(one["loc"][-1]) for one in found if one["type"] == "missing"]
    known = f": {errors.hint(str(first['loc'][-1]), missing)}" if missing else ""
    return f"no field has this name{known}"


async def _of_http(_request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, HTTPException)
    return problem_response(problem_of_http(exc), headers=exc.headers)


async def _of_defect(request: Request, exc: Exception) -> JSONResponse:
    return problem_response(problem_of_defect(request, exc))


def problem_of_defect(request: Request, exc: Exception) -> Problem:
    """Log a defect, and return a description that has only its number in the log."""
    number = secrets.token_hex(6)
    logger.opt(exception=exc).error("defect {} in {} {}", number, request.method, request.scope.get("route"))
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    detail = f"a defect of the server; its log has more under the number {number}"
    return Problem(type="Defect", title=status.phrase, status=status, detail=detail)
