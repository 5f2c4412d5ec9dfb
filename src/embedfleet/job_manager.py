"""Submits jobs, and gives access to submitted ones. It needs SQL only: no broker, vector store or worker.

One SQL transaction submits a job. A running orchestrator finds the job there (the transactional outbox) and
offers it to the broker. So any process that can open the database can submit and watch jobs. A job that is
submitted while no orchestrator runs waits for the next start of one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, Field

from embedfleet.account import NOTHING_SAID, Account
from embedfleet.clock import Clock, SystemClock
from embedfleet.errors import EmbedfleetError, InvalidRequest
from embedfleet.inference.catalogue import Catalogue
from embedfleet.lifecycle.admission import Admission
from embedfleet.parsing.formats import ParsedDocument
from embedfleet.parsing.sandbox import ParserSandbox, StrPath
from embedfleet.places import NOWHERE, Places
from embedfleet.queue_schemas import (
    ChunkingConfig,
    ContentType,
    ContentTypeName,
    JobInfo,
    JobRequest,
    JobStatus,
    UserTier,
    UserTierName,
)
from embedfleet.records.cursors import Page
from embedfleet.searching.impressions import Impressions
from embedfleet.settings import Settings, load_settings
from embedfleet.sql.database import Database
from embedfleet.sql.opening import open_database
from embedfleet.tenant_access import Searches, TenantAccess, name_of
from embedfleet.tracking.operator_jobs import OperatorJobs
from embedfleet.tracking.submissions import AlsoWrite, Submissions
from embedfleet.validation import Checked


class JobManagerConfig(Checked):
    """The settings of a job manager. By default they are those that every command has (`load_settings`)."""

    model_config = ConfigDict(frozen=True)

    settings: Settings = Field(default_factory=load_settings)


class EmbeddingJobManager:
    """Submits jobs, and gives access to those that were submitted.

    Create it, call `initialize`, use it on one event loop, then call `close`.

    `of(tenant)` is for a caller that acts for one tenant: it submits, looks, changes and searches, and
    reaches nothing of another tenant. `of_all_tenants()` is for an operator. This class itself is for an
    application that is trusted with all tenants: `get_job_status`, `wait`, `wait_many` and `as_completed`
    take only the ids of jobs and see those of every tenant.
    """

    def __init__(
        self,
        config: JobManagerConfig | None = None,
        *,
        database: Database | None = None,
        catalogue: Catalogue | None = None,
        clock: Clock | None = None,
        searches: Searches | None = None,
    ) -> None:
        """Without a `database` or a `catalogue` of this process, the job manager makes its own.

        `searches` is the search of this process. Without it, the running orchestrator is asked.
        """
        self._settings = (config or JobManagerConfig()).settings
        self._clock = clock or SystemClock()
        catalogue = catalogue or Catalogue(self._settings.models)
        self._admission = Admission(self._settings, catalogue, self._clock)
        self._shared_database = database
        self._searches = searches
        self._own_database: Database | None = None
        # It starts no process before the first file.
        self._parser = ParserSandbox(self._settings.parsing, workers=self._settings.parsing.processes)

    async def initialize(self) -> None:
        """Open the database, unless one was given. Raises ConfigError if it cannot be opened.

        This creates or upgrades an SQLite database. The schema of PostgreSQL must exist.
        """
        if self._shared_database is None and self._own_database is None:
            database = open_database(self._settings)
            await database.open()
            self._own_database = database

    async def close(self) -> None:
        """Close the database that `initialize` opened, and end what reads files. It may be called again."""
        await self._parser.close()
        if self._own_database is not None:
            await self._own_database.close()
            self._own_database = None

    async def __aenter__(self) -> EmbeddingJobManager:
        await self.initialize()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    @property
    def default_model(self) -> str:
        """The model of documents for which none is chosen."""
        return self._settings.models.default

    def knows_model(self, name: str) -> bool:
        """Return whether a model of this name is configured."""
        return self._admission.knows(name)

    @property
    def _database(self) -> Database:
        database = self._shared_database or self._own_database
        if database is None:
            raise InvalidRequest("the job manager is not initialized: await initialize() first")
        return database

    # --- submit ---

    async def create_job(
        self,
        *,
        media_id: int | str,
        user_id: str,
        content: str,
        user_tier: UserTier | UserTierName | None = None,
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
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Submit one version of a document of the tenant `user_id`, and return the job's id.

        The job is durable on return. A newer version supersedes an unfinished older one. The job of a version
        that readers see already completes at once. A version that is under way is not begun twice: the id of
        its job is returned. Without a `model` the default one is taken, also for a document of another model,
        which is embedded again.

        A `user_tier` becomes the tenant's tier. Without one the tenant keeps its tier, and one that has none
        has `tenants.default_tier`.

        `title` is what the document is called, if its text does not begin with it. `account` says what of the
        source is not in `content`, and `places` where the content is in the source, as a reader of the source
        tells. With `strict`, the job fails if content of the source is lost: what `account` says is lost, and
        text that the model does not know. Readers then keep the version they see.

        `metadata` gives names texts, numbers, booleans or lists of texts, by which searches filter. None
        keeps what the document has already, {} removes it. Other metadata for the same text embeds nothing.

        Raises InvalidRequest for a wrong argument, such as a priority outside 0-100, empty content or an
        unknown content type. Raises UnknownModel, QuotaExceeded, StorageFull, DatabaseUnavailable.
        """
        request = JobRequest(
            media_id=media_id,
            user_id=user_id,
            content=content,
            user_tier=user_tier,
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
        user_id: str,
        name: str | None = None,
        user_tier: UserTier | UserTierName | None = None,
        chunking_config: ChunkingConfig | None = None,
        priority: int = 50,
        model: str | None = None,
        source: str | None = None,
        strict: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Submit a file of any known format, such as PDF, DOCX or HTML, as `create_job` submits a text.

        `file` is a path or the bytes of a file. The suffix of `name` gives the format; without a known
        suffix, the first bytes do. A path needs no name, as its own suffix counts. The file is read in a
        confined child process, which stays for the next file until `close`. The document's `source` is the
        name, otherwise the path, if it is not given.

        Raises ParseError if the file cannot be turned into text. Raises InvalidRequest for bytes without a
        name, and otherwise as `create_job` does.
        """
        named = name_of(file, name)
        if isinstance(file, bytes):
            parsed = await self._parser.parse_bytes(file, name=named)
        else:
            parsed = await self._parser.parse(file)
        return await self.create_job(
            media_id=media_id,
            user_id=user_id,
            content=parsed.text,
            user_tier=user_tier,
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
        """Submit many documents in one transaction, and return the ids of their jobs, in order.

        All documents are admitted or, on any error, none. `also` gets the ids and writes in the same
        transaction what must not be there without the jobs.
        """
        return await Submissions(self._database, self._admission).create_jobs(requests, also=also)

    async def create_each(self, requests: Sequence[JobRequest]) -> list[str | EmbedfleetError]:
        """Submit many documents, each for itself. Returns for each, in order, the id of its job or its error.

        It takes one transaction if all are admitted. If one of them is refused, it takes more.
        """
        return await Submissions(self._database, self._admission).create_each(requests)

    async def read_file(
        self, path: StrPath, *, name: str | None = None, most_chars: int | None = None
    ) -> ParsedDocument:
        """Return the text of a file, read as `create_job_from_file` reads it.

        A `name` counts in place of the path. `most_chars` is the most text that the file may give. Raises
        ParseError.
        """
        return await self._parser.parse(path, name=name, most_chars=most_chars)

    # --- look and change ---

    def of(self, tenant: str, *, api_key: str = "") -> TenantAccess:
        """Return the access of this tenant, which submits, looks, changes and searches for it only.

        `api_key` is the prefix of the key that acts for the tenant, if one does: it stands in the ledger.
        Raises InvalidRequest if not initialized.
        """
        return TenantAccess(
            self._database,
            self._clock,
            self._admission,
            tenant,
            parser=self._parser,
            searches=self._searches or self._search_client(),
            impressions=Impressions(self._database, self._clock, self._settings.experiments),
            api_key=api_key,
        )

    def _search_client(self) -> Searches:
        """Return what asks the running orchestrator, as this process has no search of its own."""
        from embedfleet.searching.search import SearchClient  # by need: it loads what runs models

        return SearchClient(self._database, self._clock)

    def of_all_tenants(self) -> OperatorJobs:
        """Return the jobs of every tenant, for an operator. Raises InvalidRequest if not initialized."""
        return OperatorJobs(self._database, self._clock)

    async def get_job_status(self, job_id: str) -> JobInfo:
        """Return the present state of a job of any tenant. Raises UnknownJob."""
        return await self.of_all_tenants().status(job_id)

    async def wait(self, job_id: str, *, timeout_seconds: float | None = None) -> JobInfo:
        """Return when a job of any tenant has ended.

        Raises UnknownJob. Raises TimeoutError after `timeout_seconds`; the job goes on.
        """
        return await self.of_all_tenants().wait(job_id, timeout_seconds=timeout_seconds)

    async def wait_many(
        self, job_ids: Iterable[str], *, timeout_seconds: float | None = None
    ) -> dict[str, JobInfo]:
        """Return when all of these jobs, of any tenants, have ended: how each ended, by job id, in order.

        A job whose document is deleted during the wait may be left out. Raises UnknownJob. Raises
        TimeoutError after `timeout_seconds`; the jobs go on.
        """
        return await self.of_all_tenants().wait_many(job_ids, timeout_seconds=timeout_seconds)

    def as_completed(self, job_ids: Iterable[str]) -> AsyncIterator[JobInfo]:
        """Yield how each of these jobs, of any tenants, ended: once, as soon as it has ended.

        A job whose document is deleted during the wait may be left out. Raises UnknownJob.
        """
        return self.of_all_tenants().as_completed(job_ids)

    # The documented calls that name their tenant: short for those of `of(user_id)`.

    async def list_jobs(
        self, user_id: str, *, status: JobStatus | None = None, limit: int = 100, after: str | None = None
    ) -> Page[JobInfo]:
        """Return up to `limit` jobs of the tenant, newest first.

        For the next page, pass `next_cursor` of this page as `after`. Raises InvalidRequest for another text.
        """
        return await self.of(user_id).list_jobs(status=status, limit=limit, after=after)

    async def retry_job(self, job_id: str, user_id: str) -> None:
        """Run an ended job of this tenant again. Raises InvalidRequest if it cannot be, UnknownJob."""
        await self.of(user_id).retry(job_id)

    async def cancel_job(self, job_id: str, user_id: str) -> bool:
        """End an unfinished job of this tenant. Return False if it had ended already.

        Readers keep the version they see. Raises UnknownJob.
        """
        return await self.of(user_id).cancel(job_id)
