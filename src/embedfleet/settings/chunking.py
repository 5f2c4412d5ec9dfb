"""How documents are cut: the config that a job may bring, and the section with its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from embedfleet.errors import EmbedfleetError
from embedfleet.settings.section import Section
from embedfleet.validation import invalid_request


class ChunkUnit(StrEnum):
    CHARS = "chars"
    TOKENS = "tokens"


class ChunkMethod(StrEnum):
    """Where a chunk may end: `recursive` prefers the strongest boundary in reach (heading,
    paragraph, list item or line, sentence, word); `sentences` and `paragraphs` never cut inside one
    that fits the limit; `tokens` cuts at any word."""

    RECURSIVE = "recursive"
    SENTENCES = "sentences"
    PARAGRAPHS = "paragraphs"
    TOKENS = "tokens"


class ChunkingConfig(Section):
    """How a document is cut. It is part of a generation's identity: other values give other chunks."""

    chunk_size: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="Largest chunk, in `unit`. Smaller: sharper hits, more vectors.",
    )
    overlap: int = Field(
        default=200,
        ge=0,
        description="Repeated from the chunk before, in `unit`. Raise if answers straddle chunk borders.",
    )
    unit: ChunkUnit = Field(
        default=ChunkUnit.CHARS, description="The unit of both sizes. `tokens` for a model's limit."
    )
    method: ChunkMethod = Field(
        default=ChunkMethod.RECURSIVE,
        description="`sentences` or `paragraphs` never cut inside one that fits the size.",
    )
    context: bool = Field(
        default=True,
        description="Embed what stands above a chunk before its text: title, headings, a table's header row.",
    )

    if TYPE_CHECKING:  # type checkers know from here that a plain text is taken for an enum, too

        def __init__(
            self,
            *,
            chunk_size: int = 1000,
            overlap: int = 200,
            unit: ChunkUnit | Literal["chars", "tokens"] = ChunkUnit.CHARS,
            method: ChunkMethod
            | Literal["recursive", "sentences", "paragraphs", "tokens"] = ChunkMethod.RECURSIVE,
            context: bool = True,
        ) -> None: ...

    @classmethod
    def _error_of(cls, exc: ValidationError) -> EmbedfleetError:
        return invalid_request(exc, cls.__name__)  # it is an argument of a job, too

    @model_validator(mode="after")
    def _overlap_below_size(self) -> Self:
        if self.overlap >= self.chunk_size:
            raise ValueError(
                f"overlap ({self.overlap}) must be smaller than chunk_size ({self.chunk_size}): "
                "lower the overlap or raise the chunk size"
            )
        return self


_SIZES_IN_CHARS: dict[str, Any] = {"unit": ChunkUnit.CHARS, "chunk_size": 1000, "overlap": 200}


class ChunkingSettings(ChunkingConfig):
    """The chunking config of jobs that bring none, and the size of their batches.

    If nothing is said of sizes, they are those that find most, in tokens (`docs/retrieval.md`). Sizes without
    a unit are characters, as they are in `ChunkingConfig`; a size that is not given is then its default
    there.
    """

    chunk_size: int = Field(
        default=254,
        ge=1,
        le=1_000_000,
        description="Largest chunk, in `unit`. Smaller: sharper hits, more vectors.",
    )
    overlap: int = Field(
        default=32,
        ge=0,
        description="Repeated from the chunk before, in `unit`. Raise if answers straddle chunk borders.",
    )
    unit: ChunkUnit = Field(
        default=ChunkUnit.TOKENS, description="The unit of both sizes. Sizes without a unit are `chars`."
    )
    batch_chunks: int = Field(
        default=64, ge=1, le=1000, description="Chunks per embedding task. Lower if retries repeat much work."
    )

    @model_validator(mode="before")
    @classmethod
    def _complete_sizes(cls, given: Any) -> Any:
        return _with_sizes(given) if isinstance(given, Mapping) else given

    @property
    def config(self) -> ChunkingConfig:
        """The chunking config alone, as a job may bring it."""
        return ChunkingConfig.model_validate(self.model_dump(exclude={"batch_chunks"}))

    def changed(self, given: Mapping[str, Any]) -> ChunkingConfig:
        """Return the config with the given values in place of what the settings say.

        If only a size is given, the overlap is at most a fifth of it. Raises InvalidRequest.
        """
        said = self.model_dump(include=self.model_fields_set)
        wanted = _with_sizes({**said, **given})
        if "chunk_size" in given and "overlap" not in given:
            overlap = wanted.get("overlap", type(self).model_fields["overlap"].default)
            wanted["overlap"] = min(overlap, max(given["chunk_size"], 0) // 5)
        return type(self).model_validate(wanted).config


def _with_sizes(given: Mapping[str, Any]) -> dict[str, Any]:
    """Complete sizes that are in characters."""
    says_sizes = "chunk_size" in given or "overlap" in given
    unit = given.get("unit", ChunkUnit.CHARS if says_sizes else ChunkUnit.TOKENS)
    return {**_SIZES_IN_CHARS, **given} if unit == ChunkUnit.CHARS else dict(given)
