"""Code written for tldw_server's documented API runs as it is: names, positions, results and errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from app.core.Embeddings.job_manager import (
    EmbeddingJobManager,
    JobInfo,
    JobManagerConfig,
    JobPriority,
    JobStatus,
    UserTier,
)
from app.core.Embeddings.queue_schemas import ChunkingConfig

from embedfleet.errors import InvalidRequest
from embedfleet.queue_schemas import ChunkingConfig as OwnConfig
from support.hangs import HANG_SECONDS
from support.system import make_settings, running

pytestmark = pytest.mark.usefixtures("no_redis")


@pytest.fixture
def no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)


@pytest_asyncio.fixture
async def manager(tmp_path: Path) -> AsyncIterator[EmbeddingJobManager]:
    """A job manager whose jobs wait, as no orchestrator runs."""
    manager = EmbeddingJobManager(JobManagerConfig(settings=make_settings(tmp_path)))
    await manager.initialize()
    yield manager
    await manager.close()


async def status_of(manager: EmbeddingJobManager, job_id: str) -> JobInfo:
    info = await manager.get_job_status(job_id)
    assert info is not None
    return info


async def test_a_job_is_created_by_position_and_its_state_has_tldws_fields(
    manager: EmbeddingJobManager,
) -> None:
    job_id = await manager.create_job(
        123,
        "user_456",
        UserTier.PREMIUM,
        "Some text to embed.",
        "text",
        ChunkingConfig(chunk_size=1000, overlap=200, separator="\n"),
        JobPriority.HIGH,
        {"title": "A title", "year": 1999, "authors": ["a", "b"], "extra": {"deep": 1}, "none": None},
    )
    info = await status_of(manager, job_id)
    assert (info.job_id, info.user_id, info.media_id) == (job_id, "user_456", 123)
    assert (info.status, info.priority) == ("pending", 75)
    assert info.updated_at == info.created_at
    assert (info.started_at, info.completed_at, info.error_message, info.current_stage) == (None,) * 4
    assert (info.progress_percentage, info.chunks_processed, info.total_chunks) == (0.0, 0, 0)
    document = await manager.of("user_456").get_document(media_id=123)
    assert document.metadata == {
        "title": "A title",
        "year": 1999,
        "authors": ["a", "b"],
        "extra": '{"deep": 1}',
    }


async def test_kinds_of_media_are_text_and_a_priority_outside_of_the_range_is_the_nearest(
    manager: EmbeddingJobManager,
) -> None:
    for media_id, kind in enumerate(["document", "video", "markdown"]):
        job_id = await manager.create_job(
            media_id=media_id, user_id="u", content="Words.", content_type=kind, priority=1000
        )
        assert (await status_of(manager, job_id)).priority == 100


async def test_an_unknown_job_is_none_and_one_of_another_user_is_a_value_error(
    manager: EmbeddingJobManager,
) -> None:
    job_id = await manager.create_job(1, "owner", UserTier.FREE, "Words.")
    assert await manager.get_job_status("no-such-job") is None
    assert await manager.cancel_job("no-such-job", "owner") is False
    with pytest.raises(ValueError, match="does not own"):
        await manager.cancel_job(job_id, "another")
    assert (await status_of(manager, job_id)).status == JobStatus.PENDING
    assert await manager.cancel_job(job_id, "owner") is True
    assert (await status_of(manager, job_id)).status == JobStatus.CANCELLED
    assert await manager.cancel_job(job_id, "owner") is False


@pytest.mark.parametrize(
    "limits",
    [
        {"max_concurrent_jobs_per_user": {UserTier.FREE: 1}},
        {"daily_quota_per_user": {"free": 1}},
    ],
    ids=["jobs at once", "chunks a day"],
)
async def test_over_a_quota_a_value_error_is_raised(tmp_path: Path, limits: dict[str, object]) -> None:
    config = JobManagerConfig.model_validate({"settings": make_settings(tmp_path)} | limits)
    manager = EmbeddingJobManager(config)
    async with manager:
        await manager.create_job(1, "u", UserTier.FREE, "a" * 900)
        with pytest.raises(ValueError, match="allows"):
            await manager.create_job(2, "u", UserTier.FREE, "b" * 900)
        await manager.create_job(3, "v", UserTier.PREMIUM, "b" * 900)


async def test_a_users_jobs_and_the_queues_are_told(manager: EmbeddingJobManager) -> None:
    open_jobs = [await manager.create_job(number, "u", UserTier.FREE, f"Text {number}.") for number in (1, 2)]
    ended = await manager.create_job(3, "u", UserTier.FREE, "Text 3.")
    await manager.create_job(4, "another", UserTier.FREE, "Text 4.")
    await manager.cancel_job(ended, "u")
    assert [one.job_id for one in await manager.get_user_jobs("u")] == open_jobs[::-1]
    everything = await manager.get_user_jobs("u", include_completed=True, limit=2)
    assert [one.job_id for one in everything] == [ended, open_jobs[1]]
    queues = {"embeddings:chunking": 3, "embeddings:embedding": 0, "embeddings:storage": 0}
    assert await manager.get_queue_stats() == queues
    no_letters = {f"{name}:dlq": 0 for name in queues}
    assert await manager.get_queue_stats_with_dlq() == queues | no_letters


def test_the_config_refuses_what_it_does_not_know_and_hears_of_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(tmp_path)
    with pytest.raises(InvalidRequest, match="redis_uri"):
        JobManagerConfig(settings=settings, redis_uri="redis://here")  # type: ignore[call-arg]

    def url_of(config: JobManagerConfig) -> str | None:
        url = config.effective_settings().redis.url
        return None if url is None else url.get_secret_value()

    assert url_of(JobManagerConfig(settings=settings)) is None
    monkeypatch.setenv("REDIS_URL", "redis://of-the-environment:6379")
    assert url_of(JobManagerConfig(settings=settings)) == "redis://of-the-environment:6379"
    given = JobManagerConfig(settings=settings, redis_url="redis://given:6379")
    assert url_of(given) == "redis://given:6379"
    own = make_settings(tmp_path, redis={"url": "redis://of-the-settings:6379"})
    assert url_of(JobManagerConfig(settings=own)) == "redis://of-the-settings:6379"


async def test_a_job_ends_as_tldw_says_and_its_chunking_is_embedfleets_own(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    async with running(settings) as system:
        config = JobManagerConfig(settings=settings)
        manager = EmbeddingJobManager(config, database=system.system.database)
        chunking = ChunkingConfig(chunk_size=100, separator="\n", contextualize=False)
        job_id = await manager.create_job(7, "u", UserTier.FREE, "A line of text.\n" * 40, "text", chunking)
        await manager.wait(job_id, timeout_seconds=HANG_SECONDS)
        info = await status_of(manager, job_id)
        assert (info.status, info.progress_percentage, info.current_stage) == ("completed", 100.0, "storage")
        assert info.total_chunks == info.chunks_processed > 1
        assert info.completed_at == info.updated_at
        assert info.coverage == 1.0  # what embedfleet's own record says beside
        # The same text cut by embedfleet's own config is the same version: nothing is made again.
        own = OwnConfig(chunk_size=100, overlap=20)
        again = await system.ingest("7", "A line of text.\n" * 40, user_id="u", chunking_config=own)
        assert again.generation == info.generation
