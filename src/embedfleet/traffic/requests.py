"""Requests of the router as the fleet takes them."""

from __future__ import annotations

from embedfleet.errors import InvalidRequest, hint
from embedfleet.queue_schemas import ContentType, JobRequest
from embedfleet.traffic.paths import IngestRequest


def job_request(request: IngestRequest) -> JobRequest:
    """Return the request in the form that the fleet checks. Raises InvalidRequest as submitting does."""
    return JobRequest(
        media_id=request.media_id,
        user_id=request.tenant,
        content=request.content,
        content_type=_content_type(request.content_type),
        chunking_config=request.chunking_config,
        priority=request.priority,
        model=request.model,
        source=request.source,
        title=request.title,
        metadata=request.metadata,
    )


def _content_type(name: str) -> ContentType:
    try:
        return ContentType(name)
    except ValueError as exc:
        reason = f"`{name}` is unknown: {hint(name, list(ContentType))}"
        raise InvalidRequest(f"content_type: {reason}", field="content_type", reason=reason) from exc
