"""The job manager, called as code written for tldw_server calls it.

Its calls have tldw's arguments, positions, results and errors. All else is that of embedfleet's own job
manager, which it is: `of(user_id)`, `wait`, `create_job_from_file` and the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from loguru import logger
from pydantic import ConfigDict, Field

from embedfleet.account import NOTHING_SAID, Account
from embedfleet.document_metadata import Value
from embedfleet.errors import InvalidRequest, QuotaExceeded, UnknownJob
from embedfleet.job_manager import EmbeddingJobManager as NativeJobManager
from embedfleet.job_manager import JobManagerConfig as NativeConfig
from embedfleet.places import NOWHERE, Places
from embedfleet.queue_schemas import (
    ChunkingConfig,
    ContentType,
    ContentTypeName,
    JobStatus,
    Stage,
    UserTier,
    UserTierName,
)
from embedfleet.queue_schemas import JobInfo as JobRecord
from embedfleet.settings import Settings
from embedfleet.tldw import chunking_config as chunking
from embedfleet.tldw.schemas import JobInfo, JobPriority
from embedfleet.tldw.settings import redis_of_environment

CHARS_A_CHUNK = 1_000
"""tldw counts a daily quota in chunks of its default size; embedfleet counts characters."""

_PAGE = 1_000
_UNFINISHED = tuple(status for status in JobStatus if not status.terminal)


class QuotaReached(QuotaExceeded, ValueError):
    """A limit of the user does not allow the job now. tldw raises a ValueError."""


class NotYourJob(UnknownJob, ValueError):
    """The job is another user's. tldw raises a ValueError."""


class JobManagerConfig(NativeConfig):
    """tldw's settings of a job manager, over those that every command of embedfleet has.

    A field that is not given changes nothing, and an unknown one is refused. `redis_url` is that of the
    queues; without it `REDIS_URL` counts, if the settings name no Redis. The names of queues are the keys of
    `get_queue_stats`. A quota of chunks becomes one of characters, 1,000 for a chunk. embedfleet keeps a job
    as long as its document, so `job_ttl_seconds` is taken and changes nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    redis_url: str = "redis://localhost:6379"
    chunking_queue: str = "embeddings:chunking"
    embedding_queue: str = "embeddings:embedding"
    storage_queue: str = "embeddings:storage"
    job_ttl_seconds: int = 86_400
    max_concurrent_jobs_per_user: dict[UserTier, int] = Field(
        default_factory=lambda: {UserTier.FREE: 2, UserTier.PREMIUM: 5, UserTier.ENTERPRISE: 20}
    )
    daily_quota_per_user: dict[UserTier, int] = Field(
        default_factory=lambda: {
            UserTier.FREE: 1_000,
            UserTier.PREMIUM: 10_000,
            UserTier.ENTERPRISE: 100_000,
        }
    )

    @property
    def queue_names(self) -> Mapping[Stage, str]:
        """The name of each stage's queue, as tldw has it."""
        return {
            Stage.CHUNKING: self.chunking_queue,
            Stage.EMBEDDING: self.embedding_queue,
            Stage.STORAGE: self.storage_queue,
        }

    def effective_settings(self) -> Settings:
        """Return embedfleet's settings with what was given here. Raises ConfigError for a limit below 1."""
        values = self.settings.model_dump()
        url = self._given_redis_url()
        if url is not None:
            values["redis"]["url"] = url
        tiers = values["tenants"]["tiers"]
        for name, limits in self._given_limits().items():
            for tier, limit in limits.items():
                tiers[tier.value][name] = limit
        return Settings.model_validate(values)

    def _given_redis_url(self) -> str | None:
        if "redis_url" in self.model_fields_set:
            return self.redis_url
        return redis_of_environment(self.settings)

    def _given_limits(self) -> dict[str, dict[UserTier, int]]:
        limits: dict[str, dict[UserTier, int]] = {}
        if "max_concurrent_jobs_per_user" in self.model_fields_set:
            limits["max_active_jobs"] = self.max_concurrent_jobs_per_user
        if "daily_quota_per_user" in self.model_fields_set:
            quotas = self.daily_quota_per_user.items()
            # A quota of 0 chunks allows no document: no text has less than one character.
            limits["daily_chars"] = {tier: max(chunks * CHARS_A_CHUNK, 1) for tier, chunks in quotas}
        return limits


class EmbeddingJobManager(NativeJobManager):
    """embedfleet's job manager, with tldw's arguments, results and errors."""

    def __init__(self, config: NativeConfig | None = None, **parts: Any) -> None:
        """`parts` are those that embedfleet's own job manager takes."""
        self.config = config if isinstance(config, JobManagerConfig) else _configured(config)
        super().__init__(NativeConfig(settings=self.config.effective_settings()), **parts)

    async def create_job(
        self,
        media_id: int | str,
        user_id: str,
        user_tier: UserTier | UserTierName | None = None,
        content: str = "",
        content_type: ContentType | ContentTypeName | str = "text",
        chunking_config: ChunkingConfig | None = None,
        priority: int = JobPriority.NORMAL,
        metadata: Mapping[str, Any] | None = None,
        *,
        model: str | None = None,
        source: str | None = None,
        source_hash: str | None = None,
        title: str | None = None,
        account: Account = NOTHING_SAID,
        places: Places = NOWHERE,
        strict: bool = False,
    ) -> str:
        """Submit one version of a document, and return the job's id.

        A content type that embedfleet does not have, such as `document`, is text. A priority outside 0-100
        becomes the nearest. Metadata values that are no texts, numbers, booleans or lists become texts, and
        None is left out. Else it does what embedfleet's `create_job` does.

        Raises QuotaReached, which is a ValueError, over a limit of the user's tier; otherwise as that does.
        """
        _say_what_is_lost(chunking_config)
        try:
            return await super().create_job(
                media_id=media_id,
                user_id=user_id,
                content=content,
                user_tier=user_tier,
                content_type=_content_type(content_type),
                chunking_config=chunking_config,
                priority=max(0, min(100, int(priority))),
                model=model,
                source=source,
                source_hash=source_hash,
                title=title,
                account=account,
                places=places,
                strict=strict,
                metadata=None if metadata is None else flat_metadata(metadata),
            )
        except QuotaExceeded as exc:
            raise QuotaReached(
                str(exc),
                name=exc.name,
                limit=exc.limit,
                used=exc.used,
                retry_after=exc.retry_after,
                remedy=exc.remedy,
            ) from exc

    # tldw returns None for a job that it does not know, where embedfleet's own call raises.
    async def get_job_status(self, job_id: str) -> JobInfo | None:  # type: ignore[override]
        """Return the present state of a job of any user; None if there is no such job."""
        try:
            return JobInfo.of(await super().get_job_status(job_id))
        except UnknownJob:
            return None

    async def cancel_job(self, job_id: str, user_id: str) -> bool:
        """End an unfinished job of this user. Return False if it had ended already, or does not exist.

        Raises NotYourJob, which is a ValueError, if it is another user's.
        """
        info = await self.get_job_status(job_id)
        if info is None:
            return False
        if info.user_id != user_id:
            raise NotYourJob(f"job `{job_id}`: user `{user_id}` does not own it: name its own user")
        return await self.of(user_id).cancel(job_id)

    async def get_user_jobs(
        self, user_id: str, include_completed: bool = False, limit: int = 100
    ) -> list[JobInfo]:
        """Return the user's jobs, newest first: the unfinished ones; or, on request, up to `limit` of all."""
        if include_completed:
            page = await self.list_jobs(user_id, limit=limit)
            return [JobInfo.of(one) for one in page]
        # They move on between the reads, and a job that is met twice is told once, as it was last.
        found: dict[str, JobRecord] = {}
        for status in _UNFINISHED:
            after: str | None = None
            while True:
                page = await self.list_jobs(user_id, status=status, limit=_PAGE, after=after)
                found |= {one.job_id: one for one in page}
                after = page.next_cursor
                if after is None:
                    break
        newest_first = sorted(found.values(), key=lambda one: (one.created_at, one.job_id), reverse=True)
        return [JobInfo.of(one) for one in newest_first]

    async def get_queue_stats(self) -> dict[str, int]:
        """Return, by the name of each queue, how many unfinished jobs have their next work there.

        A job counts in one queue. Those that wait for an orchestrator count as to be chunked.
        """
        counts = await self.of_all_tenants().count_jobs()
        stages = {
            Stage.CHUNKING: (JobStatus.PENDING, JobStatus.CHUNKING),
            Stage.EMBEDDING: (JobStatus.EMBEDDING,),
            Stage.STORAGE: (JobStatus.STORING,),
        }
        return {
            name: sum(counts.get(status, 0) for status in stages[stage])
            for stage, name in self.config.queue_names.items()
        }

    async def get_queue_stats_with_dlq(self) -> dict[str, int]:
        """Return what `get_queue_stats` does, and the open dead letters of each queue as `NAME:dlq`."""
        stats = await self.get_queue_stats()
        for stage, name in self.config.queue_names.items():
            stats[f"{name}:dlq"] = await self._open_dead_letters(stage)
        return stats

    async def _open_dead_letters(self, stage: Stage) -> int:
        count, after = 0, None
        while True:
            page = await self.of_all_tenants().list_dead_letters(stage=stage, limit=_PAGE, after=after)
            count, after = count + len(page), page.next_cursor
            if after is None:
                return count


def _configured(config: NativeConfig | None) -> JobManagerConfig:
    return JobManagerConfig() if config is None else JobManagerConfig(settings=config.settings)


def _content_type(given: str) -> ContentType:
    """Return how the chunker reads it. tldw names kinds of media here; their content is text."""
    try:
        return ContentType(given)
    except ValueError:
        return ContentType.TEXT


def _say_what_is_lost(config: ChunkingConfig | None) -> None:
    lost = config.without_counterpart if isinstance(config, chunking.ChunkingConfig) else ()
    if lost:
        logger.warning("chunking_config: {} have no counterpart and change nothing", ", ".join(lost))


def flat_metadata(given: Mapping[str, Any]) -> dict[str, Value]:
    """Return metadata with values that embedfleet keeps. Names are checked where the job is made."""
    if not isinstance(given, Mapping):
        raise InvalidRequest("metadata: must be names with values", field="metadata")
    return {str(name): _flat(value) for name, value in given.items() if value is not None}


def _flat(value: Any) -> Value:
    match value:
        case str() | bool() | int() | float():
            return value
        case list() | tuple() | set() | frozenset():
            return [one if isinstance(one, str) else json.dumps(one, default=str) for one in value]
        case date() | datetime():
            return value.isoformat()
        case _:
            return json.dumps(value, default=str)
