"""Renews the leases of a claim while its tasks are at work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from embedfleet.queue.broker import Broker, Lease
from embedfleet.waiting import cancel_and_wait

if TYPE_CHECKING:
    from loguru import Logger

# With three renewals in the length of a lease, two may be lost.
_RENEWALS_PER_LEASE = 3


@asynccontextmanager
async def leases_renewed(
    broker: Broker, leases: Sequence[Lease], *, lease_seconds: float, name: str, log: Logger
) -> AsyncIterator[None]:
    """Renew the leases until the end of the block, each time for `lease_seconds` from then.

    An asyncio task renews them beside the work, because the work may take longer than a lease. `name` is the
    name of the claiming loop. A lost lease is noticed when its task is settled.
    """
    renewing = asyncio.create_task(_renew(broker, list(leases), lease_seconds, log), name=f"{name}-leases")
    try:
        yield
    finally:
        await cancel_and_wait(renewing)


async def _renew(broker: Broker, held: list[Lease], lease_seconds: float, log: Logger) -> None:
    """Renew the leases until none holds. A lease that was lost is not renewed again."""
    while held:
        await asyncio.sleep(lease_seconds / _RENEWALS_PER_LEASE)
        try:
            held = await broker.renew(held, lease_seconds=lease_seconds)
        except Exception as exc:  # noqa: BLE001 - if this task ended, every lease would be lost
            log.warning("leases could not be renewed: {!r}", exc)
