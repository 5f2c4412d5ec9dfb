"""Takes the place of tldw's `EmbeddingsJobsAdapter`: the same calls, whose jobs are embedfleet's.

A job names a media item. Its text is read from tldw's database when the job is made.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from embedfleet.errors import InvalidRequest, UnknownJob, UnknownModel
from embedfleet.queue_schemas import ChunkingConfig as OwnConfig
from embedfleet.queue_schemas import JobInfo, JobStatus
from embedfleet.tldw.chunking_config import ChunkingConfig
from embedfleet.tldw.media_database import LoadItem, MediaDatabases
from embedfleet.tldw.models import bundled_name, catalogue_name
from embedfleet.tldw.schemas import media_id_of, percentage
from embedfleet.tldw.user_jobs import JobsOf, UserJobs, jobs_of_environment

_STAGES = ("chunking", "embedding", "storage")
_STATUSES: Mapping[str, tuple[JobStatus, ...]] = {
    "queued": (JobStatus.PENDING,),
    "processing": (JobStatus.CHUNKING, JobStatus.EMBEDDING, JobStatus.STORING),
    # A document that lost chunks is searchable: tldw has no name between the two.
    "completed": (JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS),
    "failed": (JobStatus.FAILED,),
    "cancelled": (JobStatus.CANCELLED,),
}
_STATUS_OF = {ours: theirs for theirs, several in _STATUSES.items() for ours in several}
_PROGRESS_ENV = "EMBEDDINGS_JOBS_EXPOSE_PROGRESS"


class EmbeddingsJobsAdapter:
    """Makes and shows embedding jobs of media items. Its calls block, and any thread may make them."""

    def __init__(
        self,
        *,
        jobs_of: JobsOf | None = None,
        load_item: LoadItem | None = None,
        models: Mapping[str, str] | None = None,
    ) -> None:
        """Without arguments, everything is as the environment says: tldw makes an adapter so.

        `jobs_of` gives the access of a user (`jobs_of_environment`). `load_item` gives the text of a media
        item (`MediaDatabases`). `models` has, by tldw's name of a model, the name in embedfleet's catalogue.
        Others are looked for by that name, by its last part, and among the built-in models.
        """
        self._jobs_of = jobs_of or jobs_of_environment()
        self._load_item = load_item or MediaDatabases()
        self._models = models or {}
        self._names = {ours: theirs for theirs, ours in self._models.items()}
        self._tells_progress = os.environ.get(_PROGRESS_ENV, "").strip().lower() in _TRUE

    def create_job(
        self,
        *,
        user_id: str,
        media_id: int,
        embedding_model: str,
        embedding_provider: str | None = None,
        chunk_size: int | None = None,
        chunk_overlap: int | None = None,
        request_source: str | None = None,
        request_id: str | None = None,
        trace_id: str | None = None,
        force_regenerate: bool = False,
        stage: str | None = None,
        embedding_priority: int | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Submit the present text of a media item, and return the job: `uuid` and `id` are the same text.

        Sizes are in words, as tldw's are. The job goes through all stages, whichever `stage` is named. A text
        that readers see already, cut and embedded in the same way, completes at once, also with
        `force_regenerate`: its vectors would be the same. Where a request came from is not kept.

        Raises ValueError for a stage that tldw does not have. Raises UnknownDocument for a media item that
        there is not, and otherwise what submitting a job raises.
        """
        if (stage or "chunking").strip().lower() not in _STAGES:
            raise ValueError(f"invalid embeddings stage: {stage}")
        user = str(user_id)
        item = self._load_item(user, int(media_id))
        jobs = self._jobs_of(user)
        job_id = self._submit(
            jobs,
            embedding_model,
            media_id=int(media_id),
            content=item.content,
            chunking_config=_chunking(chunk_size, chunk_overlap),
            priority=50 if embedding_priority is None else max(0, min(100, int(embedding_priority))),
            source=item.url,
            title=item.title,
            metadata=dict(item.metadata),
        )
        shown = self._shown(jobs.status(job_id))
        return {
            **shown,
            "uuid": job_id,
            "owner_user_id": user,
            "embedding_model": embedding_model,
            "embedding_provider": embedding_provider,
        }

    def get_job(self, job_id: str, user_id: str) -> dict[str, Any] | None:
        """Return the present state of a job of this user; None if the user has no such job."""
        try:
            return self._shown(self._jobs_of(str(user_id)).status(str(job_id))) if job_id else None
        except UnknownJob:
            return None

    def list_jobs(self, *, user_id: str, status: str | None, limit: int, offset: int) -> list[dict[str, Any]]:
        """Return up to `limit` jobs of the user after the first `offset`, newest first.

        With a `status` of tldw's, only those in it. There are none of another text. Raises InvalidRequest for
        a negative number.
        """
        limit, offset = int(limit), int(offset)
        if limit < 0 or offset < 0:
            raise InvalidRequest(f"limit, offset: must not be negative (got {limit} and {offset})")
        if limit == 0:
            return []
        wanted = (None,) if not status else _STATUSES.get(str(status).lower(), ())
        jobs = self._jobs_of(str(user_id))
        # A job moves on between the reads: met twice, it counts once.
        found: dict[str, JobInfo] = {}
        for one in wanted:
            page = jobs.list_jobs(status=one, limit=limit + offset)
            found |= {info.job_id: info for info in page}
        newest_first = sorted(found.values(), key=lambda info: (info.created_at, info.job_id), reverse=True)
        return [self._shown(info) for info in newest_first[offset : offset + limit]]

    def _submit(self, jobs: UserJobs, model: str, **document: Any) -> str:
        """Submit the document with the first of the model's names that is configured. Raises UnknownModel."""
        if model in self._models:
            return jobs.create_job(model=self._models[model], **document)
        names = dict.fromkeys((model, catalogue_name(model), bundled_name(model) or model))
        unknown: UnknownModel | None = None
        for name in names:
            try:
                return jobs.create_job(model=name, **document)
            except UnknownModel as exc:
                unknown = unknown or exc  # of the name that tldw has
        assert unknown is not None
        raise unknown

    def _shown(self, info: JobInfo) -> dict[str, Any]:
        """Return a job as tldw's callers read it. Times are whole seconds since 1970."""
        shown: dict[str, Any] = {
            "id": info.job_id,
            "media_id": media_id_of(info.media_id),
            "user_id": info.tenant,
            "status": _STATUS_OF[info.status],
            "embedding_model": self._names.get(info.model, info.model),
            "embedding_count": info.progress.chunks_stored,
            "chunks_processed": info.progress.chunks_embedded,
            "error": None if info.status is JobStatus.COMPLETED else info.reason,
            "created_at": _epoch(info.created_at),
            "updated_at": _epoch(info.finished_at or info.started_at or info.created_at),
        }
        if self._tells_progress:
            shown["progress_percent"] = percentage(info)
            shown["total_chunks"] = info.progress.chunks_total
        return shown


_TRUE = frozenset({"1", "true", "yes", "y", "on"})


def _chunking(size: int | None, overlap: int | None) -> OwnConfig | None:
    if size is None and overlap is None:
        return None
    sizes = {"chunk_size": size, "overlap": overlap}
    given: dict[str, Any] = {name: int(one) for name, one in sizes.items() if one is not None}
    return ChunkingConfig(unit="words", **given).own()


def _epoch(when: datetime) -> int:
    return int(when.timestamp())
