"""The door to tenants, keys and usage that the commands `tenants`, `keys`, `usage` and `audit` go through."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from embedfleet.cli.options import settings_from

if TYPE_CHECKING:
    from pathlib import Path

    from embedfleet.administration.operator_administration import OperatorAdministration
    from embedfleet.administration.scoped_administration import Administration

T = TypeVar("T")


def with_administration(
    data_dir: Path | None, config: Path | None, act: Callable[[OperatorAdministration], Awaitable[T]]
) -> T:
    """Run `act` as the operator of this machine; returns what it returns."""
    from embedfleet.administration.operator_administration import OperatorAdministration
    from embedfleet.administration.scoped_administration import LOCAL
    from embedfleet.bootstrap import open_guest
    from embedfleet.clock import SystemClock

    async def run() -> T:
        async with open_guest(settings_from(data_dir, config)) as guest:
            door = OperatorAdministration(guest.database, SystemClock(), guest.settings, actor=LOCAL)
            return await act(door)

    return asyncio.run(run())


def within(door: OperatorAdministration, tenant: str | None) -> Administration:
    """What `--tenant` selects: that tenant's, or every tenant's if the option is not given."""
    return door if tenant is None else door.of(tenant)
