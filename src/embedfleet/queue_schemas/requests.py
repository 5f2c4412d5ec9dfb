"""What is submitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from embedfleet.account import NOTHING_SAID, Account
from embedfleet.places import NOWHERE, Places
from embedfleet.queue_schemas.vocabulary import (
    AccountField,
    ContentType,
    ContentTypeName,
    Frozen,
    MetadataField,
    UserTier,
    UserTierName,
)
from embedfleet.settings.chunking import ChunkingConfig
from embedfleet.validation import Checked
from embedfleet.visible_text import shows_nothing

# Characters of a document that are encoded at once, to find lone surrogates without a copy of all of it.
_CHECKED_AT_ONCE = 1 << 20


class JobRequest(Checked, Frozen):
    """One document to be embedded for a tenant. A wrong value raises InvalidRequest."""

    media_id: str = Field(min_length=1, max_length=1024, description="The tenant's own id of the document.")
    user_id: str = Field(min_length=1, max_length=256, description="The tenant.")
    content: str
    user_tier: UserTier | None = Field(
        default=None, description="Makes it the tier of the tenant; None: the tenant keeps its tier."
    )
    content_type: ContentType = ContentType.TEXT
    chunking_config: ChunkingConfig | None = None
    priority: int = Field(default=50, ge=0, le=100)
    model: str | None = None
    source: str | None = Field(default=None, description="Where the document came from, as search shows it.")
    source_hash: str | None = Field(
        default=None, description="Fingerprint of the file `content` was read from."
    )
    title: str | None = Field(
        default=None, max_length=1024, description="What the document is called, if the text does not say it."
    )
    account: AccountField = Field(
        default=NOTHING_SAID, description="What of the source is not in `content`, as its reader tells."
    )
    places: Places = Field(default=NOWHERE, description="The pages and seconds of `content` in its source.")
    strict: bool = Field(default=False, description="Fail the job if content of the source is lost.")
    metadata: MetadataField | None = Field(
        default=None,
        description="Names with texts, numbers, booleans or lists of texts, for filters. None: those of the "
        "document as it is; {}: none.",
    )

    if TYPE_CHECKING:  # type checkers know from here what else is taken: numbers, and texts for enums

        def __init__(
            self,
            *,
            media_id: int | str,
            user_id: str,
            content: str,
            user_tier: UserTier | UserTierName | None = None,
            content_type: ContentType | ContentTypeName = ContentType.TEXT,
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
        ) -> None: ...

    @field_validator("media_id", mode="before")
    @classmethod
    def _numbers_are_ids_too(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("media_id", "user_id", "model", "source", "source_hash", "title")
    @classmethod
    def _any_database_takes_it(cls, value: str | None) -> str | None:
        if value is not None and "\0" in value:
            raise ValueError("must not hold the character NUL")
        return None if value is None else _encodable(value)

    @field_validator("chunking_config")
    @classmethod
    def _of_our_own_fields(cls, value: ChunkingConfig | None) -> ChunkingConfig | None:
        """A subclass may have fields that no chunker reads. A generation would be told apart by them."""
        if value is None or type(value) is ChunkingConfig:
            return value
        return ChunkingConfig(**{name: getattr(value, name) for name in ChunkingConfig.model_fields})

    @field_validator("content")
    @classmethod
    def _has_text(cls, value: str) -> str:
        if shows_nothing(value):
            raise ValueError("is empty: there is nothing to embed")
        return _encodable(value)


def _encodable(value: str) -> str:
    """Return the text. Raises ValueError if it has a lone surrogate, which no database takes."""
    for start in range(0, len(value), _CHECKED_AT_ONCE):
        try:
            value[start : start + _CHECKED_AT_ONCE].encode()
        except UnicodeEncodeError as exc:
            raise ValueError(
                f"has a lone surrogate at character {start + exc.start}: it is not text, "
                "decode it properly first"
            ) from exc
    return value
