"""What an application writes: type checkers take it, and a wrong value is an error of our tree.

Mypy reads this file, too: in strict mode it refuses an `ignore` comment where nothing is wrong.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from embedfleet.errors import ConfigError, EmbedfleetError, InvalidRequest
from embedfleet.job_manager import JobManagerConfig
from embedfleet.queue_schemas import ChunkingConfig, ChunkUnit, ContentType, JobRequest, UserTier
from embedfleet.searching.search import SearchRequest
from embedfleet.settings import EventsSettings, ModelsSettings, Settings

SECRET = "hunter2"


def test_plain_texts_and_numbers_are_taken_where_enums_and_ids_are() -> None:
    request = JobRequest(
        media_id=5,
        user_id="me",
        content="text",
        content_type="text",
        user_tier="premium",
        chunking_config=ChunkingConfig(chunk_size=100, overlap=10, unit="tokens", method="sentences"),
    )
    assert request.media_id == "5"
    assert request.content_type is ContentType.TEXT
    assert request.user_tier is UserTier.PREMIUM
    assert request.chunking_config is not None
    assert request.chunking_config.unit is ChunkUnit.TOKENS


@pytest.mark.parametrize(
    ("make", "kind", "field", "message"),
    [
        (
            lambda: JobRequest(media_id="m", user_id="me", content="text", content_type="txet"),  # type: ignore[arg-type]
            InvalidRequest,
            "content_type",
            "Input should be 'text', 'markdown' or 'code' (got 'txet')",
        ),
        (
            lambda: JobRequest(media_id="m", user_id="", content=SECRET, priority=101),
            InvalidRequest,
            "user_id",
            "at least 1 character",
        ),
        (
            lambda: JobRequest(media_id="m", user_id="me", content=SECRET, priority=101),
            InvalidRequest,
            "priority",
            "less than or equal to 100 (got 101)",
        ),
        (lambda: JobRequest(media_id="m", user_id="me", content=" "), InvalidRequest, "content", "is empty"),
        (
            lambda: JobRequest.model_validate(
                {"media_id": 1, "user_id": "me", "content": "x", "chunking_config": {"chunk_size": 0}}
            ),
            InvalidRequest,
            "chunking_config.chunk_size",
            "greater than or equal to 1 (got 0)",
        ),
        (lambda: ChunkingConfig(chunk_size=0), InvalidRequest, "chunk_size", "(got 0)"),
        (lambda: ChunkingConfig(overlap=1000), InvalidRequest, "", "ChunkingConfig: overlap (1000) must be"),
        (lambda: ChunkingConfig(size=5), InvalidRequest, "size", "Extra inputs"),  # type: ignore[call-arg]
        (lambda: SearchRequest(query=" "), InvalidRequest, "query", "is empty: say what to look for"),
        (lambda: SearchRequest(query="a\udcff"), InvalidRequest, "query", "character 2 is not valid text"),
        (lambda: SearchRequest(query="a", limit=0), InvalidRequest, "limit", "(got 0)"),
        (lambda: SearchRequest.model_validate_json('{"query": 5}'), InvalidRequest, "query", "valid string"),
        (lambda: JobManagerConfig(settings="x"), InvalidRequest, "settings", "Input should be"),  # type: ignore[arg-type]
        (lambda: ModelsSettings(threads=-1), ConfigError, None, "setting `threads`: Input should be"),
        (
            lambda: EventsSettings(webhook_url=f"u:{SECRET}"),  # type: ignore[arg-type]
            ConfigError,
            None,
            "setting `EventsSettings`: webhook_url must be",
        ),
        (
            lambda: Settings.model_validate({"chunking": {"chunk_size": 0}}),
            ConfigError,
            None,
            "setting `chunking.chunk_size`: Input should be",
        ),
    ],
)
def test_a_wrong_value_is_an_error_of_our_tree_that_names_the_field(
    make: Callable[[], object], kind: type[EmbedfleetError], field: str | None, message: str
) -> None:
    with pytest.raises(EmbedfleetError) as refused:
        make()
    error = refused.value
    assert type(error) is kind
    assert message in str(error)
    assert "\n" not in str(error)
    assert SECRET not in str(error)
    assert error.__cause__ is None, "a traceback would show the values"
    assert error.__suppress_context__
    if isinstance(error, InvalidRequest):
        assert error.field == field
        assert str(error) == f"{error.field or 'ChunkingConfig'}: {error.reason}"
