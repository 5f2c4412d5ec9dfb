"""Texts that are embedded without a job count for the tenant's limits, whichever process admits them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from embedfleet.clock import ManualClock
from embedfleet.errors import QuotaExceeded
from embedfleet.lifecycle.text_admission import TextAdmission
from embedfleet.quota import Amount
from embedfleet.records import usage
from embedfleet.records.scope import OneTenant
from embedfleet.records.usage import Line
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.sql.opening import open_database
from support.system import Configure

LIMIT = {"tiers": {"free": {"daily_tokens": 100}}}


@pytest.fixture
def settings(configure: Configure) -> Settings:
    return configure(tenants=LIMIT)


async def opened(stack: AsyncExitStack, settings: Settings) -> Database:
    database = open_database(settings)
    stack.push_async_callback(database.close)
    await database.open()
    return database


async def tokens_counted(database: Database, tenant: str) -> list[tuple[str, int, int]]:
    rows = await database.read(
        lambda conn: usage.between(conn, OneTenant(tenant), "1970-01-01", "9999-12-31")
    )
    return [(line.api_key, amount.tokens, amount.texts) for _, line, amount in rows]


async def test_64_requests_at_two_processes_never_exceed_the_limit(
    settings: Settings, database_url: str
) -> None:
    async with AsyncExitStack() as stack:
        databases = [await opened(stack, settings) for _ in range(2)]
        # Each shares a transaction among the requests that wait, so many of them make many transactions.
        processes = [TextAdmission(databases[n % 2], ManualClock(), settings.tenants) for n in range(32)]
        verdicts = await asyncio.gather(
            *(
                processes[n % 32].admit(Line("acme", "stub", f"key{n % 3}"), Amount(texts=1, tokens=3))
                for n in range(64)
            ),
            return_exceptions=True,
        )
        refused = [one for one in verdicts if isinstance(one, QuotaExceeded)]
        assert len(refused) == 64 - 33, verdicts
        assert {one.name for one in refused} == {"daily_tokens"}
        assert {one.limit for one in refused} == {100}
        counted = await tokens_counted(databases[0], "acme")
        assert sum(tokens for _, tokens, _ in counted) == 99
        assert {key for key, _, _ in counted} == {"key0", "key1", "key2"}


async def test_what_is_given_back_can_be_used_again(settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        database = await opened(stack, settings)
        texts = TextAdmission(database, ManualClock(), settings.tenants)
        admitted = await texts.admit(Line("acme", "stub"), Amount(texts=2, tokens=60))
        assert (admitted.limit, admitted.remaining) == (100, 40)
        with pytest.raises(QuotaExceeded, match="the request has 60"):
            await texts.admit(Line("acme", "stub"), Amount(texts=2, tokens=60))
        await texts.give_back(admitted)
        assert await tokens_counted(database, "acme") == [("", 0, 0)]
        await texts.admit(Line("acme", "stub"), Amount(texts=1, tokens=100))
