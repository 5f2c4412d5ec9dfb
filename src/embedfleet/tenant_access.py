"""All that one tenant does: it submits, looks, changes and searches, and reaches nothing of another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from embedfleet.account import NOTHING_SAID, Account
from embedfleet.clock import Clock
from embedfleet.document_metadata import Metadata
from embedfleet.errors import EmbedfleetError, InvalidRequest
from embedfleet.lifecycle.admission import Admission
from embedfleet.parsing.sandbox import ParserSandbox, StrPath
from embedfleet.places import NOWHERE, Places
from embedfleet.queue_schemas import (
    ChunkingConfig,
    ContentType,
    ContentTypeName,
    Feedback,
    JobRequest,
    SearchHits,
)
from embedfleet.searching.impressions import Clicked, Impressions
from embedfleet.sql.database import Database
from embedfleet.tracking.submissions import AlsoWrite, Submissions
from embedfleet.tracking.tenant_jobs import TenantJobs

if TYPE_CHECKING:  # it loads what runs models, which a process that only submits never needs
    from embedfleet.searching.search import SearchRequest


class Searches(Protocol):
    """Searches, in this process or through the one that owns the vector store."""

    async def search(self, tenant: str, request: SearchRequest) -> SearchHits:
        """Search as `search.SearchService.search` does."""
        ...


class TenantAccess(TenantJobs):
    """The operations of `TenantJobs`, and those that submit and search. All are bound to one tenant.

    No argument names a tenant, so none can be left out or be wrong. What a tenant does not choose for itself,
    such as its tier, cannot be given.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        admission: Admission,
        tenant: str,
        *,
        parser: ParserSandbox,
        searches: Searches,
        impressions: Impressions,
        api_key: str = "",
    ) -> None:
        """`api_key` is the prefix of the key that this is for: it stands in the ledger."""
        super().__init__(database, clock, admission, tenant)
        self._submissions = Submissions(database, admission, api_key=api_key)
        self._parser = parser
        self._searches = searches
        self._impressions = impressions

    async def create_job(
        self,
        *,
        media_id: int | str,
        content: str,
        content_type: ContentType | ContentTypeName = "text",
        chunking_config: ChunkingConfig | None = None,
        priority: int = 50,
        model: str | None = None,
        source: str | None = None,
        source_hash: str | None = None,
        title: str | None = None,
        account: Account = NOTHING_SAID,
        places: Places = NOWHERE,
        strict: bool = False,
        metadata: Metadata | None = None,
    ) -> str:
        """Submit one version of a document, and return the job's id.

        It does what `EmbeddingJobManager.create_job` does, and raises what that raises.
        """
        request = JobRequest(
            media_id=media_id,
            user_id=self._tenant,
            content=content,
            content_type=content_type,
            chunking_config=chunking_config,
            priority=priority,
            model=model,
            source=source,
            source_hash=source_hash,
            title=title,
            account=account,
            places=places,
            strict=strict,
            metadata=metadata,
        )
        return (await self.create_jobs([request]))[0]

    async def create_job_from_file(
        self,
        file: StrPath | bytes,
        *,
        media_id: int | str,
        name: str | None = None,
        chunking_config: ChunkingConfig | None = None,
        priority: int = 50,
        model: str | None = None,
        source: str | None = None,
        strict: bool = False,
        metadata: Metadata | None = None,
    ) -> str:
        """Submit a file of any known format, such as PDF, DOCX or HTML, as `create_job` submits a text.

        It does what `EmbeddingJobManager.create_job_from_file` does, and raises what that raises.
        """
        named = name_of(file, name)
        parsed = await (
            self._parser.parse_bytes(file, name=named)
            if isinstance(file, bytes)
            else self._parser.parse(file)
        )
        return await self.create_job(
            media_id=media_id,
            content=parsed.text,
            content_type=parsed.content_type,
            chunking_config=chunking_config,
            priority=priority,
            model=model,
            source=source or named,
            source_hash=parsed.source_hash,
            title=parsed.title,
            account=parsed.account,
            places=parsed.places,
            strict=strict,
            metadata=metadata,
        )

    async def create_jobs(
        self, requests: Sequence[JobRequest], *, also: AlsoWrite | None = None
    ) -> list[str]:
        """Submit documents of this tenant in one transaction, and return the ids of their jobs, in order.

        All documents are admitted or, on any error, none. `also` gets the ids and writes in the same
        transaction. Raises as `create_job` does, and InvalidRequest for a request of another tenant.
        """
        return await self._submissions.create_jobs([self._own(one) for one in requests], also=also)

    async def create_each(self, requests: Sequence[JobRequest]) -> list[str | EmbedfleetError]:
        """Submit documents of this tenant, each for itself. Returns for each the id of its job or its error.

        They come in the given order. Raises InvalidRequest, and submits none, if one is of another tenant.
        """
        return await self._submissions.create_each([self._own(one) for one in requests])

    async def search(self, request: SearchRequest) -> SearchHits:
        """Return the passages of this tenant's documents that are nearest to the query, nearest first.

        It does what `search.SearchService.search` does, and raises what that raises. Beside an orchestrator
        of another process it asks that one, and raises DatabaseUnavailable if none answers.
        """
        return await self._searches.search(self._tenant, request)

    async def feedback(self, impression_id: str, clicked: Sequence[Clicked]) -> Feedback:
        """Record what was clicked in an answer of a search: ids of chunks, or places in it from 0.

        `SearchHits.impression_id` names the answer. The same feedback again changes nothing. Raises
        UnknownImpression, also for an answer that was shown too long ago, and InvalidRequest for what is not
        in it.
        """
        return await self._impressions.take_feedback(self._tenant, impression_id, clicked)

    def _own(self, request: JobRequest) -> JobRequest:
        """Return the request. Raises InvalidRequest if it is another tenant's, or chooses the tier."""
        if request.user_id != self._tenant:
            raise InvalidRequest(
                f"user_id: is `{request.user_id}`, and this access is for `{self._tenant}`: use that of its "
                "own tenant",
                field="user_id",
            )
        if request.user_tier is not None:
            raise InvalidRequest(
                "user_tier: a tenant does not choose its tier: leave it out", field="user_tier"
            )
        return request


def name_of(file: StrPath | bytes, name: str | None) -> str:
    """Return what a file is called: the given name, otherwise its path.

    Raises InvalidRequest for bytes without a name.
    """
    if name:
        return name
    if isinstance(file, bytes):
        raise InvalidRequest(
            "name: is missing: the bytes of a file need one, such as `report.pdf`", field="name"
        )
    return os.fspath(file)
