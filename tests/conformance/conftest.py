"""Fixtures of the conformance suites."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from embedfleet.clock import ManualClock
from embedfleet.queue.broker import (
    Broker,
)
from support.brokers import BROKERS, ONE_OF_SEVERAL, SPREAD
from support.stores import ON_S3, STORES, StorePlace


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test over all brokers. What holds within a shard is tested in one of several shards."""
    if "broker" in metafunc.fixturenames:
        of_one_shard = metafunc.definition.get_closest_marker("of_one_shard") is not None
        left_out = SPREAD if of_one_shard else ONE_OF_SEVERAL
        metafunc.parametrize("broker", [name for name in BROKERS if name != left_out], indirect=True)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Each call of a store on S3 takes some requests, so most tests of it are slow."""
    place = item.callspec.params.get("place") if hasattr(item, "callspec") else None
    if place == ON_S3 and item.get_closest_marker("on_s3_too") is None:
        item.add_marker(pytest.mark.slow)


@pytest.fixture
async def broker(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Broker]:
    broker = await BROKERS[request.param](request, clock)
    yield broker
    await broker.close()


@pytest.fixture(params=STORES)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> StorePlace:
    """Where no vector store is yet. A test may be parametrized indirectly for some kinds only."""
    return await STORES[request.param](request, tmp_path)
