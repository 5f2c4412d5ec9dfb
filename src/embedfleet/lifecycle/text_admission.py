"""Admits texts that are embedded without a job: the tenant's limits, and its usage, in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.quota import Amount, Refusal, Usage, limits_of, refusal, seconds_to_next_day
from embedfleet.records import tenants, usage
from embedfleet.records.usage import Line
from embedfleet.settings import TenantsSettings
from embedfleet.sql.database import Database


@dataclass(frozen=True, slots=True)
class Admitted:
    """Texts that were admitted at `at`.

    `limit` is the tenant's limit of tokens a day (UTC), `remaining` what is left of it, and `reset_seconds`
    the time until it counts from zero again. `limit` is None if there is none.
    """

    line: Line
    amount: Amount
    at: float
    limit: int | None
    remaining: int
    reset_seconds: float


class TextAdmission:
    """Admits texts, and adds them to the ledger.

    Requests that come while a transaction is under way share the next one, so that their number is not
    bounded by that of transactions on one row.
    """

    def __init__(self, database: Database, clock: Clock, settings: TenantsSettings) -> None:
        self._database = database
        self._clock = clock
        self._settings = settings
        self._wishes: list[_Wish] = []
        self._writing: asyncio.Task[None] | None = None

    async def admit(self, line: Line, amount: Amount) -> Admitted:
        """Add the amount to the tenant's usage. Raises QuotaExceeded, and then adds nothing."""
        wish = _Wish(line, amount, asyncio.get_running_loop().create_future())
        self._wishes.append(wish)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(), name="admit texts")
        verdict = await wish.verdict
        if isinstance(verdict, Refusal):
            raise verdict.error(f"tenant `{line.tenant}`")
        return verdict

    async def give_back(self, admitted: Admitted) -> None:
        """Take the amount out of the usage again: the texts could not be embedded."""
        amount = admitted.amount
        less = Amount(chars=-amount.chars, bytes=-amount.bytes, tokens=-amount.tokens, texts=-amount.texts)
        await self._database.write(partial(usage.reserve, amounts={admitted.line: less}, now=admitted.at))

    async def _write(self) -> None:
        # There is no await between the last look and the end: a wish that comes later begins another loop.
        while self._wishes:
            wishes, self._wishes = self._wishes, []
            try:
                verdicts = await self._database.write(
                    partial(self._decide, wishes=wishes, now=self._clock.now())
                )
            except Exception as exc:  # noqa: BLE001 - whatever it is, those who wait must hear of it
                for wish in wishes:
                    if not wish.verdict.done():
                        wish.verdict.set_exception(exc)
                continue
            for wish, verdict in zip(wishes, verdicts, strict=True):
                if not wish.verdict.done():
                    wish.verdict.set_result(verdict)

    def _decide(self, conn: Connection, wishes: Sequence[_Wish], now: float) -> list[Admitted | Refusal]:
        """Decide on the wishes, in order. Each counts for those after it."""
        names = sorted({wish.line.tenant for wish in wishes})
        tenants.lock(conn, names)
        today = usage.of_day(conn, names, now)
        rows = tenants.get_many(conn, names)
        limits = {name: limits_of(self._settings, rows[name].tier, rows[name].limits) for name in names}
        added: dict[Line, Amount] = {}
        verdicts: list[Admitted | Refusal] = []
        for wish in wishes:
            name, used = wish.line.tenant, today.get(wish.line.tenant, Amount())
            refused = refusal(limits[name], Usage(0, used), wish.amount, now)
            if refused is not None:
                verdicts.append(refused)
                continue
            used = today[name] = used + wish.amount
            added[wish.line] = added.get(wish.line, Amount()) + wish.amount
            limit = limits[name].values.daily_tokens
            remaining = 0 if limit is None else limit - used.tokens
            verdicts.append(Admitted(wish.line, wish.amount, now, limit, remaining, seconds_to_next_day(now)))
        usage.reserve(conn, added, now)
        return verdicts


@dataclass(frozen=True, slots=True, eq=False)
class _Wish:
    line: Line
    amount: Amount
    verdict: asyncio.Future[Admitted | Refusal]
