"""Takes the place of tldw's `enqueue_embeddings_job_for_item`: its items bring a text with them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from loguru import logger

from embedfleet.errors import EmbedfleetError
from embedfleet.tldw.job_manager import flat_metadata
from embedfleet.tldw.user_jobs import JobsOf, jobs_of_environment

ITEM_PREFIX = "item-"
"""Items are numbered apart from media. So a document of an item has this before the number in its id."""


async def enqueue_embeddings_job_for_item(
    *,
    user_id: int | str,
    item_id: int,
    content: str,
    metadata: Mapping[str, Any] | None = None,
    priority: int = 50,
    jobs_of: JobsOf | None = None,
) -> None:
    """Submit an item's text as a document of the user, as well as can be: a failure is logged, not raised.

    An empty text is ignored. Without `jobs_of`, the access is that of the environment.
    """
    text = (content or "").strip()
    if not text:
        return

    def submit() -> None:
        (jobs_of or jobs_of_environment())(str(user_id)).create_job(
            media_id=f"{ITEM_PREFIX}{int(item_id)}",
            content=text,
            priority=max(0, min(100, int(priority))),
            metadata=flat_metadata(metadata or {}),
        )

    try:
        # In a thread: the access blocks, and tldw awaits this on its event loop.
        await asyncio.to_thread(submit)
    except EmbedfleetError as exc:
        logger.warning("item {} of user {} was not submitted: {}", item_id, user_id, exc)
