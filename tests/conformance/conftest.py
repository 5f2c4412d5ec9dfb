"""Fixtures of the conformance suites."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from embedfleet.clock import ManualClock
from embedfleet.queue.broker import (
    Broker,
)
from support.brokers import BROKERS


@pytest.fixture(params=BROKERS)
async def broker(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Broker]:
    broker = await BROKERS[request.param](request, clock)
    yield broker
    await broker.close()
