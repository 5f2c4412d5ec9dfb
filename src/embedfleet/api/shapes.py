"""Errors in the form of another API, for the routes that are made as that API has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from embedfleet.api.embedding import ClientGone
from embedfleet.api.problems import (
    Problem,
    problem_of,
    problem_of_defect,
    problem_of_http,
    problem_of_validation,
)
from embedfleet.errors import EmbedfleetError

# What nginx logs for a client that has closed its connection. Nothing reads the answer.
_CLIENT_GONE = 499
# A pause before another try, where the error says none: clients try again at once without it.
_RETRY_AFTER_SECONDS = 5.0

ErrorBody = Callable[[Problem], BaseModel]
"""Makes the body of an answer out of a problem."""


def shaped_route(body_of: ErrorBody) -> type[APIRoute]:
    """Return the class of routes whose errors have this body."""

    class ShapedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def shaped(request: Request) -> Response:
                headers: Mapping[str, str] | None = None
                try:
                    return await handle(request)
                except ClientGone:
                    return Response(status_code=_CLIENT_GONE)
                except EmbedfleetError as exc:
                    problem = problem_of(exc)
                except RequestValidationError as exc:
                    problem = problem_of_validation(exc)
                except HTTPException as exc:
                    problem, headers = problem_of_http(exc), exc.headers
                except Exception as exc:  # noqa: BLE001 - a defect, too, is told in the form of the route
                    problem = problem_of_defect(request, exc)
                return _answer(problem, body_of, headers)

            return shaped

    return ShapedRoute


def _answer(problem: Problem, body_of: ErrorBody, headers: Mapping[str, str] | None) -> JSONResponse:
    more = dict(headers or {})
    retry_after = problem.retry_after
    if retry_after is None and problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        retry_after = _RETRY_AFTER_SECONDS
    if retry_after is not None:
        more["Retry-After"] = str(math.ceil(retry_after))
    if problem.status == HTTPStatus.UNAUTHORIZED:
        more["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body_of(problem).model_dump(mode="json"), problem.status, more)


def responses_in_shape(body: type[BaseModel], *statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Return what the OpenAPI document says of the errors of such a route."""
    every = (
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
    )
    return {
        int(status): {"description": status.phrase, "model": body} for status in sorted({*every, *statuses})
    }
