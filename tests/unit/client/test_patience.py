"""When a client sends a request again: never twice what must be done once, never earlier than asked."""

from __future__ import annotations

import httpx
import pytest

from embedfleet.client.patience import Patience
from embedfleet.client.steps import Ask
from embedfleet.errors import InvalidRequest

LOOK = Ask("GET", "/v1/jobs")
ACT = Ask("POST", "/v1/jobs/1:retry")
MAKE = Ask("POST", "/v1/jobs").once()
PROBLEM = {"Content-Type": "application/problem+json"}

Outcome = httpx.Response | httpx.RequestError


def said(status: int, after: str | None = None, *, ours: bool = True) -> httpx.Response:
    headers = dict(PROBLEM) if ours else {}
    return httpx.Response(status, headers=headers if after is None else headers | {"Retry-After": after})


REFUSED = httpx.ConnectError("refused")
CUT = httpx.ReadError("cut")
SILENT = httpx.ReadTimeout("silent")
WRONG = httpx.UnsupportedProtocol("ftp")


@pytest.mark.parametrize(
    ("ask", "outcome", "pause"),
    [
        (LOOK, said(503, "3"), 3.0),
        (ACT, said(503, "3"), 3.0),  # the server says that it did nothing
        (MAKE, said(409, "1"), 1.0),  # the first try is under way
        (MAKE, said(409), None),  # the key was used for another request
        (LOOK, said(429, "61"), None),  # longer than the patience lasts: the caller is told
        (LOOK, said(429, "0"), 0.2),  # never in a tight loop
        (LOOK, said(429, "Wed, 21 Oct 2026 07:28:00 GMT"), None),
        (LOOK, said(503), None),  # the server describes what is wrong, and asks for no other try
        (LOOK, said(502, ours=False), 0.2),
        (ACT, said(502, ours=False), None),
        (MAKE, said(504, ours=False), 0.2),
        (LOOK, said(500), None),
        (LOOK, said(404), None),
        (LOOK, REFUSED, 0.2),
        (ACT, REFUSED, 0.2),
        (LOOK, CUT, 0.2),
        (ACT, CUT, None),
        (MAKE, CUT, 0.2),
        (MAKE, SILENT, 0.2),
        (LOOK, WRONG, None),
    ],
)
def test_a_request_is_sent_again_only_if_it_does_no_harm(
    ask: Ask, outcome: Outcome, pause: float | None
) -> None:
    assert Patience().pause_seconds(ask, outcome, tried=1, paused=0.0) == pause


def test_pauses_double_up_to_a_limit() -> None:
    patience = Patience(tries=100, seconds=1000)

    pauses = [patience.pause_seconds(LOOK, REFUSED, tried=tried, paused=0.0) for tried in range(1, 8)]

    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_tries_and_pauses_are_counted() -> None:
    patience = Patience(tries=3, seconds=10)

    assert patience.pause_seconds(LOOK, said(503, "4"), tried=2, paused=6.0) == 4.0
    assert patience.pause_seconds(LOOK, said(503, "4"), tried=2, paused=6.1) is None
    assert patience.pause_seconds(LOOK, said(503, "4"), tried=3, paused=0.0) is None


def test_a_patience_without_a_try_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="tries is 0"):
        Patience(tries=0)
