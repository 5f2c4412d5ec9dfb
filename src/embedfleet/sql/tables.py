"""The tables of the SQL schema, but for those of the traffic and of models over time. `sql.schema` has all.

Instants are Unix seconds (float) from the injected clock. Chunk ids are 16 raw bytes. States are text, so
that a person can read them in SQL.

The rows of a document: `documents` has its name. Each generation is a row of `generations`, with its text in
`segments` and its chunks in `chunks`. `jobs` and `batches` say how far the work on a generation is. `vectors`
says which chunk ids the vector store holds, and which of them are to be deleted. `events` tells readers how
jobs ended. `embeddings` keeps computed vectors for another use.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from embedfleet.sql.metadata import Chars, Id, metadata, partial_index

tenants = Table(
    "tenants",
    metadata,
    Column("tenant_id", Text, primary_key=True, key="tenant"),
    # NULL: no tier was set for the tenant, so it has the default one.
    Column("tier", String(16)),
    # Limits of this tenant that differ from those of its tier, as JSON; NULL: none does.
    Column("limits", Text),
    # The tenant's own model, to which it was switched, for documents that no rule sends to another one; NULL:
    # the default one.
    Column("model", Text),
    # The tenant's own rules of routing, as JSON (`settings.routing.RoutingRules`); NULL: it has none.
    Column("rules", Text),
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
    Column("audit_id", Id, primary_key=True),
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
    partial_index("ix_receipts_open", "requested_at", where="finished_at IS NULL"),
)

collections = Table(
    "collections",
    metadata,
    Column("collection_id", Id, primary_key=True),
    Column("tenant_id", Text, nullable=False, key="tenant"),
    Column("model", Text, nullable=False),
    Column("space", Text, nullable=False),
    Column("dim", Integer, nullable=False),
    # The index of this constraint also serves look-ups by tenant alone.
    UniqueConstraint("tenant", "space"),
    sqlite_autoincrement=True,
)

# What cosines of random pairs are like in a collection, so that scores of several spaces compare.
score_backgrounds = Table(
    "score_backgrounds",
    metadata,
    Column("collection_id", Id, ForeignKey("collections.collection_id"), primary_key=True),
    # `routing.fusion.Background` as JSON.
    Column("background", Text, nullable=False),
    # Documents that readers saw in the collection when it was made: it is made again when they are many more.
    Column("documents", BigInteger, nullable=False),
    Column("made_at", Float, nullable=False),
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
    # For walks through the documents of a tenant, in pages.
    Index("ix_documents_tenant_id_document_id", "tenant", "document_id"),
    partial_index("ix_documents_cleanup", "cleanup", where="cleanup > 0"),
    partial_index("ix_documents_view_marks", "document_id", where="view_marks > 0"),
)

generations = Table(
    "generations",
    metadata,
    Column("generation_id", Id, primary_key=True),
    Column("document_id", String(32), ForeignKey("documents.document_id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("collection_id", Id, ForeignKey("collections.collection_id"), nullable=False),
    Column("content_hash", String(64), nullable=False),
    Column("source_hash", String(64)),
    Column("content_type", String(16), nullable=False),
    Column("chars", Chars, nullable=False),
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
    # For the questions whether readers see any document of a collection, and whether they see this one there.
    # With the collection alone, SQLite would look through all its documents for each.
    partial_index("ix_generations_live", "collection_id", "document_id", where="state = 'live'"),
    sqlite_autoincrement=True,
)

segments = Table(
    "segments",
    metadata,
    Column("generation_id", Id, ForeignKey("generations.generation_id"), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("start", Chars, nullable=False),
    Column("chars", Chars, nullable=False),
    Column("body", LargeBinary, nullable=False),
    # The places that begin in the segment (`records.segments`); NULL if there are none.
    Column("places", LargeBinary),
)

chunks = Table(
    "chunks",
    metadata,
    Column("generation_id", Id, ForeignKey("generations.generation_id"), primary_key=True),
    Column("chunk_index", Integer, primary_key=True),
    Column("chunk_id", LargeBinary(16), nullable=False, index=True),
    Column("start", Chars, nullable=False),
    Column("end", Chars, nullable=False),
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
    Column("generation_id", Id, nullable=False, index=True),
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
    # The switch to another model that made this job; NULL: it was submitted.
    Column("switch_id", Id),
    # The line in which its tasks queue; NULL: that of its tenant.
    Column("flow", String(40)),
    # Why the document got its model, in one line; NULL: the caller named the model.
    Column("route", Text),
    Index("ix_jobs_tenant_id_created_at", "tenant", "created_at"),
    # The outbox: jobs that were not offered to the broker yet. The index is partial, so it holds only these.
    partial_index("ix_jobs_outbox", "created_at", where="offered_at IS NULL AND finished_at IS NULL"),
    partial_index("ix_jobs_unfinished", "tenant", where="finished_at IS NULL"),
    # For the reconciler, which reads the unfinished jobs in pages.
    partial_index("ix_jobs_unfinished_by_id", "job_id", where="finished_at IS NULL"),
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
    Column("collection_id", Id, ForeignKey("collections.collection_id"), nullable=False),
    # The generation whose metadata (index, heading, job) is in the row of the vector store; 0 if the row has
    # metadata that its document had before.
    Column("described_by", Id, nullable=False),
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
    Column("collection_id", Id, ForeignKey("collections.collection_id"), primary_key=True),
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
    Column("dead_letter_id", Id, primary_key=True),
    Column("tenant_id", Text, nullable=False, key="tenant"),
    Column("job_id", String(40), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("ordinal", Integer),
    Column("chunk_index", Integer),
    Column("start", Chars),
    Column("end", Chars),
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    # The run of the job that gave it up.
    Column("run", Integer, nullable=False),
    # How the letter ended (`DeadLetterEnd`), and when; NULL while it is open.
    Column("ended", String(16)),
    Column("ended_at", Float),
    Index("ix_dead_letters_job_id", "job_id"),
    Index("uq_dead_letters_chunk", "job_id", "run", "chunk_index", unique=True),
    partial_index("ix_dead_letters_open", "created_at", where="ended IS NULL"),
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
    Column("position", Id, unique=True),
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
    partial_index("ix_events_outbox", "created_at", where="position IS NULL"),
    partial_index("ix_events_undelivered", "position", where="delivered_at IS NULL"),
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
    Column("chars", Chars, nullable=False),
    Column("bytes", Chars, nullable=False),
    Column("tokens", Chars, nullable=False),
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


# Collections in a layout that another system reads. While there is a row here, a document that changes is
# marked.
views = Table(
    "views",
    metadata,
    Column("view_id", Id, primary_key=True),
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
    Column("view_id", Id, ForeignKey("views.view_id"), primary_key=True),
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

# Moves of the vectors from one vector store to another. At most one is under way.
store_moves = Table(
    "store_moves",
    metadata,
    Column("move_id", Id, primary_key=True),
    # The two stores: the ids of their parts, and how they are opened, as JSON without secrets.
    Column("source_part", String(32), nullable=False),
    Column("source", Text, nullable=False),
    Column("target_part", String(32), nullable=False),
    Column("target", Text, nullable=False),
    # `MovePhase`.
    Column("phase", String(16), nullable=False),
    # 1 until it ends, then NULL. Unique, so that one is under way at a time.
    Column("running", Integer, unique=True),
    Column("started_at", Float, nullable=False),
    # When the present phase began.
    Column("changed_at", Float, nullable=False),
    # When the target last became the system's store; NULL if it did not yet, or after the way back.
    Column("switched_at", Float),
    Column("ended_at", Float),
    # The collections up to this id were read back from the other store.
    Column("read_to", Id, nullable=False),
    # What was counted, as JSON.
    Column("findings", Text, nullable=False),
)

# What the other store of a move holds. A row is written before the store is, and outlives its vector.
store_copies = Table(
    "store_copies",
    metadata,
    Column("chunk_id", LargeBinary(16), primary_key=True),
    Column("document_id", String(32), nullable=False, index=True),
    Column("collection_id", Id, nullable=False),
    Column("tenant_id", Text, nullable=False, key="tenant", index=True),
    # `vectors.writes` when it was copied; 0 while it is under way, so that it is copied again after a crash;
    # below 0, see `records.store_moves`.
    Column("writes", Integer, nullable=False),
    # `vectors.described_by` when it was copied.
    Column("described_by", Id, nullable=False),
    # The checksums of what was read back from the other store, and of what the system's store had.
    Column("checksum", LargeBinary(8)),
    Column("system_checksum", LargeBinary(8)),
    Index("ix_store_copies_collection_id_chunk_id", "collection_id", "chunk_id"),
    sqlite_with_rowid=False,
)

# Small facts of the whole system, such as the broker's epoch that the outbox knows (`broker_epoch`).
facts = Table(
    "facts",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", Text, nullable=False),
)

# Which orchestrator is the leader. `beats` grows while it lives; `term` counts changes of the holder.
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
