"""The duty that finishes deletions: it deletes tenants, searches for what is left, and completes receipts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import ClassVar

from loguru import logger

from embedfleet.clock import Clock
from embedfleet.leader.beyond_reach import Outside, backups_of, notes
from embedfleet.leader.leftover_search import Found, LeftoverSearch
from embedfleet.leader.service import LeaderDuty
from embedfleet.leader.waiting_work import WaitingWork
from embedfleet.lifecycle import erasing
from embedfleet.records import backups, collections, documents, receipts, store_moves, views
from embedfleet.records.receipts import ReceiptRow, Searched
from embedfleet.sql.database import Database
from embedfleet.vectors.port import VectorStore

ROUND_SECONDS = 1.0
"""The least time between two rounds of searches. Each has the vector store write its index, so the deletions
of a folder share a few rounds."""

# Receipts that one step looks at: a search for many of a tenant reads its events once.
_AT_ONCE = 200
# A worker acks its deletion task just after it has dropped the rows. So a search that finds something looks
# again this often, with this pause, before it is told.
_SEARCHES = 10
_PAUSE_SECONDS = 0.05
# A worker acks the deletion tasks of a claim together, and a view follows soon: this may take so long. Until
# then, a receipt whose document is left only there stays pending, and is searched again after a second.
_CLAIM_SECONDS = 30.0
_IN_HAND_AGAIN_SECONDS = 1.0
# What was left then is searched again after this time, as an operator has to look into it.
_SEARCH_AGAIN_SECONDS = 5.0
# A move deletes from its other store after a page, or after the last look has rested.
_MOVE_AGAIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Told:
    """What a search found for a receipt, to be written."""

    row: ReceiptRow
    found: Found
    submitted_again: bool

    @property
    def finished(self) -> bool:
        return self.submitted_again or self.found.nothing


class Erasure(LeaderDuty):
    """Finishes the receipts of deletions. Two leaders at once do the same searches, which does no harm."""

    name: ClassVar = "erasure"
    works_again: ClassVar = "deletions are searched again for what is left"
    stops_in_mid_step: ClassVar = True  # every part of a step may be repeated

    def __init__(
        self,
        search: LeftoverSearch,
        waiting: WaitingWork,
        *,
        database: Database,
        store: VectorStore,
        clock: Clock,
        outside: Outside,
    ) -> None:
        self._search = search
        self._waiting = waiting
        self._database = database
        self._store = store
        self._clock = clock
        self._outside = outside
        # When to search again for what was left, by receipt.
        self._not_before: dict[str, float] = {}
        # Since when each of these receipts is searched for: queues and views alone had their documents.
        self._in_hand: dict[str, float] = {}

    async def step(self) -> None:
        if not (await self._waiting.now()).receipts:
            self._not_before.clear()
            self._in_hand.clear()
            return
        for row in await self._database.read(lambda conn: receipts.open_of_tenants(conn, _AT_ONCE)):
            if row.receipt_id not in self._resting():
                await self._delete_tenant(row)
        ready = await self._database.read(
            lambda conn: receipts.ready_of_documents(conn, _AT_ONCE, leaving_out=self._resting())
        )
        if ready:
            await self._search.forget_deleted({row.tenant for row in ready})
        ready.sort(key=lambda row: row.tenant)
        for tenant, rows in groupby(ready, key=lambda row: row.tenant):
            await self._finish_documents(tenant, list(rows))

    def _resting(self) -> Sequence[str]:
        now = self._clock.now()
        return [receipt_id for receipt_id, until in self._not_before.items() if now < until]

    # --- documents ---

    async def _finish_documents(self, tenant: str, rows: Sequence[ReceiptRow]) -> None:
        """Search for these documents of a tenant, whose rows are forgotten, and record what was found."""
        there = await self._there_again(rows)
        open_rows = {row.receipt_id: row for row in rows}
        for last in range(_SEARCHES, 0, -1):
            found = await self._search.of_documents(tenant, list(open_rows.values()))
            told = [
                _Told(open_rows.pop(receipt_id), one, submitted_again=receipt_id in there)
                for receipt_id, one in found.items()
                if receipt_id in there
                or one.nothing
                or (last == 1 and not self._may_be_in_hand(receipt_id, one))
            ]
            await self._record(told)
            if not open_rows:
                return
            await asyncio.sleep(_PAUSE_SECONDS)

    def _may_be_in_hand(self, receipt_id: str, found: Found) -> bool:
        """Whether a worker or a view may just have in hand what was found. It is then searched again soon."""
        if not found.in_hand_only:
            return False
        now = self._clock.now()
        if now >= self._in_hand.setdefault(receipt_id, now) + _CLAIM_SECONDS:
            return False
        self._not_before[receipt_id] = now + _IN_HAND_AGAIN_SECONDS
        return True

    async def _there_again(self, rows: Sequence[ReceiptRow]) -> set[str]:
        """Return the receipts whose documents were submitted again since."""
        by_document = {row.document_id: row.receipt_id for row in rows if row.document_id is not None}
        there = await self._database.read(lambda conn: documents.existing_among(conn, list(by_document)))
        return {row.receipt_id for row in rows if row.document_id in there}

    # --- tenants ---

    async def _delete_tenant(self, row: ReceiptRow) -> None:
        """Take the next steps of the deletion of a tenant, as far as they go now."""
        hidden: ReceiptRow | None = row
        while hidden is not None:
            row = hidden
            hidden = await self._database.write(partial(erasing.hide_some, row=row, now=self._clock.now()))
        if await self._database.read(lambda conn: documents.any_not_deleted_of_tenant(conn, row.tenant)):
            await self._record([_Told(row, await self._search.of_tenant(row), submitted_again=True)])
            return
        if await self._database.read(lambda conn: documents.any_of_tenant(conn, row.tenant)):
            return  # the deletion workers are at it, and their last write brings another step
        if await self._database.read(lambda conn: views.any_of_tenant(conn, row.tenant)):
            return  # the views still have its documents; each write of theirs brings another step
        if await self._database.read(lambda conn: store_moves.any_copies_of_tenant(conn, row.tenant)):
            return  # so has the other store of a move of the vectors
        row = await self._drop_collections(row)
        await self._search.forget_deleted({row.tenant})
        if not await self._database.write(partial(erasing.drop_rest, tenant=row.tenant)):
            return
        await self._search.forget_tenant(row.tenant)
        await self._record([_Told(row, await self._search.of_tenant(row), submitted_again=False)])

    async def _drop_collections(self, row: ReceiptRow) -> ReceiptRow:
        """Drop the tenant's empty collections in the vector store, after a note of their names.

        A collection that still has rows stays: they are left, and the receipt has to say so.
        """
        mine = await self._database.read(lambda conn: collections.of_tenant(conn, row.tenant))
        known = [(space, dim) for space, dim in row.findings.spaces]
        spaces = {*known, *((one.space, one.dim) for one in mine)}
        row = replace(row, findings=replace(row.findings, spaces=sorted(spaces)))
        noted = Searched(row.receipt_id, row.findings)
        await self._database.write(lambda conn: receipts.record(conn, [noted]))
        for collection in mine:
            if await self._store.count(collection) == 0:
                await self._store.drop_collection(collection)
        return row

    # --- receipts ---

    async def _record(self, told: Sequence[_Told]) -> None:
        now = self._clock.now()
        made, left = await self._database.read(lambda conn: (backups.made(conn), store_moves.left(conn)))
        searched = [self._searched(one, made, left, now) for one in told]
        await self._database.write(lambda conn: receipts.record(conn, searched))
        for one in told:
            if one.finished:
                self._not_before.pop(one.row.receipt_id, None)
                self._in_hand.pop(one.row.receipt_id, None)
            else:
                pause = _MOVE_AGAIN_SECONDS if one.found.waits_for_move else _SEARCH_AGAIN_SECONDS
                self._not_before[one.row.receipt_id] = now + pause
                _warn(one.row, one.found)

    def _searched(
        self, told: _Told, made: Mapping[str, datetime], left: Sequence[tuple[str, float]], now: float
    ) -> Searched:
        """Return what is written of a search. `made` are the backups there are, `left` is as in `notes`."""
        row = told.row
        hold_it = backups_of(made, row.findings.since, now)
        findings = replace(
            row.findings,
            left=dict(told.found.left),
            kept=dict(told.found.kept),
            searched_at=now,
            submitted_again=told.submitted_again,
            backups=hold_it,
            beyond=notes(
                self._outside,
                hold_it,
                [place for place, ended_at in left if ended_at >= row.findings.since],
                finished_at=now,
                not_forgotten=self._store.not_forgotten(),
                whole_tenant=row.media_id is None,
            ),
        )
        return Searched(row.receipt_id, findings, now if told.finished else None)


def _warn(row: ReceiptRow, found: Found) -> None:
    log = logger.bind(tenant=row.tenant)
    if found.waits_for_move:
        log.info("receipt {} waits until the move of the vectors has deleted its rows there", row.receipt_id)
        return
    places = ", ".join(f"{count} in {place}" for place, count in found.left.items() if count)
    log.warning("receipt {}: what was deleted left {}; verify the vector store", row.receipt_id, places)
