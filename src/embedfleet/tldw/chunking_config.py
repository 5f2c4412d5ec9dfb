"""How a document is cut, in the words of tldw's `ChunkingConfig`, turned into those of embedfleet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from embedfleet.settings.chunking import ChunkingConfig as NativeConfig
from embedfleet.settings.chunking import ChunkMethod, ChunkUnit

CHARS_A_WORD = 6
"""An English word of 5 letters and its space: a size in words is this many characters a word."""

_METHODS = frozenset(ChunkMethod)
# What tldw's other methods look for is what `recursive` prefers, or nothing that embedfleet knows.
_COVERED_METHODS = frozenset({"words", "recursive"})
# `recursive` ends a chunk at the strongest of these in reach.
_COVERED_SEPARATORS = frozenset({"", "\n", "\n\n", " ", ". "})


class ChunkingConfig(NativeConfig):
    """embedfleet's `ChunkingConfig`, made with tldw's fields too.

    A size in words becomes one in characters, 6 for a word. A method that embedfleet does not have becomes
    `recursive`. If no overlap is given, it is at most a fifth of the chunk size. A job takes from it what
    embedfleet's own config has; `without_counterpart` names what it does not take.
    """

    separator: str = Field(default="\n", description="The preferred border; `recursive` prefers stronger.")
    preserve_metadata: bool = Field(default=True, description="Metadata is always preserved.")
    contextualize: bool = Field(default=False, description="No language model describes the chunks.")
    contextual_llm_model: str | None = None
    context_window_size: int | None = None
    language: str | None = None
    template_name: str | None = None
    hierarchical: bool | None = None
    hierarchical_template: dict[str, Any] | None = None
    without_counterpart: tuple[str, ...] = Field(
        default=(), exclude=True, description="The given fields that change nothing, by name."
    )

    if TYPE_CHECKING:  # type checkers know from here which texts are taken

        def __init__(
            self,
            *,
            chunk_size: int = 1000,
            overlap: int = 200,
            separator: str = "\n",
            method: str | None = None,
            unit: str | None = None,
            context: bool = True,
            language: str | None = None,
            preserve_metadata: bool = True,
            contextualize: bool = False,
            **more: Any,
        ) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _in_our_words(cls, given: Any) -> Any:
        return _translated(given) if isinstance(given, Mapping) else given

    def own(self) -> NativeConfig:
        """Return what embedfleet's own config has of it."""
        return NativeConfig(**{name: getattr(self, name) for name in NativeConfig.model_fields})


def _translated(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with sizes, unit and method as embedfleet has them."""
    fields = {name: value for name, value in given.items() if value is not None}
    if "overlap" not in fields and isinstance(fields.get("chunk_size"), int):
        fields["overlap"] = min(NativeConfig.model_fields["overlap"].default, fields["chunk_size"] // 5)
    if fields.get("unit") == "words":
        fields["unit"] = ChunkUnit.CHARS
        sizes = {"chunk_size": 1000, "overlap": 200} | fields
        for name in ("chunk_size", "overlap"):
            fields[name] = sizes[name] * CHARS_A_WORD
    lost = [name for name in _LOST_IF_GIVEN if fields.get(name)]
    method = fields.get("method")
    if method is not None and method not in _METHODS:
        fields["method"] = ChunkMethod.RECURSIVE
        lost += [] if method in _COVERED_METHODS else ["method"]
    if fields.get("separator", "") not in _COVERED_SEPARATORS:
        lost.append("separator")
    return {**fields, "without_counterpart": tuple(lost)}


_LOST_IF_GIVEN = (
    "contextualize",
    "contextual_llm_model",
    "context_window_size",
    "language",
    "template_name",
    "hierarchical",
    "hierarchical_template",
)
