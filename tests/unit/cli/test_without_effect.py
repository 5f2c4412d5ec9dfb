"""Settings that the launcher of a host does not read are named when it starts."""

from __future__ import annotations

import asyncio

import pytest
from loguru import logger

from embedfleet.cli.serve import opened
from embedfleet.settings import load_settings


@pytest.mark.parametrize(
    ("launcher", "named"),
    [("process", ["worker_pools.embedding.resources", "ray.address"]), ("ray", [])],
)
async def test_what_ray_alone_reads_is_named_by_every_other_launcher(launcher: str, named: list[str]) -> None:
    """`serve` and `serve-workers` open their system by the same call."""
    settings = load_settings(
        environ={},
        overrides={
            "orchestrator": {"launcher": launcher},
            "ray": {"address": "head:6379"},
            "worker_pools": {"embedding": {"resources": {"num_gpus": 1}}},
        },
    )
    said: list[str] = []
    sink = logger.add(lambda message: said.append(message.record["message"]), level="WARNING")
    stopped = asyncio.Event()
    stopped.set()  # so that nothing is opened
    try:
        async with opened(settings, stopped, purpose="test", wait=False) as owner:
            assert owner is None
    finally:
        logger.remove(sink)
    assert [line.split("`")[1] for line in said] == named
