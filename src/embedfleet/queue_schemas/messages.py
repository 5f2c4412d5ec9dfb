"""The messages on queues.

They are frozen Pydantic models, packed with msgpack. Arrays travel as raw little-endian bytes (`token_ids`,
`lengths`: uint32; `vectors`: float32; `chunk_ids`: 16 bytes each), so a batch costs one memory copy, and
nothing is unpickled. A message carries references and small arrays, never a document.

A queue may hold messages of several releases. `decode` converts a message of an earlier `schema_version` to
this one (`_STEPS`). It leaves a message of a later version to the workers of that release.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import msgpack
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from embedfleet.errors import LaterMessage, UndecodableMessage
from embedfleet.queue_schemas.vocabulary import Frozen, Stage, TenantId
from embedfleet.validation import first_problem

SCHEMA_VERSION = 3
CHUNK_ID_BYTES = 16


class Message(Frozen):
    """The base of all queue messages. `decode` restores what `encode` packed."""

    kind: ClassVar[Stage]

    schema_version: Literal[3] = 3
    tenant: TenantId
    job_id: str = Field(min_length=1)

    def encode(self) -> bytes:
        body = self.model_dump(mode="python", by_alias=True)
        body["kind"] = self.kind.value
        packed: bytes = msgpack.packb(body, use_bin_type=True)
        return packed

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the message in `payload`.

        Raises UndecodableMessage, naming the field, if no release's `encode` can have made the payload.
        Raises LaterMessage if a later release made it.
        """
        try:
            body = msgpack.unpackb(payload, raw=False, use_list=False)
        except Exception as exc:
            raise UndecodableMessage(f"{cls.__name__}: not msgpack ({exc})") from exc
        if not isinstance(body, dict) or body.pop("kind", None) != cls.kind.value:
            raise UndecodableMessage(f"{cls.__name__}: payload is not a {cls.kind.value} message")
        _bring_up_to_date(cls.kind, body, cls.__name__)
        try:
            return cls.model_validate(body, strict=True)  # `encode` never writes "3" for 3
        except ValidationError as exc:
            problem = first_problem(exc)
            where = problem.field or "message"
            raise UndecodableMessage(f"{cls.__name__}.{where}: {problem.message}") from exc


def _bring_up_to_date(kind: Stage, body: dict[str, Any], name: str) -> None:
    """Convert the body of an earlier schema version to this release's, in place.

    A body that is not a message is left unchanged; the validation after this refuses it.
    """
    version = body.get("schema_version")
    if not isinstance(version, int):
        return
    if version > SCHEMA_VERSION:
        raise LaterMessage(
            f"{name}.schema_version: {version} is of a later release, this one reads up to "
            f"{SCHEMA_VERSION}: upgrade the workers that are left"
        )
    for earlier in range(version, SCHEMA_VERSION):
        if earlier not in _STEPS:
            return
        _STEPS[earlier](kind, body)
        body["schema_version"] = earlier + 1


def _one_to_two(kind: Stage, body: dict[str, Any]) -> None:
    """Version 1 had no tasks of a part of a batch: each of its tasks is a whole batch."""
    if kind in (Stage.EMBEDDING, Stage.STORAGE):
        body["span"] = None


def _two_to_three(kind: Stage, body: dict[str, Any]) -> None:
    """Version 2 did not say how many vectors came from the cache."""
    if kind is Stage.STORAGE:
        body["cached"] = 0


_STEPS: Mapping[int, Callable[[Stage, dict[str, Any]], None]] = {1: _one_to_two, 2: _two_to_three}
"""For each earlier schema version, the function that converts a body to the next version."""


class ChunkingTask(Message):
    """Cut one job's document into chunks and batches. When it is repeated, it makes the same ones."""

    kind = Stage.CHUNKING


class DeadChunk(Frozen):
    """A chunk that cannot be embedded, and the reason."""

    position: int = Field(ge=0, description="Index within its batch.")
    reason: str


Span = Annotated[tuple[int, int], Field(description="Positions [first, past) in a batch.")]


class EmbeddingTask(Message):
    """Embed one batch of tokenised chunks, or a part of it. All arrays are in the order of the chunks."""

    kind = Stage.EMBEDDING

    ordinal: int = Field(ge=0, description="The batch's number within its job.")
    span: Span | None = Field(default=None, description="The part of the batch; None: all of it.")
    model: str
    space: str = Field(description="Fingerprint of everything that decides a vector's value.")
    chunk_ids: bytes = Field(description="16 bytes a chunk.")
    lengths: bytes = Field(description="uint32 LE (n_chunks,): tokens of each chunk.")
    token_ids: bytes = Field(description="uint32 LE (sum(lengths),): concatenated, no special tokens.")

    @model_validator(mode="after")
    def _arrays_agree(self) -> Self:
        n, rest = divmod(len(self.chunk_ids), CHUNK_ID_BYTES)
        if rest or len(self.lengths) != 4 * n:
            raise ValueError("chunk_ids and lengths disagree about the number of chunks")
        if len(self.token_ids) != 4 * int(self.lengths_array().sum(dtype=np.int64)):
            raise ValueError("token_ids is not as long as lengths say")
        if self.span is not None and self.span[1] - self.span[0] != n:
            raise ValueError(f"span {self.span} is not as long as chunk_ids says")
        return self

    @property
    def first_position(self) -> int:
        """The position in the batch of the task's first chunk."""
        return 0 if self.span is None else self.span[0]

    def part(self, first: int, past: int) -> EmbeddingTask:
        """Return a task for the chunks [first, past) of this task, counted from its first chunk."""
        lengths, ends = self.lengths_array(), np.cumsum(self.lengths_array(), dtype=np.int64)
        tokens = slice(int(ends[first] - lengths[first]), int(ends[past - 1]))
        start = self.first_position
        return self.model_copy(
            update={
                "span": (start + first, start + past),
                "chunk_ids": self.chunk_ids[CHUNK_ID_BYTES * first : CHUNK_ID_BYTES * past],
                "lengths": lengths[first:past].tobytes(),
                "token_ids": self.token_ids_array()[tokens].tobytes(),
            }
        )

    def chunk_id_list(self) -> list[str]:
        return unpack_chunk_ids(self.chunk_ids)

    def lengths_array(self) -> NDArray[np.uint32]:
        """uint32 (n_chunks,): the tokens of each chunk, a read-only view of the message."""
        return np.frombuffer(self.lengths, dtype="<u4")

    def token_ids_array(self) -> NDArray[np.uint32]:
        """uint32 (sum of lengths,): the tokens of all chunks, a read-only view of the message."""
        return np.frombuffer(self.token_ids, dtype="<u4")


class StorageTask(Message):
    """Store one embedded batch, or a part of it: the vectors of its new chunks, and its dead chunks.

    `chunk_ids` names the rows of `vectors`. The store already has the chunks of the batch that are neither
    there nor in `dead`.
    """

    kind = Stage.STORAGE

    ordinal: int = Field(ge=0)
    span: Span | None = Field(default=None, description="As in EmbeddingTask.")
    space: str
    dim: int = Field(ge=1)
    chunk_ids: bytes = Field(description="16 bytes a row of `vectors`.")
    vectors: bytes = Field(description="float32 LE (n_rows, dim).")
    cached: int = Field(default=0, ge=0, description="How many of the vectors the cache had.")
    dead: tuple[DeadChunk, ...] = ()

    @model_validator(mode="after")
    def _arrays_agree(self) -> Self:
        n, rest = divmod(len(self.chunk_ids), CHUNK_ID_BYTES)
        if rest or len(self.vectors) != 4 * n * self.dim:
            raise ValueError("vectors and chunk_ids disagree about the number of chunks")
        return self

    def chunk_id_list(self) -> list[str]:
        return unpack_chunk_ids(self.chunk_ids)

    def vectors_array(self) -> NDArray[np.float32]:
        """float32 (n_rows, dim), a read-only view of the message."""
        return np.frombuffer(self.vectors, dtype="<f4").reshape(-1, self.dim)


class DeletionTask(Message):
    """Remove the document's vectors that are marked for deletion."""

    kind = Stage.DELETION

    document_id: str = Field(min_length=1)


def pack_chunk_ids(chunk_ids: list[str]) -> bytes:
    """Hex ids (32 digits each) as 16 raw bytes each, concatenated."""
    return bytes.fromhex("".join(chunk_ids))


def unpack_chunk_ids(packed: bytes) -> list[str]:
    """Return the hex ids that `pack_chunk_ids` packed."""
    digits = packed.hex()
    width = 2 * CHUNK_ID_BYTES
    return [digits[i : i + width] for i in range(0, len(digits), width)]
