"""The tables of experiments, which compare two models, and of the answers that people were shown.

The conventions are those of `sql.tables`. Questions of documents and passages are kept as places in a
document: their text is read when it is needed.
"""

from __future__ import annotations

from sqlalchemy import (
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

from embedfleet.sql.metadata import Chars, Id, metadata

# Comparisons of two models for a tenant, which has at most one under way.
experiments = Table(
    "experiments",
    metadata,
    Column("experiment_id", String(40), primary_key=True),
    Column("tenant_id", Text, nullable=False, key="tenant"),
    # Who decides by it.
    Column("owner", Text, nullable=False),
    # The collections of model A and of model B; NULL: that arm is the tenant's route.
    Column("collection_a", Id, ForeignKey("collections.collection_id")),
    Column("collection_b", Id, ForeignKey("collections.collection_id")),
    # `QuestionSource`.
    Column("source", String(16), nullable=False),
    # `ExperimentPhase`.
    Column("phase", String(16), nullable=False),
    # 1 until it ends, then NULL. Unique with the tenant, so that a tenant has one under way at a time.
    Column("running", Integer),
    # Whether the space of model B is kept after the end.
    Column("keep", Boolean, nullable=False),
    # What is looked for and by which metric, as JSON.
    Column("rule", Text, nullable=False),
    Column("begun_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("ended_at", Float),
    # What was planned, checked, measured and found, as JSON without text of documents.
    Column("findings", Text, nullable=False),
    UniqueConstraint("tenant", "running"),
    Index("ix_experiments_running", "running"),
)

# The questions of experiments, in the order in which they are asked, with what both models answered.
experiment_questions = Table(
    "experiment_questions",
    metadata,
    Column("experiment_id", String(40), ForeignKey("experiments.experiment_id"), primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("tenant_id", Text, nullable=False, key="tenant"),
    # A known item: the title of the document, or the heading of its chunk that begins at `start`.
    Column("document_id", String(32), index=True),
    Column("is_title", Boolean, nullable=False),
    Column("start", Chars, nullable=False),
    # A question of the query log: the answer that was shown to it.
    Column("impression_id", String(32), index=True),
    # A labelled question: its text.
    Column("text", Text),
    Column("language", String(16), nullable=False),
    Column("content_type", String(16), nullable=False),
    # When it was asked; NULL: it was not yet.
    Column("asked_at", Float),
    # Scores, overlap and seconds of both models, as JSON.
    Column("result", Text),
)

# The right answers of these questions: a document, or a span of it.
experiment_answers = Table(
    "experiment_answers",
    metadata,
    Column("experiment_id", String(40), ForeignKey("experiments.experiment_id"), primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("tenant_id", Text, nullable=False, key="tenant"),
    Column("document_id", String(32), nullable=False, index=True),
    Column("start", Chars),
    Column("end", Chars),
    Column("gain", Integer, nullable=False),
)

# The first hits of each model for a question that was asked.
experiment_hits = Table(
    "experiment_hits",
    metadata,
    Column("experiment_id", String(40), ForeignKey("experiments.experiment_id"), primary_key=True),
    Column("place", Integer, primary_key=True),
    # `a` or `b`.
    Column("team", String(1), primary_key=True),
    # From 1, the nearest.
    Column("rank", Integer, primary_key=True),
    Column("tenant_id", Text, nullable=False, key="tenant"),
    Column("document_id", String(32), nullable=False, index=True),
    Column("start", Chars, nullable=False),
    Column("end", Chars, nullable=False),
    Column("is_right", Boolean, nullable=False),
)

# Answers to searches that feedback may be given to: of an online experiment, and of the query log.
impressions = Table(
    "impressions",
    metadata,
    Column("impression_id", String(32), primary_key=True),
    Column("tenant_id", Text, nullable=False, key="tenant"),
    # The experiment whose models both answered; NULL: the answer is of one model.
    Column("experiment_id", String(40), index=True),
    # The text of the search; NULL unless the tenant's searches are logged.
    Column("query", Text),
    # For each place, whose hit it was: `a`, `b` or `-`.
    Column("teams", Text, nullable=False),
    # The places that were clicked, from 0, as JSON.
    Column("clicks", Text, nullable=False),
    Column("shown_at", Float, nullable=False),
    Index("ix_impressions_tenant_shown_at", "tenant", "shown_at"),
    Index("ix_impressions_shown_at", "shown_at"),
)

# The passages of these answers.
impression_hits = Table(
    "impression_hits",
    metadata,
    Column("impression_id", String(32), ForeignKey("impressions.impression_id"), primary_key=True),
    # From 0, the first.
    Column("place", Integer, primary_key=True),
    Column("tenant_id", Text, nullable=False, key="tenant"),
    Column("document_id", String(32), nullable=False, index=True),
    Column("chunk_id", LargeBinary(16), nullable=False),
    Column("start", Chars, nullable=False),
    Column("end", Chars, nullable=False),
)
