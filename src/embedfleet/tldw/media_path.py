"""tldw's own path, which chunks, embeds and stores in its process, as the old path of a traffic router."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from embedfleet.errors import InvalidRequest, Permanent
from embedfleet.tldw.media_database import MediaItem
from embedfleet.tldw.schemas import media_id_of
from embedfleet.traffic.paths import IngestRequest, IngestResult

Generate = Callable[..., Awaitable[Mapping[str, Any]]]
"""tldw's `generate_embeddings_for_media`. It takes `media_id`, `media_content`, `embedding_model`,
`embedding_provider`, `chunk_size`, `chunk_overlap` and `user_id`, and returns a mapping with `status`,
`embedding_count`, and `error` or `message`."""


def request_of(user_id: str, media_id: int, item: MediaItem) -> IngestRequest:
    """Return the request to ingest a media item."""
    return IngestRequest(
        tenant=user_id,
        media_id=str(media_id),
        content=item.content,
        title=item.title,
        source=item.url,
        metadata=item.metadata,
    )


class MediaPath:
    """Calls tldw's function for each request. It has no `remove`.

    Its removal would delete by the media id in the collection that a view writes, too. A view replaces the
    rows of a document that has moved.
    """

    def __init__(
        self,
        generate: Generate,
        *,
        embedding_model: str,
        embedding_provider: str = "huggingface",
        chunk_size: int = 1000,
        chunk_overlap: int = 200,
    ) -> None:
        """The sizes are in words, as tldw's are."""
        self._generate = generate
        self._settings = {
            "embedding_model": embedding_model,
            "embedding_provider": embedding_provider,
            "chunk_size": chunk_size,
            "chunk_overlap": chunk_overlap,
        }

    async def __call__(self, request: IngestRequest) -> IngestResult:
        """Have tldw embed the media item. Raises Permanent if it says that it has not.

        Raises InvalidRequest for a document whose id is no number, and what tldw's function raises.
        """
        media_id = media_id_of(request.media_id)
        if not isinstance(media_id, int):
            raise InvalidRequest(f"media_id: `{request.media_id}` is no media item of tldw", field="media_id")
        described = {"title": request.title or "", **(request.metadata or {})}
        answer = await self._generate(
            media_id=media_id,
            media_content={"media_item": described, "content": {"content": request.content}},
            user_id=request.tenant,
            **self._settings,
        )
        if answer.get("status") != "success":
            why = answer.get("error") or answer.get("message") or "it does not say why"
            raise Permanent(f"tldw did not embed media {media_id} of user `{request.tenant}`: {why}")
        return IngestResult(chunks=int(answer.get("embedding_count") or 0))
