"""The traffic and the shadow runs of a server's system, through its HTTP API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING

from embedfleet.traffic.administration import WINDOW_SECONDS

if TYPE_CHECKING:
    from embedfleet.client import AsyncClient
    from embedfleet.records.cursors import Page
    from embedfleet.traffic.orders import StickyBy
    from embedfleet.traffic.schemas import TrafficChange, TrafficStatus
    from embedfleet.traffic.shadow_schemas import ShadowInfo, ShadowRule
    from embedfleet.traffic.state import TrafficState


class ServedTraffic:
    """Gives the operations of a client the names that they have beside the database."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def show(self, *, window_seconds: float = WINDOW_SECONDS) -> TrafficStatus:
        return await self._client.traffic_status(window_seconds=window_seconds)

    async def set(
        self,
        *,
        percent: float | None = None,
        sticky_by: StickyBy | None = None,
        allow_tenants: Iterable[str] | None = None,
        deny_tenants: Iterable[str] | None = None,
        allow_content_types: Iterable[str] | None = None,
        deny_content_types: Iterable[str] | None = None,
        reason: str | None = None,
        expected_change_id: int | None = None,
    ) -> TrafficState:
        return await self._client.set_traffic(
            percent=percent,
            sticky_by=sticky_by,
            allow_tenants=allow_tenants,
            deny_tenants=deny_tenants,
            allow_content_types=allow_content_types,
            deny_content_types=deny_content_types,
            reason=reason,
            expected_change_id=expected_change_id,
        )

    async def plan(
        self,
        steps: Sequence[float],
        *,
        hold_seconds: float,
        max_error_rate: float,
        max_p99_ratio: float,
        reason: str | None = None,
    ) -> TrafficState:
        return await self._client.plan_traffic(
            steps,
            hold_seconds=hold_seconds,
            max_error_rate=max_error_rate,
            max_p99_ratio=max_p99_ratio,
            reason=reason,
        )

    async def pause(self, *, reason: str | None = None) -> TrafficState:
        return await self._client.pause_traffic(reason=reason)

    async def resume(self, *, reason: str | None = None) -> TrafficState:
        return await self._client.resume_traffic(reason=reason)

    async def rollback(self, *, reason: str | None = None) -> TrafficState:
        return await self._client.rollback_traffic(reason=reason)

    async def retire(
        self, *, after_seconds: float, restorable_seconds: float, reason: str | None = None
    ) -> TrafficState:
        return await self._client.retire_old_path(
            after_seconds=after_seconds, restorable_seconds=restorable_seconds, reason=reason
        )

    async def restore(self, *, reason: str | None = None) -> TrafficState:
        return await self._client.restore_old_path(reason=reason)

    async def history(self, *, limit: int = 100, after: str | None = None) -> Page[TrafficChange]:
        return await self._client.traffic_history(limit=limit, after=after)

    def follow(self, *, after: int = 0) -> AsyncIterator[TrafficChange]:
        return self._client.follow_traffic(after=after)


class ServedShadows:
    """Gives the operations of a client the names that they have beside the database."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def begin(self, *, owner: str, rule: ShadowRule, expires_seconds: float) -> ShadowInfo:
        return await self._client.begin_shadow(owner=owner, rule=rule, expires_seconds=expires_seconds)

    async def end(self, shadow_id: str) -> ShadowInfo:
        return await self._client.end_shadow(shadow_id)

    async def show(self, shadow_id: str) -> ShadowInfo:
        return await self._client.get_shadow(shadow_id)

    async def list_shadows(self, *, limit: int = 100, after: str | None = None) -> Page[ShadowInfo]:
        return await self._client.list_shadows(limit=limit, after=after)
