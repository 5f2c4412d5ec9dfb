"""What messages, requests and records share: kinds, states, and the types of fields."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from embedfleet import document_metadata
from embedfleet.account import Account
from embedfleet.document_metadata import Value


class UserTier(StrEnum):
    """Decides a tenant's quota and share. The figures are in the settings, `tenants.tiers`."""

    FREE = "free"
    BASIC = "basic"
    PREMIUM = "premium"
    ENTERPRISE = "enterprise"


class JobStatus(StrEnum):
    """The earliest stage in which a job has work left, or how the job ended."""

    PENDING = "pending"
    CHUNKING = "chunking"
    EMBEDDING = "embedding"
    STORING = "storing"
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        return self in TERMINAL_STATUSES


TERMINAL_STATUSES = frozenset(
    {JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS, JobStatus.FAILED, JobStatus.CANCELLED}
)


class Stage(StrEnum):
    """The queues, in the order in which a document passes them. Deletion removes vectors that no live version
    of a document refers to."""

    CHUNKING = "chunking"
    EMBEDDING = "embedding"
    STORAGE = "storage"
    DELETION = "deletion"


class ContentType(StrEnum):
    """How the chunker reads a document: headings of Markdown, definitions of code, or plain text."""

    TEXT = "text"
    MARKDOWN = "markdown"
    CODE = "code"


def _account_of(value: Any) -> Any:
    """Return the account that JSON describes; any other value unchanged."""
    if not isinstance(value, Mapping):
        return value
    try:
        return Account.of_document(value)
    except (AttributeError, KeyError, TypeError) as exc:
        raise ValueError("is no account of a document") from exc


AccountField = Annotated[Account, BeforeValidator(_account_of), PlainSerializer(Account.json_document)]
"""An account in a record; in JSON as `Account.json_document` returns it."""

MetadataField = Annotated[dict[str, Value], BeforeValidator(document_metadata.checked)]
"""Metadata of a document in a request or a record: up to 64 names, 8,192 bytes as JSON."""

UserTierName = Literal["free", "basic", "premium", "enterprise"]
ContentTypeName = Literal["text", "markdown", "code"]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


TenantId = Annotated[
    str,
    Field(
        min_length=1,
        validation_alias=AliasChoices("tenant_id", "tenant"),
        serialization_alias="tenant_id",
        description="The tenant that owns it; `tenant_id` on queues and in JSON.",
    ),
]
