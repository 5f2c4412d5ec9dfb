"""Keeps the leases of a claim while the work on it takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from embedfleet.queue.broker import Broker, Lease

if TYPE_CHECKING:
    from loguru import Logger

# Renewing three times a lease survives two lost renewals.
_RENEWALS_PER_LEASE = 3


@asynccontextmanager
async def leases_renewed(
    broker: Broker, leases: Sequence[Lease], *, lease_seconds: float, name: str, log: Logger
) -> AsyncIterator[None]:
    """Renew the leases, each for `lease_seconds` at a time, until the end of the block.

    A task of its own does it: a lease must not depend on how long the work takes. `name` is the claiming
    loop. A lease that is lost is found out when its task is settled.
    """
    renewing = asyncio.create_task(_renew(broker, list(leases), lease_seconds, log), name=f"{name}-leases")
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)


async def _renew(broker: Broker, held: list[Lease], lease_seconds: float, log: Logger) -> None:
    """Until no lease is left: one that another worker has by now is not renewed again."""
    while held:
        await asyncio.sleep(lease_seconds / _RENEWALS_PER_LEASE)
        try:
            held = await broker.renew(held, lease_seconds=lease_seconds)
        except Exception as exc:  # noqa: BLE001 - to stop renewing would be to lose the leases
            log.warning("leases could not be renewed: {!r}", exc)
