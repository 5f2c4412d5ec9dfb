"""Sends requests again until they are answered. All of it is steps: it waits for nothing itself."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any, TypeVar

import httpx

from embedfleet.client.patience import Patience
from embedfleet.client.problems import error_of, unreachable
from embedfleet.client.steps import Ask, Open, Pause, Step, Steps
from embedfleet.errors import EmbedfleetError

T = TypeVar("T")
StepT = TypeVar("StepT")


def with_patience(operation: Generator[StepT, Any, T], patience: Patience) -> Generator[StepT | Step, Any, T]:
    """Take an operation in which every request is answered well. An error is raised where it asked."""
    go_on = partial(next, operation)
    try:
        while True:
            try:
                step = go_on()
            except StopIteration as end:
                result: T = end.value
                return result
            if not isinstance(step, Ask | Open):
                go_on = partial(operation.send, (yield step))
                continue
            try:
                go_on = partial(operation.send, (yield from _answered(step, patience)))
            except EmbedfleetError as exc:
                go_on = partial(operation.throw, exc)
    finally:
        operation.close()


def _answered(step: Ask | Open, patience: Patience) -> Steps[httpx.Response]:
    """Send a request until it is answered well, as long as the patience lasts.

    Raises the error that the last answer describes, or ServerUnavailable without one.
    """
    ask = step.ask if isinstance(step, Open) else step
    tried, paused = 0, 0.0
    while True:
        outcome: httpx.Response | httpx.RequestError = yield step
        if isinstance(outcome, httpx.Response) and outcome.is_success:
            return outcome
        tried += 1
        pause = patience.pause_seconds(ask, outcome, tried=tried, paused=paused)
        if pause is None and isinstance(outcome, httpx.Response):
            raise error_of(outcome)
        if pause is None:
            assert isinstance(outcome, httpx.RequestError)
            raise unreachable(str(outcome.request.url.copy_with(query=None)), outcome) from outcome
        yield Pause(pause)
        paused += pause
