"""An error crosses the API whole: the client raises what a caller in the server's process would have met."""

from __future__ import annotations

import inspect
from typing import Any

import httpx
import pytest

from embedfleet import errors
from embedfleet.api.problems import problem_of, problem_response
from embedfleet.client.problems import described, error_of, unreachable
from embedfleet.errors import EmbedfleetError, Remedy

KINDS = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, EmbedfleetError) and kind.__module__ == errors.__name__
]
PARTICULARS: dict[type[EmbedfleetError], dict[str, Any]] = {
    errors.InvalidRequest: {"field": "chunking.overlap", "reason": "is too long"},
    errors.QuotaExceeded: {"name": "daily_tokens", "limit": 100, "used": 90, "retry_after": 12.5},
    errors.Transient: {"retry_after_seconds": 7.0},
}


def made(kind: type[EmbedfleetError]) -> EmbedfleetError:
    """An error of this kind that has everything that it can have."""
    more = next((PARTICULARS[one] for one in kind.__mro__ if one in PARTICULARS), {})
    return kind("chunking.overlap: is too long", remedy=Remedy.EXAMINE, **more)


def crossed(error: EmbedfleetError) -> EmbedfleetError:
    answer = problem_response(problem_of(error))
    return error_of(
        httpx.Response(answer.status_code, headers=dict(answer.headers), content=bytes(answer.body))
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_of_our_tree_crosses_whole(kind: type[EmbedfleetError]) -> None:
    error = made(kind)

    again = crossed(error)

    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_a_request_that_is_too_large_at_any_time_stays_so() -> None:
    again = crossed(errors.QuotaExceeded("too large", limit=1, used=0, retry_after=None))

    assert isinstance(again, errors.QuotaExceeded)
    assert again.retry_after is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, errors.InvalidRequest), (500, errors.ServerFailed), (503, errors.ServerFailed)],
)
def test_an_error_of_a_later_release_is_told_by_its_status(status: int, kind: type[EmbedfleetError]) -> None:
    again = described({"type": "Novelty", "status": status, "detail": "new", "remedy": "dance"})

    assert type(again) is kind
    assert str(again) == "new"
    assert again.remedy is None


@pytest.mark.parametrize(("status", "kind"), [(404, errors.InvalidRequest), (502, errors.ServerUnavailable)])
def test_the_answer_of_a_proxy_is_told_with_its_place_and_without_the_query(
    status: int, kind: type[EmbedfleetError]
) -> None:
    request = httpx.Request("GET", "http://here/v1/jobs?after=secret")
    response = httpx.Response(status, html="<h1>Bad\nGateway</h1>", request=request)

    error = error_of(response)

    assert type(error) is kind
    assert str(error) == (
        f"http://here/v1/jobs: answered {status} (<h1>Bad Gateway</h1>): is an embedfleet server there?"
    )


def test_no_answer_is_told_with_its_reason() -> None:
    error = unreachable("http://here", httpx.ConnectError("[Errno 111] Connection refused"))

    assert isinstance(error, errors.ServerUnavailable)
    assert "[Errno 111] Connection refused" in str(error)
