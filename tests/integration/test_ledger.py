"""The ledger and the limits that it enforces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, select

from embedfleet.clock import ManualClock
from embedfleet.errors import InvalidRequest, QuotaExceeded
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.lifecycle.text_admission import TextAdmission
from embedfleet.queue_schemas import JobRequest, UserTier
from embedfleet.records import jobs, tenants
from embedfleet.records.usage import Amount, Line
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.sql.tables import usage as usage_table
from support.databases import on_both_databases
from support.system import TENANT, Configure

SUBMITTERS = 64


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    settings.data_dir.mkdir(exist_ok=True)
    database = Database(settings.database_url, synchronous="normal")
    await database.open()
    try:
        yield database
    finally:
        await database.close()


def manager(settings: Settings, database: Database, clock: ManualClock) -> EmbeddingJobManager:
    return EmbeddingJobManager(JobManagerConfig(settings=settings), database=database, clock=clock)


def ledger(conn: Connection) -> dict[tuple[str, str, str], Amount]:
    """Every row, by tenant, model and key."""
    return {
        (row["tenant"], row["model"], row["api_key"]): Amount(
            row["jobs"], row["chars"], row["bytes"], row["tokens"], row["texts"]
        )
        for row in conn.execute(select(usage_table)).mappings()
    }


@on_both_databases
async def test_sixty_four_submitters_at_once_spend_a_day_to_the_last_token_and_no_more(
    configure: Configure, clock: ManualClock
) -> None:
    """Half of them submit documents and half of them texts, from four processes' worth of connections."""
    limits = {"daily_tokens": 30, "weight": 1}
    settings = configure(tenants={"tiers": {"free": limits}})
    async with AsyncExitStack() as stack:
        databases = [await stack.enter_async_context(opened(settings)) for _ in range(4)]
        managers = [manager(settings, one, clock) for one in databases]
        admissions = [TextAdmission(one, clock, settings.tenants) for one in databases]

        async def submit(number: int) -> None:
            which = number % 4
            if number < SUBMITTERS // 2:
                await managers[which].create_job(media_id=number, user_id=TENANT, content="three small words")
            else:
                texts = Amount(chars=17, bytes=17, tokens=3, texts=1)
                await admissions[which].admit(Line(TENANT, "stub"), texts)

        outcomes = await asyncio.gather(*map(submit, range(SUBMITTERS)), return_exceptions=True)
        refused = [one for one in outcomes if isinstance(one, QuotaExceeded)]
        assert len(refused) == len([one for one in outcomes if one is not None]) == SUBMITTERS - 10
        assert {(one.name, one.limit, one.used) for one in refused} == {("daily_tokens", 30, 30)}
        spent = (await databases[0].read(ledger))[TENANT, "stub", ""]
        assert (spent.tokens, spent.chars, spent.jobs + spent.texts) == (30, 170, 10)


@on_both_databases
async def test_the_ledger_counts_what_is_begun_by_model_and_key_and_nothing_else(
    settings: Settings, clock: ManualClock
) -> None:
    async with opened(settings) as database:
        jobs_of = manager(settings, database, clock)
        await jobs_of.create_job(media_id="a", user_id=TENANT, content="Zürich is large")
        await jobs_of.create_job(media_id="a", user_id=TENANT, content="Zürich is large")  # under way
        await jobs_of.create_job(media_id="b", user_id=TENANT, content="naïve", model="static")
        found = await database.read(ledger)
        assert found == {
            (TENANT, "stub", ""): Amount(jobs=1, chars=15, bytes=16, tokens=3),
            (TENANT, "static", ""): Amount(jobs=1, chars=5, bytes=6, tokens=3),
        }


async def test_a_day_begins_at_midnight_utc(configure: Configure, clock: ManualClock) -> None:
    settings = configure(tenants={"tiers": {"free": {"daily_bytes": 10}}})
    async with opened(settings) as database:
        through = manager(settings, database, clock)
        await through.create_job(media_id=1, user_id=TENANT, content="0123456789")
        with pytest.raises(QuotaExceeded, match="daily_bytes") as refused:
            await through.create_job(media_id=2, user_id=TENANT, content="x")
        assert refused.value.retry_after is not None
        clock.advance(refused.value.retry_after)
        await through.create_job(media_id=2, user_id=TENANT, content="x")


async def test_a_tier_belongs_to_the_tenant(configure: Configure, clock: ManualClock) -> None:
    """A call that names no tier leaves the tenant's as it is; one that names it sets it."""
    settings = configure(tenants={"default_tier": "basic"})
    async with opened(settings) as database:
        through = manager(settings, database, clock)

        async def tiers(media_id: int, **given: Any) -> tuple[UserTier | None, UserTier]:
            content = f"text {media_id}"
            job_id = await through.create_job(media_id=media_id, user_id=TENANT, content=content, **given)
            row = (await database.read(lambda conn: tenants.get_many(conn, [TENANT])))[TENANT]
            return row.tier, (await through.get_job_status(job_id)).user_tier

        assert await tiers(1) == (None, UserTier.BASIC)
        assert await tiers(2, user_tier="enterprise") == (UserTier.ENTERPRISE, UserTier.ENTERPRISE)
        assert await tiers(3) == (UserTier.ENTERPRISE, UserTier.ENTERPRISE)
        first, second = await through.create_jobs(
            [
                JobRequest(media_id="4", user_id=TENANT, content="text 4", user_tier=UserTier.FREE),
                JobRequest(media_id="5", user_id=TENANT, content="text 5"),
            ]
        )
        found = await database.read(lambda conn: jobs.get_many(conn, [first, second]))
        assert {job.user_tier for job in found.values()} == {UserTier.FREE}
        assert await tiers(6) == (UserTier.FREE, UserTier.FREE)


async def test_a_tenants_own_limits_come_before_its_tiers(settings: Settings, clock: ManualClock) -> None:
    async with opened(settings) as database:
        through = manager(settings, database, clock)

        def narrow(conn: Connection) -> None:
            tenants.lock(conn, [TENANT])
            tenants.set_limits(conn, TENANT, {"daily_tokens": 2, "max_priority": 60})

        await database.write(narrow)
        with pytest.raises(QuotaExceeded, match="the tenant allows 2 a day: split it, or raise the tenant"):
            await through.create_job(media_id=1, user_id=TENANT, content="three small words")
        with pytest.raises(InvalidRequest, match="priority: is 61, the tenant allows up to 60") as refused:
            await through.create_job(media_id=1, user_id=TENANT, content="two words", priority=61)
        assert refused.value.field == "priority"
        await through.create_job(media_id=1, user_id=TENANT, content="two words", priority=60)
        await through.create_job(media_id=1, user_id="another", content="three small words", priority=100)
