"""What an API process and an embedding worker say to each other through the broker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import msgpack
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from embedfleet import errors
from embedfleet.errors import EmbedfleetError, Remedy, Transient, UndecodableMessage
from embedfleet.inference.backend import TokenBatch
from embedfleet.queue_schemas import Message, Stage
from embedfleet.validation import first_problem

# What may go wrong with a model, by the name of its class. Any other error crosses as ModelError.
_ERRORS: Mapping[str, type[EmbedfleetError]] = {
    kind.__name__: kind
    for kind in (
        errors.InvalidRequest,
        errors.UnknownModel,
        errors.SpaceMismatch,
        errors.ModelError,
        errors.ModelFailure,
    )
}


class EmbeddingRequest(Message):
    """Embed some texts of a caller that waits, and answer to its mailbox. `job_id` names the request."""

    kind = Stage.EMBEDDING

    mailbox: str = Field(min_length=1)
    first: int = Field(ge=0, description="The position of the first text in the whole request.")
    model: str
    space: str = Field(description="As in EmbeddingTask.")
    role: Literal["document", "query"]
    lengths: bytes = Field(description="uint32 LE (n,): tokens of each text.")
    token_ids: bytes = Field(description="uint32 LE (sum(lengths),): concatenated, no special tokens.")
    texts: tuple[str, ...] | None = Field(description="The same texts, for a model that reads strings.")
    wanted_until: float | None = Field(description="UTC seconds after which no caller waits; None: no limit.")

    @model_validator(mode="after")
    def _arrays_agree(self) -> Self:
        if len(self.lengths) % 4 or len(self.token_ids) % 4:
            raise ValueError("lengths and token_ids must be arrays of uint32")
        lengths = np.frombuffer(self.lengths, dtype="<u4")
        if len(self.token_ids) != 4 * int(lengths.sum(dtype=np.int64)):
            raise ValueError("token_ids is not as long as lengths say")
        if self.texts is not None and len(self.texts) != len(lengths):
            raise ValueError("texts and lengths disagree about the number of texts")
        return self

    def batch(self) -> TokenBatch:
        return TokenBatch(
            np.frombuffer(self.token_ids, dtype="<u4"),
            np.frombuffer(self.lengths, dtype="<u4").astype(np.int64),
            self.texts,
            self.role,
        )


class EmbeddingAnswer(BaseModel):
    """The vectors of an `EmbeddingRequest`, or why there are none."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: Literal[1] = 1

    request_id: str
    first: int = Field(ge=0, description="As in the request.")
    count: int = Field(ge=0, description="How many texts the request had.")
    vectors: bytes = Field(default=b"", description="float32 LE (count, dim); empty if it failed.")
    failed: dict[int, str] = Field(default={}, description="Why a text has no vector, by its position here.")
    inference_seconds: float = 0.0
    error: str | None = Field(default=None, description="The class of the error that ended the request.")
    message: str = ""
    remedy: str | None = None
    retry_after_seconds: float | None = Field(default=None, description="None: another try would fail too.")

    @classmethod
    def of_failure(cls, request: EmbeddingRequest, failure: EmbedfleetError) -> EmbeddingAnswer:
        """Return the answer to a request that failed as a whole."""
        return cls(
            request_id=request.job_id,
            first=request.first,
            count=len(request.lengths) // 4,
            error=type(failure).__name__,
            message=errors.one_line(failure),
            remedy=failure.remedy,
            retry_after_seconds=failure.retry_after_seconds if isinstance(failure, Transient) else None,
        )

    @property
    def failure(self) -> EmbedfleetError | None:
        """The error that ended the request; None if it succeeded."""
        if self.error is None:
            return None
        remedy = Remedy.from_code(self.remedy)
        if self.retry_after_seconds is not None:
            return errors.ModelUnavailable(
                self.message, retry_after_seconds=self.retry_after_seconds, remedy=remedy
            )
        return _ERRORS.get(self.error, errors.ModelError)(self.message, remedy=remedy)

    def vectors_array(self) -> NDArray[np.float32]:
        """float32 (count, dim), a read-only view of the answer."""
        return np.frombuffer(self.vectors, dtype="<f4").reshape(self.count, -1)

    def encode(self) -> bytes:
        packed: bytes = msgpack.packb(self.model_dump(mode="python"), use_bin_type=True)
        return packed

    @classmethod
    def decode(cls, packed: bytes) -> Self:
        """Return the answer in `packed`. Raises UndecodableMessage if no worker of this release made it."""
        try:
            body: Any = msgpack.unpackb(packed, raw=False, strict_map_key=False)
            return cls.model_validate(body)
        except ValidationError as exc:
            raise UndecodableMessage(f"EmbeddingAnswer: {first_problem(exc).message}") from exc
        except Exception as exc:
            raise UndecodableMessage(f"EmbeddingAnswer: not msgpack ({exc})") from exc
