"""The figures promised of fair queuing, through the broker's port and in virtual time: always the same."""

from __future__ import annotations

import asyncio

import pytest
from brokers import BROKERS
from fairness import BATCH, ONE_TASK, Claim, noisy_neighbour, weighted_shares


@pytest.mark.parametrize("claim", [ONE_TASK, BATCH], ids=["one task", "a batch"])
def test_a_noisy_neighbour_costs_a_quiet_tenant_one_batch_at_most(claim: Claim) -> None:
    measured = noisy_neighbour(BROKERS["memory"], claim, heap_chunks=10_000, seconds=100)
    figures = asyncio.run(measured)
    assert figures["p99_beside_noisy_seconds"] <= figures["bound_seconds"]
    assert figures["p99_in_fifo_seconds"] > 20 * figures["p99_beside_noisy_seconds"]


@pytest.mark.parametrize("claim", [ONE_TASK, BATCH], ids=["one task", "a batch"])
def test_weights_1_2_4_hold_while_workers_come_and_go(claim: Claim) -> None:
    figures = asyncio.run(weighted_shares(BROKERS["memory"], claim, seconds=200, seed=0))
    assert figures["largest_deviation_percent"] <= 2
    assert figures["weighted_jain"] >= 0.99
