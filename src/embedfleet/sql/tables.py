"""The SQL schema, in one place. Migrations build it, and a test checks that the two are equal.

Instants are Unix seconds (float) from the injected clock. Chunk ids are 16 raw bytes. States are text, so
that a person can read them in SQL.

The rows of a document: `documents` has its name. Each generation is a row of `generations`, with its text in
`segments` and its chunks in `chunks`. `jobs` and `batches` say how far the work on a generation is. `vectors`
says which chunk ids the vector store holds, and which of them are to be deleted. `events` tells readers how
jobs ended. `embeddings` keeps computed vectors for another use.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)


def _partial_index(name: str, column: str, *, where: str) -> Index:
    """Build an index of the rows that meet the condition. It stays small if few rows do."""
    return Index(name, column, sqlite_where=text(where), postgresql_where=text(where))


class GenerationState(StrEnum):
    """`building` and `live` generations keep their vectors; a `retired` generation needs none."""

    BUILDING = "building"
    LIVE = "live"
    RETIRED = "retired"


class BatchState(StrEnum):
    PENDING = "pending"
    EMBEDDED = "embedded"
    DONE = "done"


class VectorState(StrEnum):
    """`stored`: the vector store holds it. `deleting`: no generation refers to it, and a deletion task
    removes it; until then its id must not be written again."""

    STORED = "stored"
    DELETING = "deleting"


class DeadLetterEnd(StrEnum):
    """`requeued`: its job ran again. `replaced`: a newer generation of its document is complete. `purged`: an
    operator accepted the loss."""

    REPLACED = "replaced"
    REQUEUED = "requeued"
    PURGED = "purged"


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows itself only in a column of the type INTEGER. It gives the number of a deleted last row
# again, unless the table has `sqlite_autoincrement`: so have those whose rows are deleted and whose numbers
# are remembered elsewhere, as in a receipt.
_Id = BigInteger().with_variant(Integer(), "sqlite")
# Positions in a document, and their sums: a day's quota is beyond 32 bits.
_Chars = BigInteger()

tenants = Table(
    "tenants",
    metadata,
    Column("tenant_id", Text, primary_key=True, key="tenant"),
    # NULL: no tier was set for the tenant, so it has the default one.
    Column("tier", String(16)),
    # Limits of this tenant that differ from those of its tier, as JSON; NULL: none does.
    Column("limits", Text),
)

# API keys. A key is `ef_PREFIX_SECRET`; the row has the prefix, and a hash of the whole key.
api_keys = Table(
    "api_keys",
    metadata,
    Column("prefix", String(16), primary_key=True),
    Column("hash", LargeBinary(32), nullable=False),
    # NULL: the key of an operator, which belongs to no tenant.
    Column("tenant_id", Text, key="tenant", index=True),
    Column("name", Text, nullable=False),
    # `read write admin operator`, some of them, with a space between.
    Column("scopes", Text, nullable=False),
    # The most requests in a minute with this key; NULL: the limit of its tenant.
    Column("requests_per_minute", Integer),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
    # About when it was used last: written at most once a minute.
    Column("used_at", Float),
)

# What operators and admins did. Rows are only added.
audit = Table(
    "audit",
    metadata,
    Column("audit_id", _Id, primary_key=True),
    Column("at", Float, nullable=False, index=True),
    # The prefix of the key, or `local` for a command beside the database.
    Column("actor", Text, nullable=False),
    Column("action", String(40), nullable=False),
    Column("tenant_id", Text, key="tenant"),
    # What it was done to, as JSON. Never a secret, never text of a document.
    Column("details", Text, nullable=False),
)

# Answers to requests with an `Idempotency-Key`, to be given again to the same request.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant_id", Text, primary_key=True, key="tenant"),
    Column("route", String(80), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("request_hash", LargeBinary(32), nullable=False),
    # NULL while the request is being answered. Until then `response` names the claim of who answers it.
    Column("status", Integer),
    Column("response", Text),
    Column("created_at", Float, nullable=False, index=True),
)

# Receipts of deletions: what was searched again afterwards, and what was found. They outlive their documents.
receipts = Table(
    "receipts",
    metadata,
    Column("receipt_id", String(40), primary_key=True),
    Column("tenant_id", Text, nullable=False, key="tenant"),
    # NULL: the receipt of a whole tenant.
    Column("media_id", Text),
    Column("document_id", String(32)),
    Column("requested_at", Float, nullable=False),
    # NULL until everything is gone and was searched again.
    Column("finished_at", Float),
    # What was there, and what the last search found, as JSON (`records.receipts.Findings`).
    Column("findings", Text, nullable=False),
    Index("ix_receipts_tenant_id_requested_at", "tenant", "requested_at"),
    _partial_index("ix_receipts_open", "requested_at", where="finished_at IS NULL"),
)

collections = Table(
    "collections",
    metadata,
    Column("collection_id", _Id, primary_key=True),
    Column("tenant_id", Text, nullable=False, key="tenant"),
    Column("model", Text, nullable=False),
    Column("space", Text, nullable=False),
    Column("dim", Integer, nullable=False),
    # The index of this constraint also serves look-ups by tenant alone.
    UniqueConstraint("tenant", "space"),
    sqlite_autoincrement=True,
)

documents = Table(
    "documents",
    metadata,
    Column("document_id", String(32), primary_key=True),
    Column("tenant_id", Text, nullable=False, key="tenant"),
    Column("media_id", Text, nullable=False),
    Column("source", Text),
    Column("live_generation", Integer),
    Column("deleted_at", Float),
    # Counts requests to clean up after the document; 0 when there is nothing to clean up.
    Column("cleanup", Integer, nullable=False),
    # Counts deletions of its vectors: a vector written while this number changes may be deleted again.
    Column("deletions", Integer, nullable=False),
    # Counts changes of its metadata: a row of the vector store that is written while this number changes may
    # have the metadata of before.
    Column("patches", Integer, nullable=False),
    # Counts changes that the views were not told of (`views`); 0 if they know all, or if there are no views.
    Column("view_marks", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("tenant", "media_id"),
    _partial_index("ix_documents_cleanup", "cleanup", where="cleanup > 0"),
    _partial_index("ix_documents_view_marks", "document_id", where="view_marks > 0"),
)

generations = Table(
    "generations",
    metadata,
    Column("generation_id", _Id, primary_key=True),
    Column("document_id", String(32), ForeignKey("documents.document_id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("collection_id", _Id, ForeignKey("collections.collection_id"), nullable=False),
    Column("content_hash", String(64), nullable=False),
    Column("source_hash", String(64)),
    Column("content_type", String(16), nullable=False),
    Column("chars", _Chars, nullable=False),
    Column("chunking", Text, nullable=False),
    Column("batch_chunks", Integer, nullable=False),
    Column("chunker_version", Integer, nullable=False),
    Column("title", Text),
    # The account of the source as JSON (`account.Account`); NULL if nothing was left out.
    Column("account", Text),
    # Whether the version must not be made if content of the source is lost.
    Column("strict", Boolean, nullable=False),
    # The metadata that the caller gave, as JSON; NULL if there is none.
    Column("metadata", Text),
    UniqueConstraint("document_id", "number"),
    sqlite_autoincrement=True,
)

segments = Table(
    "segments",
    metadata,
    Column("generation_id", _Id, ForeignKey("generations.generation_id"), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("start", _Chars, nullable=False),
    Column("chars", _Chars, nullable=False),
    Column("body", LargeBinary, nullable=False),
    # The places that begin in the segment (`records.segments`); NULL if there are none.
    Column("places", LargeBinary),
)

chunks = Table(
    "chunks",
    metadata,
    Column("generation_id", _Id, ForeignKey("generations.generation_id"), primary_key=True),
    Column("chunk_index", Integer, primary_key=True),
    Column("chunk_id", LargeBinary(16), nullable=False, index=True),
    Column("start", _Chars, nullable=False),
    Column("end", _Chars, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("heading", Text, nullable=False),
    # What is embedded before the chunk's text.
    Column("context", Text, nullable=False),
    # Tokens that stand for text which the model does not know.
    Column("unknown", Integer, nullable=False),
    # Where the chunk is in its source: the page of its beginning, and the seconds of a recording.
    Column("page", Integer),
    Column("start_seconds", Float),
    Column("end_seconds", Float),
    sqlite_with_rowid=False,
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", String(40), primary_key=True),
    Column("tenant_id", Text, nullable=False, key="tenant"),
    Column("document_id", String(32), nullable=False, index=True),
    Column("generation_id", _Id, nullable=False, index=True),
    Column("user_tier", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("status", String(24), nullable=False),
    Column("reason", Text),
    # Counts retries, so that tasks of an earlier run can be recognised.
    Column("run", Integer, nullable=False),
    Column("sealed", Boolean, nullable=False),
    Column("batches_total", Integer, nullable=False),
    Column("batches_embedded", Integer, nullable=False),
    Column("batches_done", Integer, nullable=False),
    Column("chunks_total", Integer, nullable=False),
    Column("chunks_embedded", Integer, nullable=False),
    Column("chunks_stored", Integer, nullable=False),
    Column("chunks_reused", Integer, nullable=False),
    Column("chunks_dead", Integer, nullable=False),
    Column("coverage", Float),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("offered_at", Float),
    Index("ix_jobs_tenant_id_created_at", "tenant", "created_at"),
    # The outbox: jobs that were not offered to the broker yet. The index is partial, so it holds only these.
    _partial_index("ix_jobs_outbox", "created_at", where="offered_at IS NULL AND finished_at IS NULL"),
    _partial_index("ix_jobs_unfinished", "tenant", where="finished_at IS NULL"),
    # For the reconciler, which reads the unfinished jobs in pages.
    _partial_index("ix_jobs_unfinished_by_id", "job_id", where="finished_at IS NULL"),
)

batches = Table(
    "batches",
    metadata,
    Column("job_id", String(40), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("first_chunk", Integer, nullable=False),
    Column("chunks", Integer, nullable=False),
    Column("dead", Integer, nullable=False),
    sqlite_with_rowid=False,
)

vectors = Table(
    "vectors",
    metadata,
    Column("chunk_id", LargeBinary(16), primary_key=True),
    Column("document_id", String(32), nullable=False, index=True),
    Column("collection_id", _Id, ForeignKey("collections.collection_id"), nullable=False),
    # The generation whose metadata (index, heading, job) is in the row of the vector store; 0 if the row has
    # metadata that its document had before.
    Column("described_by", _Id, nullable=False),
    # Counts writes of the id, so that a deletion cannot forget a write that came after its look.
    Column("writes", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    # The checksum of the float32 bytes that were read back; NULL if unknown, as in rows of older releases.
    Column("checksum", LargeBinary(8)),
    sqlite_with_rowid=False,
)

# The embedding cache: vectors by text, so that the model need not run again for a text it has seen.
embeddings = Table(
    "embeddings",
    metadata,
    Column("collection_id", _Id, ForeignKey("collections.collection_id"), primary_key=True),
    # The hash of the model's whole input: the token ids, or the text for a model that reads texts.
    Column("content_hash", LargeBinary(16), primary_key=True),
    # The document whose deletion deletes the vector.
    Column("document_id", String(32), nullable=False, index=True),
    Column("vector", LargeBinary, nullable=False),
    # The day of the last use, in days since 1970: the vectors that were unused longest are trimmed first.
    Column("used_on", Integer, nullable=False),
    Index("ix_embeddings_collection_id_used_on", "collection_id", "used_on"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("dead_letter_id", _Id, primary_key=True),
    Column("tenant_id", Text, nullable=False, key="tenant"),
    Column("job_id", String(40), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("ordinal", Integer),
    Column("chunk_index", Integer),
    Column("start", _Chars),
    Column("end", _Chars),
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    # The run of the job that gave it up.
    Column("run", Integer, nullable=False),
    # How the letter ended (`DeadLetterEnd`), and when; NULL while it is open.
    Column("ended", String(16)),
    Column("ended_at", Float),
    Index("ix_dead_letters_job_id", "job_id"),
    Index("uq_dead_letters_chunk", "job_id", "run", "chunk_index", unique=True),
    _partial_index("ix_dead_letters_open", "created_at", where="ended IS NULL"),
    sqlite_autoincrement=True,
)

# Counts deliveries that ended with the death of their process, for a broker inside that process.
deaths = Table(
    "deaths",
    metadata,
    Column("stage", String(16), primary_key=True),
    Column("task_id", String(80), primary_key=True),
    Column("job_id", String(40), nullable=False, index=True),
    Column("deaths", Integer, nullable=False),
)

# Completion events. The transaction that ends a job writes its event. A run has one event with one id, so
# that a receiver recognises an event that comes twice.
events = Table(
    "events",
    metadata,
    Column("event_id", String(56), primary_key=True),
    # NULL until the leader's publisher gives the next position. It gives them in order, so that a reader that
    # goes on from a position misses no event.
    Column("position", _Id, unique=True),
    Column("tenant_id", Text, nullable=False, key="tenant"),
    Column("job_id", String(40), nullable=False),
    Column("run", Integer, nullable=False),
    Column("media_id", Text, nullable=False),
    Column("status", String(24), nullable=False),
    Column("reason", Text),
    Column("chunks_stored", Integer, nullable=False),
    Column("chunks_dead", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("delivered_at", Float),
    # The account of the document as JSON; NULL if nothing was left out.
    Column("account", Text),
    Index("ix_events_tenant_id_position", "tenant", "position"),
    _partial_index("ix_events_outbox", "created_at", where="position IS NULL"),
    _partial_index("ix_events_undelivered", "position", where="delivered_at IS NULL"),
)

# The ledger: what is enforced, shown and billed. A UTC day, a model and an API key have one row of a tenant.
usage = Table(
    "usage",
    metadata,
    Column("tenant_id", Text, primary_key=True, key="tenant"),
    Column("day", String(10), primary_key=True),
    # Empty in rows of releases that did not record it.
    Column("model", Text, primary_key=True),
    # The prefix of the API key; empty without one.
    Column("api_key", String(16), primary_key=True),
    Column("chars", _Chars, nullable=False),
    Column("bytes", _Chars, nullable=False),
    Column("tokens", _Chars, nullable=False),
    Column("jobs", Integer, nullable=False),
    # Texts that were embedded at once, without a job.
    Column("texts", Integer, nullable=False),
)

# Searches of processes that do not own the vector store. They ask here, and the owner answers here.
searches = Table(
    "searches",
    metadata,
    Column("search_id", String(40), primary_key=True),
    Column("tenant_id", Text, nullable=False, key="tenant"),
    Column("request", Text, nullable=False),
    Column("response", Text),
    Column("created_at", Float, nullable=False),
)

# Which requests go to the fleet: a row a change, with the whole state that holds from then on. The newest
# row holds. Rows are only added.
traffic_changes = Table(
    "traffic_changes",
    metadata,
    Column("change_id", _Id, primary_key=True),
    Column("at", Float, nullable=False),
    # The prefix of a key, `local`, or `guard`.
    Column("actor", Text, nullable=False),
    Column("action", String(40), nullable=False),
    Column("reason", Text),
    # `traffic.state.TrafficState` as JSON.
    Column("state", Text, nullable=False),
)

# How requests went, counted by each process that routes: a row for a slice of time, a path and a state.
traffic_counts = Table(
    "traffic_counts",
    metadata,
    Column("slice_at", BigInteger, primary_key=True),
    Column("process", String(40), primary_key=True),
    # `sync` (the old path) or `async` (the fleet).
    Column("path", String(16), primary_key=True),
    Column("change_id", BigInteger, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    # Requests that the fleet failed to answer and that then went to the old path.
    Column("fallbacks", BigInteger, nullable=False),
    Column("chunks", BigInteger, nullable=False),
    # Numbers of requests by class of latency, as JSON (`traffic.latencies`).
    Column("latencies", Text, nullable=False),
)

# Documents that were ingested on one path and must still be removed from the other one, which is `path`.
traffic_removals = Table(
    "traffic_removals",
    metadata,
    Column("tenant_id", Text, primary_key=True, key="tenant"),
    Column("media_id", Text, primary_key=True),
    Column("path", String(16), primary_key=True),
    Column("requested_at", Float, nullable=False),
    Column("due_at", Float, nullable=False, index=True),
    # Until then one process is at it.
    Column("claimed_until", Float),
    # The removal waits until readers see what this job of the fleet stores.
    Column("job_id", Text),
    # The document is to be on neither path.
    Column("erases", Boolean, nullable=False),
)

# Shadow runs: the old path answers, the fleet does the same unseen, and the two are compared.
shadows = Table(
    "shadows",
    metadata,
    Column("shadow_id", String(40), primary_key=True),
    Column("owner", Text, nullable=False),
    # What decides, as JSON.
    Column("rule", Text, nullable=False),
    Column("begun_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    # 1 while it runs, then NULL. Unique, so that one runs at a time.
    Column("running", Integer, unique=True),
    Column("ended_at", Float),
    # NULL while it runs.
    Column("verdict", String(16)),
    Column("reason", Text),
    # When the deletion of its documents was requested.
    Column("erased_at", Float),
    # What was counted, as JSON.
    Column("findings", Text, nullable=False),
)

# Examples of differences that a shadow run found.
shadow_differences = Table(
    "shadow_differences",
    metadata,
    Column("difference_id", _Id, primary_key=True),
    Column("shadow_id", String(40), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("tenant_id", Text, nullable=False, key="tenant"),
    Column("media_id", Text, nullable=False),
    Column("kind", String(24), nullable=False),
    # Numbers and ids, as JSON. Never text of a document.
    Column("details", Text, nullable=False),
)

# Collections in a layout that another system reads. While there is a row here, a document that changes is
# marked.
views = Table(
    "views",
    metadata,
    Column("view_id", _Id, primary_key=True),
    Column("name", String(40), nullable=False, unique=True),
    # The settings that decide what the view holds, as JSON: if they change, it is filled again.
    Column("recipe", Text, nullable=False),
    # The last document that the filling has asked for, in the order of ids; NULL when it has asked for all.
    Column("filled_to", String(32)),
)

# Documents that changed since a view was written. A row outlives its document, which must leave the view.
view_changes = Table(
    "view_changes",
    metadata,
    Column("view_id", _Id, ForeignKey("views.view_id"), primary_key=True),
    Column("document_id", String(32), primary_key=True),
    Column("tenant_id", Text, nullable=False, key="tenant"),
    Column("media_id", Text, nullable=False),
    # Counts changes. A row is dropped only if this number is still the one that was read before the writing.
    Column("changes", Integer, nullable=False),
    # When the oldest of these changes was noticed.
    Column("since", Float, nullable=False),
    Index("ix_view_changes_view_id_since", "view_id", "since"),
    Index("ix_view_changes_tenant_id_media_id", "tenant", "media_id"),
)

# Small facts of the whole system, such as the broker's epoch that the outbox knows (`broker_epoch`).
facts = Table(
    "facts",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", Text, nullable=False),
)

# The orchestrator that leads. `beats` grows while it lives; `term` counts changes of the holder.
leadership = Table(
    "leadership",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("holder", String(64)),
    Column("term", Integer, nullable=False),
    Column("beats", Integer, nullable=False),
)

# Running orchestrators: the workers they have (`pools`) and those they were told to have (`wanted`), as JSON.
orchestrators = Table(
    "orchestrators",
    metadata,
    Column("orchestrator_id", String(64), primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("pools", Text, nullable=False),
    Column("wanted", Text),
)
