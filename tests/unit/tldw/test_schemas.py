"""tldw's records and its chunking config can be made as its code makes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from app.core.Embeddings import workers
from app.core.Embeddings.queue_schemas import (
    ChunkData,
    ChunkingConfig,
    ChunkingMessage,
    EmbeddingData,
    EmbeddingMessage,
    JobInfo,
    JobPriority,
    JobStatus,
    QueueConfig,
    StorageMessage,
    UserTier,
    WorkerMetrics,
)

from embedfleet.errors import InvalidRequest
from embedfleet.queue_schemas import ChunkingConfig as OwnConfig
from embedfleet.queue_schemas import ChunkMethod, ChunkUnit, JobProgress, JobRequest
from embedfleet.queue_schemas import JobInfo as JobRecord
from embedfleet.tldw.schemas import media_id_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_priorities_have_tldws_numbers() -> None:
    assert [priority.value for priority in JobPriority] == [0, 50, 75, 100]
    assert JobPriority(75) is JobPriority.HIGH


def test_messages_are_made_and_read_back() -> None:
    chunk = ChunkData(chunk_id="c", content="text", start_index=0, end_index=4, sequence_number=0)
    vector = EmbeddingData(chunk_id="c", embedding=[0.5], model_used="m", dimensions=1)
    job: dict[str, Any] = {"job_id": "j", "user_id": "u", "media_id": 1}
    messages = [
        ChunkingMessage(**job, content="text", content_type="text", user_tier=UserTier.PREMIUM),
        EmbeddingMessage(**job, chunks=[chunk], embedding_model_config={"a": 1}, model_provider="openai"),
        StorageMessage(
            **job, embeddings=[vector], collection_name="c", total_chunks=1, processing_time_ms=5, metadata={}
        ),
    ]
    for message in messages:
        assert type(message).model_validate_json(message.model_dump_json()) == message
    assert (messages[0].priority, messages[0].user_tier, messages[0].max_retries) == (50, "premium", 3)
    first_release = EmbeddingMessage.model_validate({**messages[1].model_dump(), "model_config": {"a": 1}})
    assert first_release.embedding_model_config == {"a": 1}


def test_other_records_have_tldws_defaults() -> None:
    assert QueueConfig(queue_name="q", consumer_group="g").poll_interval_ms == 100
    metrics = WorkerMetrics(
        worker_id="w",
        worker_type="chunking",
        jobs_processed=1,
        jobs_failed=0,
        average_processing_time_ms=1.5,
        current_load=0.5,
    )
    assert metrics.gpu_utilization is None
    config = workers.EmbeddingWorkerConfig(
        worker_id="w", worker_type="embedding", queue_name="q", consumer_group="g", gpu_id=1
    )
    assert (config.batch_size, config.max_batch_size) == (1, 32)
    for name in workers.__all__:
        assert getattr(workers, name)


def test_job_info_is_made_as_tldw_makes_it() -> None:
    info = JobInfo(
        job_id="j",
        user_id="u",
        media_id=3,
        status=JobStatus.PENDING,
        priority=50,
        created_at=NOW,
        updated_at=NOW,
    )
    assert (info.progress_percentage, info.chunks_processed, info.completed_at) == (0.0, 0, None)
    with pytest.raises(AttributeError, match="coverage"):
        info.coverage  # noqa: B018


def record(status: JobStatus, progress: JobProgress, **more: object) -> JobRecord:
    fields = {
        "job_id": "j",
        "tenant": "u",
        "media_id": "3",
        "priority": 50,
        "user_tier": "free",
        "model": "m",
    }
    counts = {"generation": 1, "chars": 10, "created_at": NOW}
    return JobRecord.model_validate({**fields, **counts, "status": status, "progress": progress, **more})


@pytest.mark.parametrize(
    ("status", "progress", "percentage", "stage"),
    [
        (JobStatus.PENDING, JobProgress(), 0.0, None),
        (JobStatus.CHUNKING, JobProgress(chunks_total=4, chunks_embedded=4), 0.0, "chunking"),
        (JobStatus.EMBEDDING, JobProgress(chunks_total=4, sealed=True), 25.0, "embedding"),
        (JobStatus.EMBEDDING, JobProgress(chunks_total=4, chunks_embedded=2, sealed=True), 50.0, "embedding"),
        (
            JobStatus.STORING,
            JobProgress(chunks_total=4, chunks_embedded=4, chunks_stored=2, sealed=True),
            87.5,
            "storage",
        ),
        (JobStatus.COMPLETED, JobProgress(), 100.0, "storage"),
        (JobStatus.FAILED, JobProgress(), 0.0, None),
    ],
)
def test_progress_is_told_on_tldws_scale(
    status: JobStatus, progress: JobProgress, percentage: float, stage: str | None
) -> None:
    info = JobInfo.of(record(status, progress))
    assert (info.status, info.progress_percentage, info.current_stage) == (status, percentage, stage)


def test_a_job_that_lost_chunks_has_completed_and_says_what_is_missing() -> None:
    """Code that waits for an end knows no other name."""
    lost = record(JobStatus.COMPLETED_WITH_ERRORS, JobProgress(), reason="1 of 3 chunks is missing")
    info = JobInfo.of(lost)
    assert (info.status, info.error_message) == ("completed", "1 of 3 chunks is missing")
    assert info.record == lost


@pytest.mark.parametrize(("text", "media_id"), [("12", 12), ("012", "012"), ("a", "a"), ("", ""), ("²", "²")])
def test_a_media_id_is_a_number_if_it_was_one(text: str, media_id: int | str) -> None:
    assert media_id_of(text) == media_id


class TestChunkingConfig:
    def test_tldws_defaults_are_embedfleets(self) -> None:
        config = ChunkingConfig()
        assert (config.chunk_size, config.overlap, config.separator) == (1000, 200, "\n")
        assert (config.preserve_metadata, config.contextualize) == (True, False)
        assert config.without_counterpart == ()

    @pytest.mark.parametrize(
        ("given", "size", "unit", "method"),
        [
            ({"method": "words"}, 1000, ChunkUnit.CHARS, ChunkMethod.RECURSIVE),
            ({"method": "sentences", "unit": "chars"}, 1000, ChunkUnit.CHARS, ChunkMethod.SENTENCES),
            ({"unit": "words"}, 6000, ChunkUnit.CHARS, ChunkMethod.RECURSIVE),
            (
                {"unit": "words", "chunk_size": 200, "overlap": 10},
                1200,
                ChunkUnit.CHARS,
                ChunkMethod.RECURSIVE,
            ),
            ({"unit": "tokens", "method": None}, 1000, ChunkUnit.TOKENS, ChunkMethod.RECURSIVE),
        ],
    )
    def test_its_words_become_embedfleets(
        self, given: dict[str, Any], size: int, unit: ChunkUnit, method: ChunkMethod
    ) -> None:
        config = ChunkingConfig(**given)
        assert (config.chunk_size, config.unit, config.method) == (size, unit, method)
        assert config.without_counterpart == ()

    def test_what_changes_nothing_is_named(self) -> None:
        config = ChunkingConfig(
            method="ebook_chapters", language="de", contextualize=True, separator="---", template_name="t"
        )
        assert set(config.without_counterpart) == {"method", "language", "contextualize", "separator"} | {
            "template_name"
        }
        assert config.method is ChunkMethod.RECURSIVE

    def test_an_overlap_that_is_not_given_fits_the_size(self) -> None:
        assert ChunkingConfig(chunk_size=100).overlap == 20
        with pytest.raises(InvalidRequest, match="overlap"):
            ChunkingConfig(chunk_size=100, overlap=100)

    def test_a_job_keeps_embedfleets_own_config(self) -> None:
        """A generation is told apart by its config, and tldw's fields change no chunk."""
        request = JobRequest(
            media_id=1, user_id="u", content="x", chunking_config=ChunkingConfig(separator="\n\n")
        )
        assert request.chunking_config == OwnConfig()
