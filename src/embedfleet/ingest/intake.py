"""The port through which files become jobs: read in this process, or sent to a server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from embedfleet.account import NOTHING_SAID, Account
from embedfleet.document_metadata import Metadata
from embedfleet.errors import OverBudget, ParseError
from embedfleet.ingest.files import File
from embedfleet.lifecycle.estimates import Budget
from embedfleet.queue_schemas import ChunkingConfig, DocumentEstimate, JobInfo, Requeued


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """The options of an ingest. Without a `model`, a document keeps its model, and a new one gets the default
    model. `globs` choose files in folders; without any, all known formats are taken. With `strict`, a
    document of which content is lost fails. `metadata` is that of every file, and the file beside a file that
    describes it (`file_metadata`) has more of it. Without either, a document keeps what it has."""

    tenant: str
    model: str | None = None
    chunking: ChunkingConfig | None = None
    globs: Sequence[str] = ()
    priority: int = 50
    strict: bool = False
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """The file has a job. `account` says what of the file is not in its text, as far as that is known."""

    job_id: str
    account: Account = NOTHING_SAID


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The file cannot be turned into text. A failed job says so."""

    job_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The file has no job, for this reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Empty:
    """There is no text in the file."""


def refusal_of_losses(source: str, account: Account) -> ParseError | None:
    """Return the error for a file of which content is lost, for an ingest that is strict. None: none is."""
    if not account.lost:
        return None
    return ParseError(f"{source}: {'; '.join(entry.line for entry in account.lost)}")


Taken: TypeAlias = Admitted | Unreadable | Refused | Empty
"""What became of one file."""


def over_budget(budget: Budget, file: File, estimate: DocumentEstimate) -> OverBudget | None:
    """Spend what the file costs. Return the refusal if there is not enough left, or if it has no price."""
    if budget.take(file.source, estimate.cost):
        return None
    if estimate.cost is None:
        return OverBudget(
            f"{file.source}: model `{estimate.model}` has no price, so a budget cannot hold: set "
            f"prices.per_million_tokens.{estimate.model}"
        )
    return OverBudget(
        f"{file.source}: would cost {estimate.cost:.4f}, and {budget.spent:.4f} of {budget.cap:g} is spent: "
        "raise the budget to go on from there"
    )


class TenantsJobs(Protocol):
    """The jobs and documents of the tenant, as `tracking.tenant_jobs.TenantJobs` describes them."""

    async def find_jobs(
        self,
        sources: Sequence[tuple[str, str]],
        *,
        chunking_config: ChunkingConfig | None = None,
        model: str | None = None,
    ) -> list[JobInfo | None]: ...
    async def models_of(self, media_ids: Sequence[str]) -> dict[str, str]: ...
    async def replace_metadata(self, metadata: Mapping[str, Metadata]) -> set[str]: ...
    async def retry_many(self, job_ids: Sequence[str]) -> Requeued: ...
    async def delete_document(self, *, media_id: str) -> str | None: ...


class Intake(Protocol):
    """Takes files of one tenant."""

    @property
    def jobs(self) -> TenantsJobs:
        """The jobs and documents of the tenant."""
        ...

    @property
    def default_model(self) -> str:
        """The model of documents for which none is chosen."""
        ...

    @property
    def ocr(self) -> bool:
        """Whether scanned pages are read: a file that is read otherwise counts as changed."""
        ...

    def knows_model(self, name: str) -> bool:
        """Return whether a model of this name is configured."""
        ...

    def take(self, files: Sequence[File], options: IngestOptions) -> AsyncGenerator[Taken, None]:
        """Submit files. Yields what became of each, in order, soon after it is known.

        Raises only errors that would hit every further file. If it is cancelled, it still yields what became
        of the files that are just being submitted.
        """
        ...


class Estimating(Intake, Protocol):
    """An intake that also says what files would cost."""

    def estimate(
        self, files: Sequence[File], options: IngestOptions
    ) -> AsyncGenerator[DocumentEstimate, None]:
        """Estimate files that would be submitted. Yields for each, in order. Nothing is written.

        Raises only errors that would hit every further file.
        """
        ...
