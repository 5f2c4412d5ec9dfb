"""What a small document costs, from its submission to its end: SQL statements, and calls of the broker.

Everything counts, the leader's duties too. The settings are the defaults, and 64 documents are submitted in a
call, so a claim has up to 64 tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from embedfleet.paging import pages
from embedfleet.queue.redis_connection import RedisConnection
from embedfleet.queue.redis_scripts import Script
from embedfleet.queue_schemas import JobRequest, JobStatus, UserTier
from embedfleet.settings import Settings
from embedfleet.vectors.null import NullVectorStore
from support.databases import on_both_databases
from support.redis_server import RedisServer
from support.statements import statements
from support.system import Configure, Running, running

DOCUMENTS = 640
SUBMITTED_TOGETHER = 64
MOST_STATEMENTS = 4 * DOCUMENTS
MOST_CALLS = DOCUMENTS

LOOKS = {"claimable", "depth", "dead", "epoch", "promote_due", "reap_expired", "renew"}
"""Scripts that run by the clock, or when an idle worker looks. How often they run depends on how long the
test takes, and not on the documents."""


async def stored(run: Running, name: str, count: int) -> None:
    """Submit documents of one chunk each, and return when all are stored."""
    requests = [
        JobRequest(
            media_id=f"{name}{n}", user_id="tenant", user_tier=UserTier.ENTERPRISE, content=f"{name} {n}"
        )
        for n in range(count)
    ]
    job_ids: list[str] = []
    for page in pages(requests, SUBMITTED_TOGETHER):
        job_ids += await run.jobs.create_jobs(page)
    infos = [info async for info in run.jobs.as_completed(job_ids)]
    assert [info.status for info in infos] == [JobStatus.COMPLETED] * count
    assert [info.progress.chunks_stored for info in infos] == [1] * count


@on_both_databases
async def test_a_small_document_takes_few_statements_all_in_all(settings: Settings) -> None:
    async with running(settings, store=NullVectorStore()) as run:
        await stored(run, "warm", 1)  # the first use of the model is checked, which writes
        with statements() as executed:
            await stored(run, "note", DOCUMENTS)
    print(f"{len(executed) / DOCUMENTS:.2f} statements a document")
    times = Counter(one.sql for one in executed).most_common(10)
    assert len(executed) <= MOST_STATEMENTS, times
    # No statement is executed for each document: that one would be among these.
    assert times[0][1] < DOCUMENTS / 2, times


async def test_a_small_document_takes_few_calls_of_the_broker(
    configure: Configure, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()
    run_script = RedisConnection.run

    async def counted(
        self: RedisConnection, script: Script, keys: Sequence[str], arguments: Sequence[bytes], **more: Any
    ) -> Any:
        answer = await run_script(self, script, keys, arguments, **more)
        found_nothing = script.name == "claim" and len(answer) == 1  # it has only the time
        calls["empty claim" if found_nothing else script.name] += 1
        return answer

    settings = configure(redis={"url": redis_server.url}, orchestrator={"launcher": "inline"})
    async with running(settings, store=NullVectorStore()) as run:
        await stored(run, "warm", 1)
        monkeypatch.setattr(RedisConnection, "run", counted)
        await stored(run, "note", DOCUMENTS)
    print(f"{calls.total() / DOCUMENTS:.2f} calls a document, looks included: {dict(calls)}")
    of_documents = {name: count for name, count in calls.items() if name not in LOOKS | {"empty claim"}}
    assert of_documents.keys() >= {"enqueue", "claim", "ack"}
    assert sum(of_documents.values()) <= MOST_CALLS, of_documents
