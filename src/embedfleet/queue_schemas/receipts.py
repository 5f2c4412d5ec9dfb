"""Records of deletions: what was searched again afterwards, and what was found."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from embedfleet.queue_schemas.vocabulary import Frozen, TenantId


class ReceiptState(StrEnum):
    """`pending`: the deletion is under way. `left`: a search found something, and more searches follow.
    `erased`: the last search found nothing. `submitted_again`: so it is there again, and nothing is said."""

    PENDING = "pending"
    LEFT = "left"
    ERASED = "erased"
    SUBMITTED_AGAIN = "submitted_again"


class BackupFile(Frozen):
    """A backup that was written while the document existed, so that it may hold it."""

    file: str
    written_at: datetime


class Receipt(Frozen):
    """What a deletion of a document, or of a whole tenant, found and left. It outlives what it tells of.

    A place is a table of SQL, `vector_store`, `queues` (jobs with a task there) or `dead_tasks` (tasks that
    were given up, in the broker). `left` names every place that was searched, those with 0 too.
    """

    schema_version: Literal[1] = 1
    receipt_id: str
    tenant: TenantId
    media_id: str | None = Field(description="The document; None: the whole tenant.")
    state: ReceiptState
    requested_at: datetime
    searched_at: datetime | None = Field(default=None, description="When the last search was.")
    finished_at: datetime | None = Field(default=None, description="None until nothing is left.")
    held: dict[str, int] = Field(description="How much there was at the request, by place.")
    left: dict[str, int] | None = Field(
        default=None, description="How much the last search found, by place; None before the first search."
    )
    kept: dict[str, int] = Field(
        default={}, description="Rows that name it and stay as evidence: audit log, ledger, other receipts."
    )
    backups: tuple[BackupFile, ...] = Field(
        default=(), description="Backups that may hold it. They are out of reach: the operator deletes them."
    )
    beyond: dict[str, str] = Field(
        default={}, description="What else this system cannot search, by a code, and what to do about it."
    )

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return self.model_dump(mode="json", by_alias=True)
