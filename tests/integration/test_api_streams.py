"""Streams of the API: progress as it happens, ends with ids, results as they are stored, and their end."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio

from embedfleet.api.opening import parts_of_owner
from embedfleet.records import events
from embedfleet.vectors.port import CollectionKey, VectorRows
from support.api import Served, serving, serving_parts
from support.hangs import HANG_SECONDS
from support.sse import Frame, frames
from support.system import ONE_EACH, TENANT, make_settings, paragraphs, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

MOST_STREAMS = 4

ALICE = {"X-Tenant": TENANT}
BOB = {"X-Tenant": "bob"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder: Path = tmp_path_factory.mktemp("streams")
    settings = make_settings(
        folder,
        http={"heartbeat_seconds": 0.05, "max_streams": MOST_STREAMS},
        # A document is stored in several steps.
        chunking={"batch_chunks": 16},
        worker_pools={"storage": {"batch_tasks": 1}},
    )
    async with serving(settings) as one:
        yield one


async def until_ended(stream: AsyncIterator[Frame]) -> list[Frame]:
    """All frames up to the one that says that a job ended."""
    seen: list[Frame] = []
    async with asyncio.timeout(HANG_SECONDS):
        async for frame in stream:
            seen.append(frame)
            if frame.event == "ended":
                return seen
    raise AssertionError(f"the stream ended early: {seen}")


async def test_a_job_is_followed_to_its_end_and_a_client_that_saw_the_end_need_not_come_back(
    served: Served,
) -> None:
    job_id = await served.running.submit("followed", paragraphs("followed", 40), chunking_config=ONE_EACH)
    async with frames(served.client, f"/v1/jobs/{job_id}/events", headers=ALICE) as stream:
        seen = await until_ended(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    told = [frame for frame in seen if frame.event is not None]
    assert told[0].event == "opened"
    assert {frame.event for frame in told[1:-1]} == {"progress"}
    stored = [frame.data["progress"]["chunks_stored"] for frame in told[1:-1]]
    assert stored == sorted(stored)
    end = told[-1]
    assert (end.data["status"], end.data["chunks_stored"]) == ("completed", 40)
    assert end.id == str(end.data["position"])
    assert [frame for frame in seen[:-1] if frame.id is not None] == [], "only a durable event has an id"
    again = await served.client.get(f"/v1/jobs/{job_id}/events", headers=ALICE | {"Last-Event-ID": end.id})
    assert again.status_code == 204
    # Who comes back from before the end gets it again.
    async with frames(served.client, f"/v1/jobs/{job_id}/events", headers=ALICE) as stream:
        assert (await until_ended(stream))[-1].data["event_id"] == end.data["event_id"]


async def test_a_listener_hears_its_tenant_only(served: Served) -> None:
    job_id = await served.running.submit("secret", "a secret of alice")
    for path in ("events", "results", "explain"):
        answer = await served.client.get(f"/v1/jobs/{job_id}/{path}", headers=BOB)
        unknown = await served.client.get(f"/v1/jobs/{'job_' + '0' * 32}/{path}", headers=BOB)
        assert (answer.status_code, unknown.status_code) == (404, 404)
        assert answer.text.replace(job_id, "") == unknown.text.replace("job_" + "0" * 32, "")
    assert (await served.client.get("/v1/explain?media_id=secret", headers=BOB)).status_code == 404
    await last_position(served)  # the streams begin after the end of that job
    async with (
        frames(served.client, "/v1/events", headers=BOB) as bobs,
        frames(served.client, "/v1/events", headers={"X-Tenant": "*"}) as all_of_them,
    ):
        assert ((await anext(bobs)).event, (await anext(all_of_them)).event) == ("opened", "opened")
        jobs = [
            await served.running.submit(f"after {name}", "a text", user_id=name) for name in (TENANT, "bob")
        ]
        both = [(await until_ended(all_of_them))[-1].data["job_id"] for _ in jobs]
        assert set(both) == set(jobs)
        # All that bob hears up to the end of a later job of his: the end of the other one is before that.
        last = await served.running.submit("last", "a text", user_id="bob")
        heard = await until_ended(bobs)
        while heard[-1].data["job_id"] != last:
            heard += await until_ended(bobs)
    assert [frame.data["job_id"] for frame in heard if frame.event == "ended"] == [jobs[1], last]


async def last_position(served: Served) -> int:
    """The last position, when every job of the scenes before has ended and has one."""
    everyone = served.running.jobs.of_all_tenants()
    await everyone.wait_many([job.job_id for job in await everyone.list_jobs()], timeout_seconds=HANG_SECONDS)

    async def all_numbered() -> bool:
        return not await served.parts.database.read(events.any_unnumbered)

    await until(all_numbered, served.parts.database)
    return (await served.parts.database.read(events.bounds)).last


async def test_a_client_that_comes_back_misses_nothing_and_is_told_if_events_are_not_kept(
    served: Served,
) -> None:
    ids = [await served.running.submit(f"kept {number}", f"text {number}") for number in range(3)]
    await served.running.jobs.wait_many(ids, timeout_seconds=HANG_SECONDS)
    last = await last_position(served)

    async def ends(count: int, **more: Any) -> tuple[list[Frame], list[Frame]]:
        """The frames that a client gets before so many ends, and the ends."""
        async with frames(served.client, "/v1/events", **more) as stream:
            seen = [frame for _ in range(count) for frame in await until_ended(stream)]
        told = [frame for frame in seen if frame.event in ("ended", "resync")]
        return [one for one in told if one.event == "resync"], [one for one in told if one.event == "ended"]

    none, first = await ends(1, headers=ALICE, params={"after": 0})
    assert none == []
    start = int(first[0].id or 0)
    known = (await served.get(f"/v1/events/page?after={start}", headers=ALICE))["events"]
    none, missed = await ends(len(known), headers=ALICE | {"Last-Event-ID": str(start)})
    assert (none, [one.data for one in missed]) == ([], known)
    # The oldest events are dropped, as after `events.keep_days`.
    drop = partial(events.drop_old, limit=start + 1, before=float("inf"), delivered_only=False)
    assert await served.parts.database.write(drop) == start + 1
    for header in ("0", str(start + 1)):
        assert (await ends(1, headers=ALICE | {"Last-Event-ID": header}))[0] == [], header
    for header, begin in ((str(start), start + 1), ("of another server", start + 1), (str(last + 99), last)):
        async with frames(served.client, "/v1/events", headers=ALICE | {"Last-Event-ID": header}) as stream:
            opened, resync = await anext(stream), await anext(stream)
        assert (opened.event, opened.data["position"]) == ("opened", begin), header
        assert (resync.event, resync.id) == ("resync", None)
        assert resync.data == {"asked": header, "position": begin}


async def test_a_silent_stream_beats_and_tells_what_is_left(served: Served) -> None:
    async with frames(served.client, "/v1/events", headers=BOB) as stream:
        seen: list[Frame] = []
        async with asyncio.timeout(HANG_SECONDS):
            while not {"work", None} <= {frame.event for frame in seen}:
                seen.append(await anext(stream))
    work = next(frame for frame in seen if frame.event == "work")
    assert (work.id, work.data["unfinished"], work.data["eta_seconds"]) == (None, {}, None)


async def test_streams_are_counted_and_given_back_and_one_tenant_has_half_of_them_at_most(
    served: Served,
) -> None:
    kept: list[AsyncIterator[Frame]] = []
    async with AsyncExitStack() as opened:

        async def follow(headers: dict[str, str]) -> None:
            stream = await opened.enter_async_context(frames(served.client, "/v1/events", headers=headers))
            await anext(stream)
            kept.append(stream)  # a stream that is forgotten is closed

        async def refusal(headers: dict[str, str]) -> str:
            answer = await served.client.get("/v1/events", headers=headers)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            return str(answer.json()["detail"])

        for _ in range(MOST_STREAMS // 2):
            await follow(BOB)
        assert "streams of this tenant are open" in await refusal(BOB)
        for _ in range(MOST_STREAMS // 2):
            await follow(ALICE)
        assert f"{MOST_STREAMS} streams are open" in await refusal({"X-Tenant": "*"})
    async with asyncio.timeout(HANG_SECONDS):
        while served.parts.streams.number or served.parts.watch.listeners:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.001)


async def test_a_stream_ends_with_the_server_and_says_so(served: Served) -> None:
    parts = parts_of_owner(served.running.system)
    async with (
        serving_parts(parts) as (url, stop),
        httpx.AsyncClient(base_url=url, timeout=HANG_SECONDS) as client,
        frames(client, "/v1/events", headers=ALICE) as stream,
        asyncio.timeout(HANG_SECONDS),
    ):
        assert (await anext(stream)).event == "opened"
        stop.set()
        seen = [frame async for frame in stream if frame.event != "work"]
    assert [(frame.event, frame.id) for frame in seen] == [("stopping", None)]
    assert seen[0].data["retry_after_seconds"] > 0


async def test_results_come_as_they_are_stored_each_once_and_with_their_vectors(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    upsert = type(served.running.system.store).upsert
    taken = 0

    async def gated(store: Any, collection: CollectionKey, rows: VectorRows) -> None:
        nonlocal taken
        taken += 1
        if taken > 1:
            await gate.wait()
        await upsert(store, collection, rows)

    monkeypatch.setattr(type(served.running.system.store), "upsert", gated)
    job_id = await served.running.submit("results", paragraphs("results", 200), chunking_config=ONE_EACH)
    lines: list[dict[str, Any]] = []
    path = f"/v1/jobs/{job_id}/results?vectors=base64"
    async with served.client.stream("GET", path, headers=ALICE) as response:
        assert response.headers["content-type"] == "application/x-ndjson"
        async for line in response.aiter_lines():
            lines.append(json.loads(line))
            if lines[-1]["kind"] == "chunk" and not gate.is_set():
                job = await served.get(f"/v1/jobs/{job_id}", headers=ALICE)
                assert job["finished_at"] is None, "the first results come before the job has ended"
                gate.set()
    assert lines[-1]["kind"] == "end"
    assert lines[-1]["job"]["status"] == "completed"
    made = [line for line in lines if line["kind"] == "chunk"]
    assert sorted(line["chunk_index"] for line in made) == list(range(200))
    assert all(line["text"].startswith("results paragraph") for line in made)
    vectors = [np.frombuffer(base64.b64decode(line["vector"]), dtype="<f4") for line in made]
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    # After the end, the same comes at once, here without vectors and texts.
    again = (await served.client.get(f"/v1/jobs/{job_id}/results?text=false", headers=ALICE)).text
    kept = [json.loads(line) for line in again.splitlines()]
    assert [one["kind"] for one in kept] == ["chunk"] * 200 + ["end"]
    assert {(one["text"], one["vector"]) for one in kept[:-1]} == {(None, None)}


async def test_a_document_is_explained(served: Served) -> None:
    job_id = await served.running.submit("explained", "a text to explain")
    await served.running.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
    of_job = await served.get(f"/v1/jobs/{job_id}/explain", headers=ALICE)
    assert (of_job["searchable"], of_job["cause"], of_job["next_action"]) == (True, "searchable", "none")
    assert await served.get("/v1/explain?media_id=explained", headers=ALICE) == of_job
