"""tldw's seam of today: its adapter's calls make jobs here, and it is told how each item's job ended."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from app.core.Embeddings.jobs_adapter import EmbeddingsJobsAdapter

from embedfleet.client import AsyncClient, Client
from embedfleet.errors import ConfigError, InvalidRequest, UnknownDocument
from embedfleet.queue_schemas import JobEvent, JobStatus
from embedfleet.retry import BackOff
from embedfleet.tldw.completions import MediaMarks
from embedfleet.tldw.items import enqueue_embeddings_job_for_item
from embedfleet.tldw.media_database import MediaDatabases
from embedfleet.tldw.user_jobs import InProcessJobs, JobsOf, jobs_of_environment
from support.api import Served, serving
from support.hangs import HANG_SECONDS
from support.system import make_settings
from support.tldw import StandIn, mark_media_as_processed

pytestmark = pytest.mark.asyncio(loop_scope="module")

T = TypeVar("T")
MODELS = {"text-embedding-3-small": "stub"}
FIELDS = {
    "id",
    "media_id",
    "user_id",
    "status",
    "embedding_model",
    "embedding_count",
    "chunks_processed",
    "error",
    "created_at",
    "updated_at",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serving(make_settings(tmp_path_factory.mktemp("tldw"))) as one:
        yield one


@pytest.fixture(scope="module")
def tldw(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    return StandIn(tmp_path_factory.mktemp("users"))


@pytest.fixture(params=["in process", "over HTTP"])
def jobs_of(request: pytest.FixtureRequest, served: Served) -> Iterator[JobsOf]:
    if request.param == "over HTTP":
        with Client(served.url) as client:
            yield client.of
        return
    jobs = InProcessJobs(served.running.system.settings)
    yield jobs.of
    jobs.close()


@pytest.fixture
def adapter(jobs_of: JobsOf, tldw: StandIn) -> EmbeddingsJobsAdapter:
    return EmbeddingsJobsAdapter(jobs_of=jobs_of, load_item=MediaDatabases(tldw.base_dir), models=MODELS)


async def beside(work: Callable[[], T]) -> T:
    """The adapter blocks; tldw's endpoints call it in threads, too."""
    return await asyncio.to_thread(work)


async def create(adapter: EmbeddingsJobsAdapter, user_id: str, media_id: int, **more: Any) -> dict[str, Any]:
    return await beside(
        lambda: adapter.create_job(
            user_id=user_id, media_id=media_id, embedding_model="text-embedding-3-small", **more
        )
    )


async def ended(served: Served, job: dict[str, Any]) -> None:
    await served.running.jobs.wait(job["uuid"], timeout_seconds=HANG_SECONDS)


def user_of(request: pytest.FixtureRequest) -> str:
    """A user of the test's own, as all tests of the module share one system."""
    return str(abs(hash(request.node.nodeid)) % 10**9)


async def test_the_signatures_are_tldws() -> None:
    def parameters(method: Any) -> dict[str, object]:
        return {
            name: "required" if one.default is inspect.Parameter.empty else one.default
            for name, one in inspect.signature(method).parameters.items()
            if name != "self"
        }

    assert parameters(EmbeddingsJobsAdapter.create_job) == {
        "user_id": "required",
        "media_id": "required",
        "embedding_model": "required",
        "embedding_provider": None,
        "chunk_size": None,
        "chunk_overlap": None,
        "request_source": None,
        "request_id": None,
        "trace_id": None,
        "force_regenerate": False,
        "stage": None,
        "embedding_priority": None,
        "provenance": None,
    }
    assert list(parameters(EmbeddingsJobsAdapter.get_job)) == ["job_id", "user_id"]
    assert list(parameters(EmbeddingsJobsAdapter.list_jobs)) == ["user_id", "status", "limit", "offset"]


async def test_a_job_takes_the_text_of_the_media_item(
    adapter: EmbeddingsJobsAdapter, tldw: StandIn, served: Served, request: pytest.FixtureRequest
) -> None:
    user = user_of(request)
    tldw.of(user).add(7, "Words of the item. " * 20, author="An author", url="https://example.org/7")
    job = await create(
        adapter,
        user,
        7,
        embedding_provider="openai",
        chunk_size=10,
        chunk_overlap=2,
        request_source="media_add",
        stage="chunking",
        embedding_priority=80,
        provenance={"a": 1},
    )
    assert (job["id"], job["status"], job["user_id"]) == (job["uuid"], job["status"], user)
    await ended(served, job)
    shown = await beside(lambda: adapter.get_job(job["id"], user))
    assert shown is not None
    assert set(shown) == FIELDS
    assert (shown["status"], shown["media_id"], shown["error"]) == ("completed", 7, None)
    assert shown["embedding_model"] == "text-embedding-3-small"
    assert shown["embedding_count"] == shown["chunks_processed"] > 1
    assert shown["created_at"] <= shown["updated_at"]
    document = await served.running.jobs.of(user).get_document(media_id=7)
    assert document.source == "https://example.org/7"
    assert document.metadata == {
        "title": "Title 7",
        "media_type": "document",
        "author": "An author",
        "url": "https://example.org/7",
    }
    assert (await served.running.jobs.get_job_status(job["id"])).priority == 80


async def test_jobs_are_listed_by_tldws_status_and_offset(
    adapter: EmbeddingsJobsAdapter, tldw: StandIn, served: Served, request: pytest.FixtureRequest
) -> None:
    user = user_of(request)
    for media_id in (1, 2, 3):
        tldw.of(user).add(media_id, f"Text {media_id}.")
    made = [await create(adapter, user, media_id) for media_id in (1, 2, 3)]
    for job in made:
        await ended(served, job)

    async def listed(**more: Any) -> list[int]:
        wanted = {"status": None, "limit": 10, "offset": 0} | more
        found = await beside(lambda: adapter.list_jobs(user_id=user, **wanted))
        return [job["media_id"] for job in found]

    assert await listed() == [3, 2, 1]
    assert await listed(limit=1, offset=1) == [2]
    assert await listed(status="COMPLETED", limit=2) == [3, 2]
    for status in ("queued", "processing", "failed", "cancelled", "no such status"):
        assert await listed(status=status) == []
    with pytest.raises(InvalidRequest, match="negative"):
        await listed(offset=-1)


async def test_nothing_is_made_of_what_is_not_there(
    adapter: EmbeddingsJobsAdapter, tldw: StandIn, request: pytest.FixtureRequest
) -> None:
    user = user_of(request)
    tldw.of(user).add(1, "Deleted.", deleted=1)
    tldw.of(user).add(2, "In the trash.", is_trash=1)
    tldw.of(user).add(4, "")
    for media_id in (1, 2, 3):
        with pytest.raises(UnknownDocument, match=f"`{media_id}`"):
            await create(adapter, user, media_id)
    with pytest.raises(InvalidRequest, match="nothing to embed"):
        await create(adapter, user, 4)
    with pytest.raises(UnknownDocument, match="no database"):
        await create(adapter, "no-such-user", 1)
    with pytest.raises(InvalidRequest, match="no name"):
        await create(adapter, "../other", 1)
    with pytest.raises(ValueError, match="stage"):
        await create(adapter, user, 4, stage="no such stage")
    assert await beside(lambda: adapter.get_job("no-such-job", user)) is None
    assert await beside(lambda: adapter.get_job("", user)) is None


async def test_a_job_of_another_user_is_not_shown(
    adapter: EmbeddingsJobsAdapter, tldw: StandIn, request: pytest.FixtureRequest
) -> None:
    user = user_of(request)
    tldw.of(user).add(1, "Mine.")
    job = await create(adapter, user, 1)
    assert await beside(lambda: adapter.get_job(job["id"], f"{user}0")) is None


async def test_an_item_of_a_collection_does_not_take_the_place_of_a_media_item(
    jobs_of: JobsOf, served: Served, request: pytest.FixtureRequest
) -> None:
    user = user_of(request)
    await enqueue_embeddings_job_for_item(
        user_id=int(user), item_id=7, content=" A note. ", metadata={"tags": ["a"]}, jobs_of=jobs_of
    )
    await enqueue_embeddings_job_for_item(user_id=user, item_id=8, content="   ", jobs_of=jobs_of)
    await enqueue_embeddings_job_for_item(
        user_id=user, item_id=9, content="Refused.", metadata={"": "no name"}, jobs_of=jobs_of
    )
    (document,) = [one async for one in served.running.jobs.of(user).all_documents()]
    assert (document.media_id, document.metadata) == ("item-7", {"tags": ["a"]})


async def test_without_arguments_the_environment_says_where_everything_is(
    served: Served, tldw: StandIn, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    user = user_of(request)
    tldw.of(user).add(1, "By the environment.")
    monkeypatch.setenv("EMBEDFLEET_SERVER", served.url)
    monkeypatch.setenv("USER_DB_BASE_DIR", str(tldw.base_dir))
    monkeypatch.setenv("EMBEDDINGS_JOBS_EXPOSE_PROGRESS", "true")
    jobs_of_environment.cache_clear()
    try:
        adapter = EmbeddingsJobsAdapter()
        job = await beside(lambda: adapter.create_job(user_id=user, media_id=1, embedding_model="stub"))
        await ended(served, job)
        shown = await beside(lambda: adapter.get_job(job["id"], user))
        assert shown is not None
        assert (shown["progress_percent"], shown["total_chunks"]) == (100.0, 1)
    finally:
        client = jobs_of_environment().__self__  # type: ignore[attr-defined]
        client.close()
        jobs_of_environment.cache_clear()
    monkeypatch.delenv("USER_DB_BASE_DIR")
    with pytest.raises(InvalidRequest, match="USER_DB_BASE_DIR"):
        MediaDatabases()


def event_of(user: str, media_id: object, status: JobStatus, position: int) -> JobEvent:
    names = {"event_id": f"e{position}", "tenant": user, "job_id": "j", "media_id": str(media_id)}
    counts = {
        "position": position,
        "chunks_stored": 1,
        "chunks_dead": 0,
        "created_at": "2026-01-01T00:00:00Z",
    }
    reason = None if status is JobStatus.COMPLETED else "the model is away"
    return JobEvent.model_validate({**names, **counts, "status": status, "reason": reason})


class Told:
    """Events in hand, and an end when all of them were given."""

    def __init__(self, *events: JobEvent) -> None:
        self.events = events
        self.given = asyncio.Event()

    async def follow_events(self, *, after: int = 0) -> AsyncIterator[JobEvent]:
        for event in self.events:
            if event.position > after:
                yield event
        self.given.set()
        await asyncio.Event().wait()


class Marks:
    """Follows events while the block runs."""

    def __init__(self, tldw: StandIn, events: Any, state_file: Path, **more: Any) -> None:
        self.dropped: list[tuple[str, int]] = []
        self.marks = MediaMarks(
            events,
            database_of=tldw.of,
            mark_media_as_processed=more.pop("mark", mark_media_as_processed),
            drop_caches=lambda user, media_id: self.dropped.append((user, media_id)),
            state_file=state_file,
            pauses=more.pop("pauses", BackOff(0.001, 0.001)),
        )

    async def __aenter__(self) -> Marks:
        self._task = asyncio.create_task(self.marks.run())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, holds: Callable[[], bool]) -> None:
        """The stand-in's files send no event, so they are looked at in between."""
        async with asyncio.timeout(HANG_SECONDS):
            while not holds():
                assert not self._task.done(), self._task
                await asyncio.sleep(0.001)


@pytest.mark.parametrize("door", ["in process", "over HTTP"])
async def test_an_item_is_marked_when_its_job_has_ended(
    door: str, served: Served, tldw: StandIn, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    user = user_of(request)
    database = tldw.of(user)
    database.add(1, "Good text.")
    jobs = served.running.jobs
    async with AsyncClient(served.url) as client:
        events = jobs.of_all_tenants() if door == "in process" else client.of_all_tenants()
        async with Marks(tldw, events, tmp_path / "marks.json") as marks:
            await jobs.of(user).create_job(media_id=1, content="Good text.")
            await marks.until(lambda: (user, 1) in marks.dropped)
    assert database.vector_processing(1) == 1


async def test_each_end_of_a_job_has_its_mark(tldw: StandIn, tmp_path: Path) -> None:
    ends = [JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS, JobStatus.FAILED, JobStatus.CANCELLED]
    database = tldw.of("ends")
    for media_id in range(4):
        database.add(media_id, "text")
    events = [event_of("ends", media_id, status, media_id + 1) for media_id, status in enumerate(ends)]
    told = Told(*events, event_of("ends", "item-5", JobStatus.COMPLETED, 5))
    async with Marks(tldw, told, tmp_path / "marks.json") as marks:
        await told.given.wait()
    assert [database.vector_processing(media_id) for media_id in range(4)] == [1, 1, -1, 0]
    assert database.errors == [(2, "the model is away")]
    assert marks.dropped == [("ends", 0), ("ends", 1), ("ends", 2)]


async def test_after_a_crash_the_event_in_hand_is_told_again_and_no_other(
    tldw: StandIn, tmp_path: Path
) -> None:
    tldw.of("crash").add(1, "text")
    tldw.of("crash").add(2, "text")
    told: list[int] = []
    loop, reached, gone = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def mark(database: object, media_id: int) -> None:
        told.append(media_id)
        if told == [1, 2]:
            loop.call_soon_threadsafe(reached.set)
            gone.wait(HANG_SECONDS)

    events = [event_of("crash", media_id, JobStatus.COMPLETED, media_id) for media_id in (1, 2)]
    async with Marks(tldw, Told(*events), tmp_path / "marks.json", mark=mark):
        await reached.wait()  # the process ends before it notes that it has told
    gone.set()
    second = Told(*events)
    async with Marks(tldw, second, tmp_path / "marks.json", mark=mark):
        await second.given.wait()
    assert told == [1, 2, 2]


async def test_a_mark_that_fails_holds_up_no_other_and_is_repeated_also_after_a_restart(
    tldw: StandIn, tmp_path: Path
) -> None:
    state_file = tmp_path / "marks.json"
    locked, free = tldw.of("locked"), tldw.of("free")
    locked.add(1, "text")
    free.add(1, "text")
    locked.fail(times=10**9)
    told = Told(event_of("locked", 1, JobStatus.COMPLETED, 1), event_of("free", 1, JobStatus.COMPLETED, 2))
    async with Marks(tldw, told, state_file) as marks:
        await told.given.wait()
        assert (locked.vector_processing(1), free.vector_processing(1)) == (0, 1)
    locked.fail(times=1)
    async with Marks(tldw, Told(), state_file) as marks:
        await marks.until(lambda: locked.vector_processing(1) == 1)
    nothing_left = Told()
    async with Marks(tldw, nothing_left, state_file) as marks:
        await nothing_left.given.wait()
        assert marks.dropped == []


async def test_a_newer_end_of_an_item_takes_the_place_of_one_that_was_not_told(
    tldw: StandIn, tmp_path: Path
) -> None:
    database = tldw.of("newer")
    database.add(1, "text")
    database.fail(times=1)
    told = Told(event_of("newer", 1, JobStatus.FAILED, 1), event_of("newer", 1, JobStatus.COMPLETED, 2))
    # The newer one comes before the older one is tried again.
    async with Marks(tldw, told, tmp_path / "marks.json", pauses=BackOff(3600.0, 3600.0)):
        await told.given.wait()
    async with Marks(tldw, Told(), tmp_path / "marks.json") as marks:
        assert marks.dropped == []
    assert (database.vector_processing(1), database.errors) == (1, [])


async def test_a_file_of_another_kind_is_refused(tldw: StandIn, tmp_path: Path) -> None:
    file = tmp_path / "marks.json"
    file.write_text("{}")
    with pytest.raises(ConfigError, match=r"marks\.json"):
        Marks(tldw, Told(), file)
