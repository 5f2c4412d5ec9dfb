"""The tables of the traffic between an application's own path and the fleet, and of shadow runs."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, String, Table, Text

from embedfleet.sql.metadata import Id, metadata

# Which requests go to the fleet: a row a change, with the whole state that holds from then on. The newest
# row holds. Rows are only added.
traffic_changes = Table(
    "traffic_changes",
    metadata,
    Column("change_id", Id, primary_key=True),
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
    Column("difference_id", Id, primary_key=True),
    Column("shadow_id", String(40), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("tenant_id", Text, nullable=False, key="tenant"),
    Column("media_id", Text, nullable=False),
    Column("kind", String(24), nullable=False),
    # Numbers and ids, as JSON. Never text of a document.
    Column("details", Text, nullable=False),
)
