"""The tables of models over time: switches from one model to another.

The conventions are those of `sql.tables`.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from embedfleet.sql.metadata import Chars, Id, metadata

# Switches of tenants to another model. A tenant has at most one that is under way.
model_switches = Table(
    "model_switches",
    metadata,
    Column("switch_id", Id, primary_key=True),
    # Joins the switches that one command began for several tenants.
    Column("campaign", String(32), nullable=False, index=True),
    Column("tenant_id", Text, nullable=False, key="tenant"),
    # NULL: from the route, which is all other collections of the tenant.
    Column("from_collection", Id, ForeignKey("collections.collection_id")),
    Column("to_collection", Id, ForeignKey("collections.collection_id"), nullable=False),
    # `SwitchPhase`.
    Column("phase", String(16), nullable=False),
    # 1 until it ends, then NULL. Unique with the tenant, so that a tenant has one under way at a time.
    Column("running", Integer),
    # The share of queries that the new space answers, in percent, and the share that it gets after the gate.
    Column("percent", Float, nullable=False),
    Column("wanted_percent", Float, nullable=False),
    # What decides which queries are in the share: `tenant`, or `query` if the campaign has one tenant.
    Column("sticky_by", String(8), nullable=False),
    # Whether no document of before is embedded for now.
    Column("paused", Boolean, nullable=False),
    # The experiment that the new space is filled for; NULL: it is to answer queries.
    Column("trial_of", String(40)),
    # Whether the switch passes a gate that refuses it.
    Column("forced", Boolean, nullable=False),
    # The most documents of before that are embedded at a time; NULL: as the settings say.
    Column("most_jobs", Integer),
    Column("started_at", Float, nullable=False),
    # When the present phase began.
    Column("changed_at", Float, nullable=False),
    # When all queries were first answered from the new space; NULL if they were not, or after a rollback.
    Column("switched_at", Float),
    Column("ended_at", Float),
    # How often, from the gate on, one of the two spaces came to show a version of a document
    # that the other one lacks. Who remembers whether there are such documents looks again when this changes.
    Column("divergences", Integer, nullable=False),
    # What was counted, measured and decided, as JSON.
    Column("findings", Text, nullable=False),
    UniqueConstraint("tenant", "running"),
    Index("ix_model_switches_running", "running"),
    sqlite_autoincrement=True,
)

# The questions of the last gate of a switch that the new space answered worst. Each is a span of a document.
switch_questions = Table(
    "switch_questions",
    metadata,
    Column("switch_id", Id, ForeignKey("model_switches.switch_id"), primary_key=True),
    # Its place among them, from the worst.
    Column("place", Integer, primary_key=True),
    Column("tenant_id", Text, nullable=False, key="tenant"),
    Column("document_id", String(32), nullable=False, index=True),
    # The title of the document, or the heading of a chunk that begins at `start`.
    Column("is_title", Boolean, nullable=False),
    Column("start", Chars, nullable=False),
    # The places of its answer in the old space and in the new one, from 1; NULL: not among the first k.
    Column("old_rank", Integer),
    Column("new_rank", Integer),
    # The share of hits that both spaces have in common.
    Column("overlap", Float, nullable=False),
)
