"""The door to tenants, keys and usage that the commands `tenants`, `keys`, `usage` and `audit` go through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from embedfleet.cli.systems.opening import with_system

if TYPE_CHECKING:
    from embedfleet.cli.place import Place
    from embedfleet.cli.systems.port import Administration, OperatorAdministration, System

T = TypeVar("T")


def with_administration(place: Place, act: Callable[[OperatorAdministration], Awaitable[T]]) -> T:
    """Run `act` as the operator of this machine, or as whose API key it is; returns what it returns."""

    async def run(system: System) -> T:
        return await act(await system.administration())

    return with_system(place, run)


def within(door: OperatorAdministration, tenant: str | None) -> Administration:
    """What `--tenant` selects: that tenant's, or every tenant's if the option is not given."""
    return door if tenant is None else door.of(tenant)
