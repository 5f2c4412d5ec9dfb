"""The switches to other models of a server's system, through its HTTP API."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedfleet.client import AsyncClient
    from embedfleet.model_switching.schemas import (
        SwitchesBegun,
        SwitchesOrdered,
        SwitchEstimate,
        SwitchInfo,
    )
    from embedfleet.model_switching.selection import Selection
    from embedfleet.records.cursors import Page


class ServedSwitches:
    """Gives the operations of a client the names that they have beside the database."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def estimate(
        self, selection: Selection, *, to_model: str, from_model: str | None = None
    ) -> SwitchEstimate:
        return await self._client.estimate_switches(selection, to_model=to_model, from_model=from_model)

    async def begin(
        self,
        selection: Selection,
        *,
        to_model: str,
        from_model: str | None = None,
        percent: float = 100.0,
        most_jobs: int | None = None,
        force: bool = False,
    ) -> SwitchesBegun:
        return await self._client.begin_switches(
            selection,
            to_model=to_model,
            from_model=from_model,
            percent=percent,
            most_jobs=most_jobs,
            force=force,
        )

    async def show(self, switch_id: int) -> SwitchInfo:
        return await self._client.get_switch(switch_id)

    async def list_switches(
        self,
        *,
        tenant: str | None = None,
        campaign: str | None = None,
        ended: bool = False,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[SwitchInfo]:
        return await self._client.list_switches(
            tenant=tenant, campaign=campaign, ended=ended, limit=limit, after=after
        )

    async def pause(self, selection: Selection) -> SwitchesOrdered:
        return await self._client.pause_switches(selection)

    async def resume(self, selection: Selection) -> SwitchesOrdered:
        return await self._client.resume_switches(selection)

    async def throttle(self, selection: Selection, *, most_jobs: int | None) -> SwitchesOrdered:
        return await self._client.throttle_switches(selection, most_jobs=most_jobs)

    async def serve(self, selection: Selection, *, percent: float) -> SwitchesOrdered:
        return await self._client.serve_switches(selection, percent=percent)

    async def rollback(self, selection: Selection) -> SwitchesOrdered:
        return await self._client.roll_back_switches(selection)

    async def force(self, selection: Selection) -> SwitchesOrdered:
        return await self._client.force_switches(selection)

    async def recheck(self, selection: Selection) -> SwitchesOrdered:
        return await self._client.recheck_switches(selection)

    async def retire(self, selection: Selection, *, force: bool = False) -> SwitchesOrdered:
        return await self._client.retire_switches(selection, force=force)
