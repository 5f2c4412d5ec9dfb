"""Blocking access to the jobs of each user: tldw's job functions return, they are not awaited.

Over HTTP that is the client's (`client.Client.of`). In process it is `InProcessJobs`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from embedfleet.client import Client
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.queue_schemas import ChunkingConfig, JobInfo, JobStatus
from embedfleet.records.cursors import Page
from embedfleet.settings import Settings, load_settings
from embedfleet.settings.loading import API_KEY_ENV, SERVER_ENV
from embedfleet.tenant_access import TenantAccess

T = TypeVar("T")


class UserJobs(Protocol):
    """What of one tenant's access is needed here; each call returns when it is done."""

    def create_job(
        self,
        *,
        media_id: int | str,
        content: str,
        chunking_config: ChunkingConfig | None = None,
        priority: int = 50,
        model: str | None = None,
        source: str | None = None,
        title: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> str:
        """Submit one version of a document, and return the job's id. The job is durable on return."""
        ...

    def status(self, job_id: str) -> JobInfo:
        """Return the present state of the job. Raises UnknownJob."""
        ...

    def list_jobs(
        self, *, status: JobStatus | None = None, limit: int = 100, after: str | None = None
    ) -> Page[JobInfo]:
        """Return up to `limit` jobs, newest first, from the cursor `after` on."""
        ...


JobsOf = Callable[[str], UserJobs]
"""Gives the access of a user. A user of tldw is a tenant of embedfleet, by the same name."""


class InProcessJobs:
    """The jobs of each user without a server: it needs the database only, and no orchestrator in its process.

    It has a thread with an event loop, and in it a job manager. So any thread may call it, also one whose own
    event loop runs. Close it at the end.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        """Open the database. Raises ConfigError, DatabaseUnavailable."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="jobs of tldw", daemon=True)
        self._thread.start()
        self._manager = EmbeddingJobManager(JobManagerConfig(settings=settings or load_settings()))
        try:
            self._wait_for(self._manager.initialize())
        except BaseException:
            self._end_thread()
            raise

    def of(self, user_id: str) -> UserJobs:
        """Return the access of a user."""
        return _Blocking(self._manager.of(user_id), self._wait_for)

    def close(self) -> None:
        """Close the database, and end the thread. It may be called again."""
        if self._loop.is_closed():
            return
        try:
            self._wait_for(self._manager.close())
        finally:
            self._end_thread()

    def _wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Blocking:
    """The access of a tenant, whose calls are done in another thread while this one waits."""

    def __init__(self, access: TenantAccess, wait_for: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._access = access
        self._wait_for = wait_for

    def create_job(self, **arguments: Any) -> str:
        job_id: str = self._wait_for(self._access.create_job(**arguments))
        return job_id

    def status(self, job_id: str) -> JobInfo:
        info: JobInfo = self._wait_for(self._access.status(job_id))
        return info

    def list_jobs(self, **arguments: Any) -> Page[JobInfo]:
        page: Page[JobInfo] = self._wait_for(self._access.list_jobs(**arguments))
        return page


# One a process: tldw makes an adapter for each request, and a database is opened once.
@lru_cache(maxsize=1)
def jobs_of_environment() -> JobsOf:
    """Return the access that the environment names: EMBEDFLEET_SERVER, otherwise the usual settings.

    For a server, EMBEDFLEET_API_KEY is an operator's key, which acts for every user. The access lives as long
    as the process. Raises ConfigError, DatabaseUnavailable, and InvalidRequest for a wrong address.
    """
    server = os.environ.get(SERVER_ENV)
    if server:
        return Client(server, api_key=os.environ.get(API_KEY_ENV)).of
    return InProcessJobs().of
