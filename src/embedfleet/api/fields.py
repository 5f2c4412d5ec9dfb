"""The parameters that several routes have, and how the tenant of a request bounds what it sees."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header, Path, Query
from pydantic import BeforeValidator, Field, WithJsonSchema

from embedfleet.api.access import Principal
from embedfleet.api.parts import ApiParts
from embedfleet.tenant_access import TenantAccess
from embedfleet.tracking.scoped_jobs import ScopedJobs

MOST_ROWS = 1_000
"""The longest page of a listing: about a megabyte of JSON."""
# PostgreSQL takes no NUL in a text.
NO_NUL = r"^[^\x00]*$"
# These are rows of every chunk's vector, too, so they are no place for a large text.
LONGEST_MODEL = 256
LONGEST_SOURCE = 4_096  # the longest path that Linux takes
LONGEST_SOURCE_HASH = 256

JobId = Annotated[str, Path(description="The id of a job.", max_length=64, pattern=NO_NUL)]


def _text_of_number(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


NewMediaId = Annotated[
    str,
    BeforeValidator(_text_of_number),
    Field(
        min_length=1,
        max_length=1024,
        pattern=NO_NUL,
        description="The tenant's own id of the document, or a number.",
    ),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1, "maxLength": 1024, "pattern": NO_NUL},
                {"type": "integer"},
            ]
        }
    ),
]
MediaId = Annotated[
    str,
    Path(
        description="The tenant's own id of the document. It may hold slashes.",
        min_length=1,
        max_length=1024,
        pattern=NO_NUL,
    ),
]
Limit = Annotated[int, Query(description="The most rows of the page.", ge=1, le=MOST_ROWS)]
After = Annotated[
    str | None,
    Query(description="`next_cursor` of the page before; without it, the first page.", max_length=4_096),
]
NextCursor = Annotated[
    str | None, Field(description="Pass it as `after` for the next page; null: this page is the last.")
]
SourcePrefix = Annotated[
    str, Query(description="Only those whose source begins with this.", max_length=4_096, pattern=NO_NUL)
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Makes the request safe to repeat for 24 hours: the same content gets the first answer "
        "again, other content is refused.",
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
    ),
]


def access_of(parts: ApiParts, caller: Principal) -> TenantAccess:
    """Return the access of the tenant that the request acts for. The ledger names the caller's key."""
    return parts.jobs.of(caller.tenant, api_key=caller.key)


def jobs_within(parts: ApiParts, caller: Principal) -> ScopedJobs:
    """Return the jobs that the caller may see: of its tenant, or all for an operator who names none."""
    if caller.named_tenant is None and caller.is_operator:
        return parts.jobs.of_all_tenants()
    return access_of(parts, caller)
