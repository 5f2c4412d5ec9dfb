"""Every message on a queue and every record that the API returns, typed and versioned.

Messages are frozen Pydantic models, packed with msgpack. Arrays travel as raw little-endian bytes
(`token_ids`, `lengths`: uint32; `vectors`: float32; `chunk_ids`: 16 bytes each), so a batch costs one memory
copy, and nothing is unpickled. A message carries references and small arrays, never a document.

A queue may hold messages of several releases. `decode` converts a message of an earlier `schema_version` to
this one (`_STEPS`). It leaves a message of a later version to the workers of that release.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import msgpack
import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)

from embedfleet import document_metadata
from embedfleet.account import NOTHING_SAID, Account
from embedfleet.document_metadata import Value
from embedfleet.errors import LaterMessage, Remedy, UndecodableMessage
from embedfleet.places import NOWHERE, Places
from embedfleet.settings.chunking import ChunkingConfig as ChunkingConfig
from embedfleet.settings.chunking import ChunkMethod as ChunkMethod
from embedfleet.settings.chunking import ChunkUnit as ChunkUnit
from embedfleet.validation import Checked, first_problem
from embedfleet.visible_text import shows_nothing

SCHEMA_VERSION = 3
CHUNK_ID_BYTES = 16
# Characters of a document that are encoded at once, to find lone surrogates without a copy of all of it.
_CHECKED_AT_ONCE = 1 << 20


class UserTier(StrEnum):
    """Decides a tenant's quota and share. The figures are in the settings, `tenants.tiers`."""

    FREE = "free"
    BASIC = "basic"
    PREMIUM = "premium"
    ENTERPRISE = "enterprise"


class JobStatus(StrEnum):
    """The earliest stage in which a job has work left, or how the job ended."""

    PENDING = "pending"
    CHUNKING = "chunking"
    EMBEDDING = "embedding"
    STORING = "storing"
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        return self in TERMINAL_STATUSES


TERMINAL_STATUSES = frozenset(
    {JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS, JobStatus.FAILED, JobStatus.CANCELLED}
)


class Stage(StrEnum):
    """The queues, in the order in which a document passes them. Deletion removes vectors that no live version
    of a document refers to."""

    CHUNKING = "chunking"
    EMBEDDING = "embedding"
    STORAGE = "storage"
    DELETION = "deletion"


class ContentType(StrEnum):
    """How the chunker reads a document: headings of Markdown, definitions of code, or plain text."""

    TEXT = "text"
    MARKDOWN = "markdown"
    CODE = "code"


def _account_of(value: Any) -> Any:
    """Return the account that JSON describes; any other value unchanged."""
    if not isinstance(value, Mapping):
        return value
    try:
        return Account.of_document(value)
    except (AttributeError, KeyError, TypeError) as exc:
        raise ValueError("is no account of a document") from exc


AccountField = Annotated[Account, BeforeValidator(_account_of), PlainSerializer(Account.json_document)]
"""An account in a record; in JSON as `Account.json_document` returns it."""

MetadataField = Annotated[dict[str, Value], BeforeValidator(document_metadata.checked)]
"""Metadata of a document in a request or a record: up to 64 names, 8,192 bytes as JSON."""

UserTierName = Literal["free", "basic", "premium", "enterprise"]
ContentTypeName = Literal["text", "markdown", "code"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


TenantId = Annotated[
    str,
    Field(
        min_length=1,
        validation_alias=AliasChoices("tenant_id", "tenant"),
        serialization_alias="tenant_id",
        description="The tenant that owns it; `tenant_id` on queues and in JSON.",
    ),
]


# --- messages ---------------------------------------------------------------------------------


class Message(_Frozen):
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


class DeadChunk(_Frozen):
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


# --- requests ---


class JobRequest(Checked, _Frozen):
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


# --- records ----------------------------------------------------------------------------------


class JobProgress(_Frozen):
    """Chunk counters of a job. A chunk counts in every stage that it has passed."""

    chunks_total: int = Field(default=0, description="Chunks made so far; final when `sealed`.")
    chunks_embedded: int = 0
    chunks_stored: int = 0
    chunks_reused: int = Field(
        default=0, description="Of the embedded ones: their vector was in the store or in the cache."
    )
    chunks_dead: int = 0
    sealed: bool = Field(default=False, description="The document is chunked to its end.")


class CharRange(_Frozen):
    """Half-open range of character offsets in the document."""

    start: int
    end: int


class JobInfo(_Frozen):
    """How far the processing of a document is, or how it ended."""

    schema_version: Literal[1] = 1
    job_id: str
    tenant: TenantId
    media_id: str
    source: str | None = None
    status: JobStatus
    reason: str | None = Field(default=None, description="Why it is not `completed`, one line.")
    priority: Annotated[int, Field(ge=0, le=100)]
    user_tier: UserTier
    model: str
    generation: int = Field(description="The version of the document that this job makes, from 1.")
    chars: int = Field(description="Size of the document in characters.")
    progress: JobProgress = JobProgress()
    coverage: float | None = Field(
        default=None,
        description="Share of the document's non-blank characters that are in its chunks; `missing` names "
        "those of chunks that were given up. What a reader of the source sees and `account` says is not in "
        "the text counts as not covered. None until the job has completed.",
    )
    account: AccountField = Field(default=NOTHING_SAID, description="What of the source is not in the text.")
    missing: tuple[CharRange, ...] = Field(default=(), description="Ranges whose chunk was dead-lettered.")
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    waiting_for: str | None = Field(
        default=None, description="What an unfinished job needs and does not have; None: nothing is missing."
    )

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return self.model_dump(mode="json", by_alias=True)


class JobTotals(_Frozen):
    """Sums over many jobs, for a progress bar.

    A document is *sealed* when it is chunked to its end. So `sealed_chunks` is final, and `unsealed_chars`
    are characters whose number of chunks can only be estimated.
    """

    jobs: int
    ended: int
    chunks_stored: int
    chunks_dead: int
    sealed_chunks: int = Field(description="Chunks of the sealed documents.")
    sealed_chars: int = Field(description="Characters of the sealed documents.")
    unsealed_chunks: int = Field(description="Chunks made so far of documents that are still being chunked.")
    unsealed_chars: int = Field(description="Characters of documents that are still to be chunked.")


class DocumentState(StrEnum):
    """`live`: searches find it. `building`: its first version is under way. `failed`: no version of it could
    be made, or it was cancelled."""

    LIVE = "live"
    BUILDING = "building"
    FAILED = "failed"


class DocumentInfo(_Frozen):
    """A document that was submitted and not deleted: the version that readers see, otherwise the newest."""

    schema_version: Literal[1] = 1
    tenant: TenantId
    media_id: str
    source: str | None = Field(default=None, description="Where it came from, if that was said.")
    state: DocumentState
    model: str
    generation: int = Field(description="The number of the version, from 1.")
    chars: int = Field(description="Size in characters; 0 if its source could not be turned into text.")
    title: str | None = Field(default=None, description="What it is called, if its text does not say it.")
    chunks: int | None = Field(default=None, description="How many it has; None until all of it is cut.")
    coverage: float | None = Field(default=None, description="As in JobInfo; None unless it is live.")
    account: AccountField = Field(default=NOTHING_SAID, description="What of its source is not in its text.")
    metadata: dict[str, Value] = Field(default={}, description="What its submitter says of it.")
    created_at: datetime = Field(description="When it was first submitted.")

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return self.model_dump(mode="json", by_alias=True)


class CollectionInfo(_Frozen):
    """The vectors of one tenant in one space. Only vectors of one space can be compared."""

    tenant: TenantId
    model: str = Field(description="The model that made the space first.")
    space: str
    dim: int = Field(description="The size of a vector.")
    documents: int = Field(description="How many of its documents readers see.")

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that the API answers with."""
        return self.model_dump(mode="json", by_alias=True)


class DocumentText(_Frozen):
    """A part of a document's text, of the version that readers see, otherwise of the newest."""

    generation: int = Field(description="The number of the version, from 1.")
    start: int = Field(description="Character offsets of the part, half-open.")
    end: int
    chars: int = Field(description="Size of the whole text in characters.")
    text: str | None = Field(description="None: it is not kept, as no version is live or under way.")


class ChunkInfo(_Frozen):
    """A chunk of a document. `start` and `end` are character offsets in the document's text."""

    chunk_index: int = Field(description="Its place in the document, from 0.")
    chunk_id: str
    start: int
    end: int
    tokens: int = Field(description="Tokens of its context and its text, as its model counts.")
    unknown_tokens: int = Field(description="Those of them for text that the model does not know.")
    heading: str = Field(description="The headings above it, from the outermost; empty without any.")
    context: str = Field(description="Embedded before the text: title, headings, a header row.")
    page: int | None = Field(default=None, description="The page it begins on; None without pages.")
    start_seconds: float | None = Field(default=None, description="When it is said; None: no recording.")
    end_seconds: float | None = None
    text: str | None = Field(default=None, description="None: not asked for, or not kept.")

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that the API answers with."""
        return self.model_dump(mode="json")


class DeadLetterInfo(_Frozen):
    """A chunk or a task that was given up, and what an operator did about it. It names the place of the text
    and never holds the text."""

    schema_version: Literal[1] = 1
    dead_letter_id: int
    tenant: TenantId
    job_id: str
    run: int = Field(description="The run of the job that gave it up, from 1.")
    stage: Stage
    media_id: str
    source: str | None = None
    chunk_index: int | None = Field(default=None, description="None: a whole task, not one chunk.")
    start: int | None = Field(default=None, description="Character offsets in the document, half-open.")
    end: int | None = None
    reason: str
    created_at: datetime
    ended: str | None = Field(default=None, description="`requeued` or `purged`; None: open.")
    ended_at: datetime | None = None

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return self.model_dump(mode="json", by_alias=True)


class RefusedJob(_Frozen):
    """A job that cannot run again, and the reason."""

    job_id: str
    reason: str


class Requeued(_Frozen):
    """The jobs that run again, with all their dead letters, and those that cannot."""

    jobs: tuple[str, ...]
    refused: tuple[RefusedJob, ...] = ()


class EstimateState(StrEnum):
    """`embeds`: it is new or changed. `unchanged`: readers see it already. `under_way`: a job makes it
    already. `unreadable`: no text can be made of it, or no chunk."""

    EMBEDS = "embeds"
    UNCHANGED = "unchanged"
    UNDER_WAY = "under_way"
    UNREADABLE = "unreadable"


class DocumentEstimate(_Frozen):
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


class Estimate(_Frozen):
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


class ReceiptState(StrEnum):
    """`pending`: the deletion is under way. `left`: a search found something, and more searches follow.
    `erased`: the last search found nothing. `submitted_again`: so it is there again, and nothing is said."""

    PENDING = "pending"
    LEFT = "left"
    ERASED = "erased"
    SUBMITTED_AGAIN = "submitted_again"


class BackupFile(_Frozen):
    """A backup that was written while the document existed, so that it may hold it."""

    file: str
    written_at: datetime


class Receipt(_Frozen):
    """What a deletion of a document, or of a whole tenant, found and left. It outlives what it tells of.

    A place is a table of SQL, `vector_store`, `queues` (jobs with a task there) or `dead_tasks` (tasks that
    were given up, in the broker). `left` names every place that was searched, those with 0 too.
    """

    schema_version: Literal[1] = 1
    receipt_id: str
    tenant: TenantId
    media_id: str | None = Field(description="The document; None: the whole tenant.")
    state: ReceiptState
    requested_at: datetime
    searched_at: datetime | None = Field(default=None, description="When the last search was.")
    finished_at: datetime | None = Field(default=None, description="None until nothing is left.")
    held: dict[str, int] = Field(description="How much there was at the request, by place.")
    left: dict[str, int] | None = Field(
        default=None, description="How much the last search found, by place; None before the first search."
    )
    kept: dict[str, int] = Field(
        default={}, description="Rows that name it and stay as evidence: audit log, ledger, other receipts."
    )
    backups: tuple[BackupFile, ...] = Field(
        default=(), description="Backups that may hold it. They are out of reach: the operator deletes them."
    )
    beyond: dict[str, str] = Field(
        default={}, description="What else this system cannot search, by a code, and what to do about it."
    )

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return self.model_dump(mode="json", by_alias=True)


class JobEvent(_Frozen):
    """How a run of a job ended. An event that is read or delivered twice has the same `event_id`."""

    schema_version: Literal[1] = 1
    event_id: str = Field(description="The job and its run; a run has one event.")
    position: int = Field(description="Grows. A reader of this position has seen all events before it.")
    tenant: TenantId
    job_id: str
    media_id: str
    status: JobStatus
    reason: str | None = Field(default=None, description="Why it is not `completed`, one line.")
    chunks_stored: int
    chunks_dead: int
    account: AccountField = Field(default=NOTHING_SAID, description="What of the source is not in the text.")
    created_at: datetime = Field(description="When the job ended.")

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints and the webhook gets."""
        return self.model_dump(mode="json", by_alias=True)


class PassageCopy(_Frozen):
    """Where else the text of a hit stands, in the same document or in another one."""

    source: str | None
    media_id: str
    chunk_id: str
    start: int
    end: int
    heading: str
    page: int | None = None


class SearchHit(_Frozen):
    """A passage of a live document. `start` and `end` are character offsets; `score` is cosine, -1 to 1.

    A text that stands in several places fills one hit, that of the nearest of them; `copies` are the others
    that the search met.
    """

    score: float
    source: str | None
    media_id: str
    chunk_id: str
    start: int
    end: int
    heading: str
    text: str
    page: int | None = Field(default=None, description="The page it begins on; None without pages.")
    start_seconds: float | None = Field(default=None, description="When it is said; None: no recording.")
    end_seconds: float | None = None
    context: str = Field(default="", description="Embedded before the text: title, headings, a header row.")
    metadata: dict[str, Value] = Field(default={}, description="What its submitter says of the document.")
    copies: tuple[PassageCopy, ...] = ()


class ModelDocuments(_Frozen):
    """How many documents readers see that were embedded with a model."""

    model: str
    documents: int


class SearchHits(list[SearchHit]):
    """The hits of a search, nearest first, and what was searched for them.

    `model` is the model whose documents were searched; None if there are none. `not_searched` are the
    tenant's documents of other models. `notice` says in one line what a reader of the hits must know: that
    documents were not searched, or why there are no hits. It is None if there is nothing to say; `remedy` is
    what helps.

    `exact`: every passage that the filter allows was compared with the query, so the hits are the nearest
    there are. Otherwise the index gave them, which is approximate. `candidates` are the passages that were
    compared, or the rows that the index gave.
    """

    def __init__(
        self,
        hits: Iterable[SearchHit] = (),
        *,
        model: str | None = None,
        not_searched: Sequence[ModelDocuments] = (),
        notice: str | None = None,
        remedy: Remedy | None = None,
        exact: bool = False,
        candidates: int = 0,
    ) -> None:
        super().__init__(hits)
        self.model = model
        self.not_searched = tuple(not_searched)
        self.notice = notice
        self.remedy = remedy
        self.exact = exact
        self.candidates = candidates

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return {
            "hits": [hit.model_dump(mode="json") for hit in self],
            "model": self.model,
            "not_searched": [one.model_dump(mode="json") for one in self.not_searched],
            "notice": self.notice,
            "remedy": self.remedy,
            "exact": self.exact,
            "candidates": self.candidates,
        }

    @classmethod
    def of_json(cls, document: Mapping[str, Any]) -> SearchHits:
        """Return what `json_document` described. A description by an earlier release has only the hits."""
        return cls(
            [SearchHit.model_validate(hit, extra="ignore") for hit in document["hits"]],
            model=document.get("model"),
            not_searched=[
                ModelDocuments.model_validate(one, extra="ignore") for one in document.get("not_searched", ())
            ],
            notice=document.get("notice"),
            remedy=Remedy.from_code(document.get("remedy")),
            exact=document.get("exact", False),
            candidates=document.get("candidates", 0),
        )
