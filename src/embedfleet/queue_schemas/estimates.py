"""Records of what documents would cost."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from embedfleet.queue_schemas.vocabulary import Frozen


class EstimateState(StrEnum):
    """`embeds`: it is new or changed. `unchanged`: readers see it already. `under_way`: a job makes it
    already. `unreadable`: no text can be made of it, or no chunk."""

    EMBEDS = "embeds"
    UNCHANGED = "unchanged"
    UNDER_WAY = "under_way"
    UNREADABLE = "unreadable"


class DocumentEstimate(Frozen):
    """What a document would cost if it were submitted now.

    Tokens are counted by the model's own tokeniser. The numbers of chunks are None unless it embeds.
    """

    media_id: str
    source: str | None = None
    model: str
    state: EstimateState
    chars: int = 0
    bytes: int = Field(default=0, description="The size of its text in UTF-8.")
    tokens: int = Field(default=0, description="What would be charged; 0 for what is there already.")
    cost: float | None = Field(default=None, description="The price of the tokens; None: no price is set.")
    chunks: int | None = None
    chunks_stored: int | None = Field(default=None, description="Their vectors are stored already.")
    chunks_cached: int | None = Field(default=None, description="Their vectors are in the cache.")
    chunks_to_embed: int | None = Field(default=None, description="The model runs for these.")
    tokens_to_embed: int | None = Field(
        default=None, description="Tokens of these chunks, with what overlaps and what stands above them."
    )
    error: str | None = Field(default=None, description="Why it is unreadable.")

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return self.model_dump(mode="json", by_alias=True)


class RateSource(StrEnum):
    """Where the rate of an estimate was measured: the workers that run now, or the tenant's past jobs."""

    WORKERS = "workers"
    PAST = "past"


class Estimate(Frozen):
    """Sums over the estimates of documents."""

    schema_version: Literal[1] = 1
    documents: int
    embeds: int
    unchanged: int
    under_way: int
    unreadable: int
    chars: int = Field(description="Of the documents that embed.")
    bytes: int = Field(description="Of the documents that embed.")
    tokens: int = Field(description="What would be charged.")
    cost: float | None = Field(description="The price of the tokens; None: a model has no price.")
    currency: str
    chunks: int
    chunks_stored: int
    chunks_cached: int
    chunks_to_embed: int
    tokens_to_embed: int
    seconds: float | None = Field(
        description="The time for the tokens to embed at the rate; None without a rate."
    )
    seconds_before: float | None = Field(
        description="The time until the jobs that the tenant has already have ended; None: it cannot be told."
    )
    tokens_per_second: float | None = Field(description="The rate; None: nothing was measured yet.")
    rate_source: RateSource | None

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return self.model_dump(mode="json", by_alias=True)
