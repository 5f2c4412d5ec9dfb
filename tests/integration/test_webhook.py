"""Events by webhook: each at least once, first deliveries in order, whatever the receiver does."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from embedfleet.clock import SystemClock
from embedfleet.errors import ConfigError
from embedfleet.leader.election import SoleOrchestrator
from embedfleet.leader.event_delivery import EventDelivery
from embedfleet.leader.event_publisher import EventPublisher
from embedfleet.leader.service import AfterWrites, LeaderService
from embedfleet.leader.waiting_work import WaitingWork
from embedfleet.leader.webhook import Webhook
from embedfleet.metrics import Metrics
from embedfleet.queue_schemas import JobStatus, UserTier
from embedfleet.records import events, job_completion, jobs
from embedfleet.records.jobs import NewJob
from embedfleet.settings import EventsSettings, load_settings
from embedfleet.sql import tables
from embedfleet.sql.database import Database
from support.hangs import HANG_SECONDS
from support.receiver import DIES, FAILS, HANGS, OK, Delivery, Receiver
from support.system import Configure, paragraphs, running, until

QUICKLY = {"retry_base_seconds": 0.01, "retry_max_seconds": 0.05, "webhook_timeout_seconds": 0.3}
"""A receiver that hangs is left so soon that on a slow machine one that answers may be left as well."""
SECRET = "a secret of both"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}", synchronous="normal")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


def end_job(conn: Connection, name: str) -> None:
    job = NewJob(
        job_id=name,
        tenant="alice",
        document_id=name,
        generation_id=1,
        user_tier=UserTier.FREE,
        priority=50,
        created_at=1.0,
    )
    jobs.create(conn, [job])
    job_completion.finish(conn, [name], JobStatus.FAILED, reason="größer \n", now=1.0)
    events.assign_positions(conn, 10)


async def ended(database: Database, count: int) -> list[str]:
    """So many ended jobs; their events' ids in order."""
    for n in range(count):
        await database.write(partial(end_job, name=f"job{n}"))
    return [f"job{n}:1" for n in range(count)]


@asynccontextmanager
async def delivering(
    database: Database,
    receiver: Receiver,
    metrics: Metrics | None = None,
    *,
    timeout_seconds: float = HANG_SECONDS,
) -> AsyncIterator[None]:
    election = SoleOrchestrator()
    delivery = EventDelivery(
        Webhook(receiver.url, secret=SECRET, timeout_seconds=timeout_seconds),
        database=database,
        election=election,
        metrics=metrics or Metrics(),
        clock=SystemClock(),
        settings=EventsSettings.model_validate(QUICKLY),
    )
    service = LeaderService(delivery, election=election, pace=AfterWrites(database))
    done = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(service.run(done))
        try:
            yield
        finally:
            done.set()


async def all_delivered(database: Database) -> None:
    async def nothing_waits() -> bool:
        return not await database.read(events.count_undelivered)

    await until(nothing_waits, database)


def first_times(got: Sequence[Delivery]) -> list[str]:
    return list(dict.fromkeys(delivery.event_id for delivery in got))


@pytest.mark.parametrize(
    "answers",
    [
        [FAILS, FAILS, OK, FAILS],
        [DIES, OK, DIES],
        [b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"],
        [b"no HTTP at all\r\n\r\n"],
    ],
    ids=["fails", "dies", "redirects", "talks nonsense"],
)
async def test_an_event_is_delivered_again_until_it_is_taken_and_none_overtakes_it(
    database: Database, receiver: Receiver, answers: list[bytes | None]
) -> None:
    receiver.answers = list(answers)
    wanted = await ended(database, 4)
    metrics = Metrics()
    async with delivering(database, receiver, metrics):
        await all_delivered(database)
    assert first_times(receiver.got) == wanted
    failures = sum(answer is not OK for answer in answers)
    assert len(receiver.got) == len(wanted) + failures
    assert metrics.registry.get_sample_value("embedding_webhook_failures_total") == failures


async def test_an_event_that_gets_no_answer_is_delivered_again_and_none_overtakes_it(
    database: Database, receiver: Receiver
) -> None:
    receiver.answers = [HANGS, OK, HANGS]
    wanted = await ended(database, 4)
    metrics = Metrics()
    async with delivering(database, receiver, metrics, timeout_seconds=QUICKLY["webhook_timeout_seconds"]):
        await all_delivered(database)
    assert first_times(receiver.got) == wanted
    assert len(receiver.got) >= len(wanted) + 2
    failures = metrics.registry.get_sample_value("embedding_webhook_failures_total")
    assert failures is not None
    assert failures >= 2
    assert failures >= len(receiver.got) - len(wanted)


async def test_events_wait_for_a_receiver_that_is_away_and_comes_back(
    database: Database, receiver: Receiver
) -> None:
    wanted = await ended(database, 2)
    async with delivering(database, receiver):
        await receiver.until(lambda got: len(got) == 2)
        await all_delivered(database)
        await receiver.stop()
        await database.write(partial(end_job, name="job2"))
        await receiver.start()
        await all_delivered(database)
    assert first_times(receiver.got) == [*wanted, "job2:1"]


async def test_an_event_is_written_down_as_delivered_only_after_the_answer(
    database: Database, receiver: Receiver
) -> None:
    """A leader that dies between the request and the answer leaves the event to the next one."""
    receiver.answers = [HANGS]
    wanted = await ended(database, 1)
    async with delivering(database, receiver):
        await receiver.until(lambda got: len(got) == 1)
    assert await database.read(events.count_undelivered) == 1
    async with delivering(database, receiver):
        await all_delivered(database)
    assert [delivery.event_id for delivery in receiver.got] == wanted * 2


async def test_two_leaders_at_once_may_repeat_a_delivery_but_never_overtake_one(
    database: Database, receiver: Receiver
) -> None:
    wanted = await ended(database, 10)
    async with delivering(database, receiver), delivering(database, receiver):
        await all_delivered(database)
    assert first_times(receiver.got) == wanted


async def test_a_delivery_can_be_verified_and_told_from_another(
    database: Database, receiver: Receiver
) -> None:
    await ended(database, 1)
    async with delivering(database, receiver):
        await all_delivered(database)
    got = receiver.got[0]
    signature = hmac.new(SECRET.encode(), got.body, hashlib.sha256).hexdigest()
    assert got.headers["embedfleet-signature"] == f"sha256={signature}"
    assert got.headers["idempotency-key"] == got.event_id == got.event["event_id"] == "job0:1"
    assert got.headers["content-type"] == "application/json"
    assert (got.event["position"], got.event["status"]) == (1, "failed")


async def test_old_events_are_forgotten_once_they_are_delivered(database: Database) -> None:
    await ended(database, 2)
    await database.write(lambda conn: events.mark_delivered(conn, "job0:1", 2.0))
    settings = EventsSettings.model_validate({"webhook_url": "http://127.0.0.1/", "keep_days": 1})
    publisher = EventPublisher(
        database=database,
        waiting=WaitingWork(database),
        metrics=Metrics(),
        clock=SystemClock(),
        settings=settings,
    )
    await publisher.forget_old()
    left = await database.read(lambda conn: conn.execute(select(tables.events.c.job_id)).scalars().all())
    assert left == ["job1"]


async def test_the_pipeline_goes_on_while_the_receiver_is_away_and_tells_it_later(
    configure: Configure, receiver: Receiver
) -> None:
    receiver.answers = [HANGS]
    settings = configure(events={"webhook_url": receiver.url, **QUICKLY})
    async with running(settings) as fleet:
        first = await fleet.ingest("1", paragraphs("one", 3))
        second = await fleet.ingest("2", paragraphs("two", 3))
        await all_delivered(fleet.system.database)
        await receiver.until(lambda got: len(first_times(got)) == 2)
    assert first_times(receiver.got) == [f"{first.job_id}:1", f"{second.job_id}:1"]


@pytest.mark.parametrize("url", ["ftp://host/", "host/path", "http://"])
def test_a_url_that_cannot_be_posted_to_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="webhook_url"):
        load_settings(environ={}, overrides={"events": {"webhook_url": url}})
