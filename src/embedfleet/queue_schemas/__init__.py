"""Every message on a queue and every record that the API returns, typed and versioned.

The names are taken from here; where they are defined is for those who change them.

May import: deployment, routing and below.
"""

from __future__ import annotations

from embedfleet.queue_schemas.documents import (
    ChunkInfo,
    CollectionInfo,
    DocumentInfo,
    DocumentState,
    DocumentText,
)
from embedfleet.queue_schemas.estimates import (
    DocumentEstimate,
    Estimate,
    EstimateState,
    RateSource,
)
from embedfleet.queue_schemas.hits import (
    Feedback,
    ModelDocuments,
    PassageCopy,
    SearchHit,
    SearchHits,
)
from embedfleet.queue_schemas.jobs import (
    CharRange,
    DeadLetterInfo,
    JobEvent,
    JobInfo,
    JobProgress,
    JobTotals,
    RefusedJob,
    Requeued,
)
from embedfleet.queue_schemas.messages import (
    CHUNK_ID_BYTES,
    SCHEMA_VERSION,
    ChunkingTask,
    DeadChunk,
    DeletionTask,
    EmbeddingTask,
    Message,
    Span,
    StorageTask,
    pack_chunk_ids,
    unpack_chunk_ids,
)
from embedfleet.queue_schemas.receipts import (
    BackupFile,
    Receipt,
    ReceiptState,
)
from embedfleet.queue_schemas.requests import (
    JobRequest,
)
from embedfleet.queue_schemas.vocabulary import (
    TERMINAL_STATUSES,
    AccountField,
    ContentType,
    ContentTypeName,
    JobStatus,
    MetadataField,
    Stage,
    TenantId,
    UserTier,
    UserTierName,
)
from embedfleet.settings.chunking import ChunkingConfig, ChunkMethod, ChunkUnit

__all__ = [
    "CHUNK_ID_BYTES",
    "SCHEMA_VERSION",
    "TERMINAL_STATUSES",
    "AccountField",
    "BackupFile",
    "CharRange",
    "ChunkInfo",
    "ChunkMethod",
    "ChunkUnit",
    "ChunkingConfig",
    "ChunkingTask",
    "CollectionInfo",
    "ContentType",
    "ContentTypeName",
    "DeadChunk",
    "DeadLetterInfo",
    "DeletionTask",
    "DocumentEstimate",
    "DocumentInfo",
    "DocumentState",
    "DocumentText",
    "EmbeddingTask",
    "Estimate",
    "EstimateState",
    "Feedback",
    "JobEvent",
    "JobInfo",
    "JobProgress",
    "JobRequest",
    "JobStatus",
    "JobTotals",
    "Message",
    "MetadataField",
    "ModelDocuments",
    "PassageCopy",
    "RateSource",
    "Receipt",
    "ReceiptState",
    "RefusedJob",
    "Requeued",
    "SearchHit",
    "SearchHits",
    "Span",
    "Stage",
    "StorageTask",
    "TenantId",
    "UserTier",
    "UserTierName",
    "pack_chunk_ids",
    "unpack_chunk_ids",
]
