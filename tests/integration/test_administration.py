"""Tenants, keys and usage as administrators see and change them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date

import pytest
from sqlalchemy import text

from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.administration.schemas import KeyRequest, KeyState, NewKey
from embedfleet.api_keys import Scope, is_key
from embedfleet.clock import ManualClock
from embedfleet.errors import EmbedfleetError, InvalidRequest, UnknownKey
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.queue_schemas import UserTier
from embedfleet.records import api_keys
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from support.databases import on_both_databases
from support.system import Configure

DAY = 86_400.0


@pytest.fixture
def settings(configure: Configure) -> Settings:
    return configure(prices={"currency": "EUR", "per_million_tokens": {"stub": 2.0}})


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    settings.data_dir.mkdir(exist_ok=True)
    database = Database(settings.database_url, synchronous="normal")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def operator(settings: Settings, database: Database, clock: ManualClock) -> OperatorAdministration:
    return OperatorAdministration(database, clock, settings, actor="local")


async def kept(database: Database, made: NewKey) -> api_keys.KeyRow:
    row = await database.read(lambda conn: api_keys.get(conn, made.info.prefix))
    assert row is not None
    assert is_key(made.key, row.hash)
    return row


async def everything_stored(database: Database) -> str:
    """Every column of the tables of keys and of the audit log, as text."""
    return await database.read(
        lambda conn: str(
            [conn.execute(text(f"SELECT * FROM {table}")).all() for table in ("api_keys", "audit")]
        )
    )


@on_both_databases
async def test_a_key_is_made_rotated_and_revoked(
    operator: OperatorAdministration, database: Database, clock: ManualClock
) -> None:
    alice = operator.of("alice")
    old = await alice.create_key(
        KeyRequest(name="backend", expires_in_seconds=30 * DAY, requests_per_minute=7)
    )
    assert (old.info.state, old.info.tenant_id) == (KeyState.ACTIVE, "alice")
    clock.advance(10 * DAY)
    new = await alice.rotate_key(old.info.prefix, overlap_seconds=DAY)
    for made in (old, new):
        row = await kept(database, made)
        assert (row.name, row.requests_per_minute, set(row.scopes)) == (
            "backend",
            7,
            {Scope.READ, Scope.WRITE},
        )
    assert new.info.expires_at is not None
    assert new.info.expires_at.timestamp() == clock.now() + 30 * DAY  # it lasts as long as the old one did
    clock.advance(DAY)
    by_prefix = {one.prefix: one.state for one in await alice.list_keys()}
    assert by_prefix == {new.info.prefix: KeyState.ACTIVE, old.info.prefix: KeyState.EXPIRED}
    with pytest.raises(InvalidRequest, match="cannot be used any more"):
        await alice.rotate_key(old.info.prefix)
    assert (await alice.revoke_key(new.info.prefix)).state is KeyState.REVOKED
    revoked_at = (await alice.revoke_key(new.info.prefix)).revoked_at
    assert revoked_at is not None
    deeds = await operator.audit_log()
    assert [(one.action, one.actor, one.tenant_id) for one in deeds] == [
        ("key.revoke", "local", "alice"),
        ("key.rotate", "local", "alice"),
        ("key.create", "local", "alice"),
    ]
    stored = await everything_stored(database)
    for made in (old, new):
        assert made.key[14:] not in stored
        assert made.key not in f"{made!r} {made}"


async def test_a_tenant_reaches_no_key_of_another(operator: OperatorAdministration) -> None:
    """Nor the key of an operator, and what it is told is what it is told of no key at all."""
    alice, bob = operator.of("alice"), operator.of("bob")
    foreign = [
        (await alice.create_key(KeyRequest())).info.prefix,
        (await operator.create_operator_key(KeyRequest())).info.prefix,
    ]

    async def told(prefix: str) -> list[str]:
        said = []
        for act in (bob.revoke_key, bob.rotate_key):
            with pytest.raises(UnknownKey) as refused:
                await act(prefix)
            said.append(str(refused.value).replace(prefix, "PREFIX"))
        return said

    assert await told(foreign[0]) == await told(foreign[1]) == await told("0123456789")
    assert await bob.list_keys() == []
    assert await bob.audit_log() == []
    assert {one.state for one in await operator.list_keys()} == {KeyState.ACTIVE}
    with pytest.raises(InvalidRequest, match="operator"):
        await bob.create_key(KeyRequest(scopes=frozenset({Scope.OPERATOR})))


@on_both_databases
async def test_keys_come_in_pages(operator: OperatorAdministration, clock: ManualClock) -> None:
    made = []
    for _ in range(5):
        made.append((await operator.of("alice").create_key(KeyRequest())).info.prefix)
        clock.advance(1.0)
    found: list[str] = []
    after = None
    while not found or after is not None:
        page = await operator.list_keys(limit=2, after=after)
        found += [one.prefix for one in page]
        after = page.next_cursor
    assert found == made[::-1]


@on_both_databases
async def test_an_operator_sets_tiers_and_limits_which_the_tenant_can_only_read(
    operator: OperatorAdministration,
) -> None:
    assert (await operator.of("alice").tenant()).tier_is_default
    await operator.set_tenant("alice", tier=UserTier.PREMIUM, limits={"daily_tokens": 100, "weight": 2.5})
    changed = await operator.set_tenant("alice", limits={"weight": None})
    assert (changed.tier, changed.own_limits) == (UserTier.PREMIUM, {"daily_tokens": 100})
    assert changed.limits.daily_tokens == 100
    assert changed.limits.weight == 4.0, "that of the tier again"
    assert await operator.of("alice").tenant() == changed
    assert [one.tenant_id for one in await operator.list_tenants()] == ["alice"]
    assert len(await operator.audit_log()) == 2
    await operator.set_tenant("alice", limits={"daily_tokens": 100})
    assert len(await operator.audit_log()) == 2, "nothing was changed"


async def test_a_limit_that_the_settings_would_not_take_is_refused(operator: OperatorAdministration) -> None:
    refused: list[tuple[dict[str, float | None], str]] = [
        ({"daily_token": 5}, "did you mean `daily_tokens`"),
        ({"max_in_flight": 5}, "no limit `max_in_flight`"),
        ({"daily_tokens": 0}, "daily_tokens"),
        ({"daily_tokens": 1.5}, "daily_tokens"),
        ({"weight": float("nan")}, "weight"),
        ({"max_priority": 101}, "max_priority"),
    ]
    for limits, words in refused:
        with pytest.raises(InvalidRequest, match=words):
            await operator.set_tenant("alice", limits=limits)
    assert await operator.list_tenants() == []


@on_both_databases
async def test_usage_is_what_is_enforced_with_its_price(
    operator: OperatorAdministration, settings: Settings, database: Database, clock: ManualClock
) -> None:
    jobs = EmbeddingJobManager(JobManagerConfig(settings=settings), database=database, clock=clock)
    first = date.fromtimestamp(clock.now() - DAY)
    await jobs.create_job(media_id=1, user_id="alice", content="two words")
    await jobs.create_job(media_id=1, user_id="bob", content="two words", model="static")
    clock.advance(DAY)
    await jobs.create_job(media_id=2, user_id="alice", content="three small words")
    lines = await operator.of("alice").usage()
    assert [(one.tokens, one.jobs, one.cost, one.currency) for one in lines] == [
        (2, 1, 4e-06, "EUR"),
        (3, 1, 6e-06, "EUR"),
    ]
    assert (await operator.of("alice").tenant()).today.tokens == 3
    everyone = await operator.usage(first_day=first)
    assert [(one.tenant_id, one.cost) for one in everyone] == [
        ("alice", 4e-06),
        ("bob", None),
        ("alice", 6e-06),
    ]
    assert await operator.usage(last_day=first) == []
    for wrong in ((date(2026, 2, 2), date(2026, 2, 1)), (date(2024, 1, 1), date(2026, 1, 1))):
        with pytest.raises(EmbedfleetError, match="first_day"):
            await operator.usage(first_day=wrong[0], last_day=wrong[1])
