"""A request with an idempotency key makes what it makes once, whatever happens to the process between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection, func, select

from embedfleet.api import idempotency
from embedfleet.api.idempotency import ABANDONED_AFTER_SECONDS, Answer, Record, RepeatedRequests
from embedfleet.clock import ManualClock
from embedfleet.errors import InvalidRequest, KeyReused, RequestUnderWay
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.leader.answer_forgetting import AnswerForgetting
from embedfleet.queue_schemas import JobRequest
from embedfleet.records.idempotency import KEPT_SECONDS, RequestKey
from embedfleet.sql import tables
from embedfleet.sql.database import Database
from support.hangs import HANG_SECONDS
from support.system import Configure

KEY = RequestKey("alice", "POST /v1/jobs", "k1")
SAME, OTHER = b"s" * 32, b"o" * 32


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, synchronous="normal")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def requests(database: Database, clock: ManualClock) -> RepeatedRequests:
    return RepeatedRequests(database, clock)


class Maker:
    """Makes an answer, counts how often, and can be held up between its transaction and its end."""

    def __init__(self, database: Database) -> None:
        self.made = 0
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self._database = database

    async def __call__(self, record: Record) -> Answer:
        self.entered.set()
        await self.go_on.wait()
        self.made += 1
        answer = Answer(202, f'{{"number":{self.made}}}')
        await self._database.write(lambda conn: record(conn, answer))
        return answer


async def rows(database: Database) -> int:
    query = select(func.count()).select_from(tables.idempotency_keys)
    return int(await database.read(lambda conn: conn.execute(query).scalar_one()))


async def test_the_same_request_gets_the_first_answer_for_a_day_and_then_a_new_one(
    requests: RepeatedRequests, database: Database, clock: ManualClock
) -> None:
    make = Maker(database)
    first = await requests.answer_once(KEY, SAME, make)
    again = await requests.answer_once(KEY, SAME, make)
    assert (again.status, again.body, again.replayed) == (first.status, first.body, True)
    with pytest.raises(KeyReused, match="other content"):
        await requests.answer_once(KEY, OTHER, make)
    for elsewhere in (
        RequestKey("bob", KEY.route, KEY.key),
        RequestKey(KEY.tenant, "POST /v1/jobs:bulk", KEY.key),
        None,
        None,
    ):
        assert not (await requests.answer_once(elsewhere, SAME, make)).replayed
    assert make.made == 5

    clock.advance(KEPT_SECONDS - 1)
    assert (await requests.answer_once(KEY, SAME, make)).replayed
    await AnswerForgetting(database, clock).step()
    assert await rows(database) == 3
    clock.advance(1)
    assert (await requests.answer_once(KEY, OTHER, make)).body == '{"number":6}'
    await AnswerForgetting(database, clock).step()
    clock.advance(1)
    await AnswerForgetting(database, clock).step()
    assert await rows(database) == 1, "the renewed one"


async def test_of_many_at_once_one_is_made_and_the_others_are_told_to_come_again(
    requests: RepeatedRequests, database: Database
) -> None:
    make = Maker(database)
    make.go_on.clear()
    under_way = [asyncio.create_task(requests.answer_once(KEY, SAME, make)) for _ in range(20)]
    await make.entered.wait()
    async with asyncio.timeout(HANG_SECONDS):
        while sum(one.done() for one in under_way) < 19:
            await asyncio.wait([one for one in under_way if not one.done()], return_when="FIRST_COMPLETED")
    with pytest.raises(KeyReused):
        await requests.answer_once(KEY, OTHER, make)
    make.go_on.set()
    results = await asyncio.gather(*under_way, return_exceptions=True)
    refused = [one for one in results if isinstance(one, RequestUnderWay)]
    assert make.made == 1
    assert len(refused) == 19
    assert {one.retry_after_seconds for one in refused} == {1.0}


async def test_after_an_error_the_key_is_free_also_for_other_content(
    requests: RepeatedRequests, database: Database
) -> None:
    async def fail(record: Record) -> Answer:
        raise InvalidRequest("content: is empty")

    with pytest.raises(InvalidRequest):
        await requests.answer_once(KEY, SAME, fail)
    make = Maker(database)
    assert not (await requests.answer_once(KEY, OTHER, make)).replayed


async def test_an_error_behind_the_transaction_leaves_its_answer(
    requests: RepeatedRequests, database: Database
) -> None:
    make = Maker(database)

    async def fail_late(record: Record) -> Answer:
        await make(record)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await requests.answer_once(KEY, SAME, fail_late)
    assert (await requests.answer_once(KEY, SAME, make)).replayed
    assert make.made == 1


async def test_a_claim_of_a_dead_process_ends_and_its_late_answer_changes_nothing(
    requests: RepeatedRequests, database: Database, clock: ManualClock
) -> None:
    frozen, make = Maker(database), Maker(database)
    frozen.go_on.clear()
    paused = asyncio.create_task(requests.answer_once(KEY, SAME, frozen))
    await frozen.entered.wait()
    clock.advance(ABANDONED_AFTER_SECONDS - 1)
    with pytest.raises(RequestUnderWay):
        await requests.answer_once(KEY, SAME, make)
    clock.advance(1)
    assert (await requests.answer_once(KEY, SAME, make)).body == '{"number":1}'
    make.made = frozen.made = 7
    frozen.go_on.set()
    assert (await paused).body == '{"number":8}'
    assert (await requests.answer_once(KEY, SAME, make)).body == '{"number":1}'


async def test_a_claim_that_is_renewed_is_not_abandoned(
    requests: RepeatedRequests, database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "_RENEW_SECONDS", 0.0)
    slow, make = Maker(database), Maker(database)
    slow.go_on.clear()
    under_way = asyncio.create_task(requests.answer_once(KEY, SAME, slow))
    await slow.entered.wait()
    clock.advance(ABANDONED_AFTER_SECONDS + 1)
    renewed_at = clock.now()

    async def renewed() -> bool | None:
        query = select(tables.idempotency_keys.c.created_at)
        return await database.read(lambda conn: conn.execute(query).scalar_one()) == renewed_at or None

    await database.until(renewed)
    with pytest.raises(RequestUnderWay):
        await requests.answer_once(KEY, SAME, make)
    slow.go_on.set()
    assert (await under_way).body == '{"number":1}'


async def test_the_job_and_its_answer_are_one_transaction(
    requests: RepeatedRequests, database: Database, clock: ManualClock, configure: Configure
) -> None:
    manager = EmbeddingJobManager(JobManagerConfig(settings=configure()), database=database)
    request = JobRequest(media_id="1", user_id="alice", content="a text")

    async def submit(record: Record) -> Answer:
        def die(conn: Connection, job_ids: list[str]) -> None:
            record(conn, Answer(202, job_ids[0]))
            raise ConnectionError("the process dies before the commit")

        await manager.create_jobs([request], also=die)
        raise AssertionError

    with pytest.raises(ConnectionError):
        await requests.answer_once(KEY, SAME, submit)
    assert await manager.of("alice").list_jobs() == []
    assert await rows(database) == 0
    await manager.close()
