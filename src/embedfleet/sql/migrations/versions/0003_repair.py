"""Events, the embedding cache, checksums, deaths, and how dead letters ended."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _partial_index("ix_jobs_unfinished_by_id", "jobs", ["job_id"], "finished_at IS NULL")
    op.add_column("vectors", sa.Column("checksum", sa.LargeBinary(length=8), nullable=True))
    _create_embeddings()
    _extend_dead_letters()
    _create_deaths()
    _create_events()


def _create_embeddings() -> None:
    op.create_table(
        "embeddings",
        sa.Column("collection_id", _Id, nullable=False),
        sa.Column("content_hash", sa.LargeBinary(length=16), nullable=False),
        sa.Column("document_id", sa.String(length=32), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("used_on", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.collection_id"],
            name=op.f("fk_embeddings_collection_id"),
        ),
        sa.PrimaryKeyConstraint("collection_id", "content_hash", name=op.f("pk_embeddings")),
    )
    op.create_index(op.f("ix_embeddings_document_id"), "embeddings", ["document_id"])
    op.create_index("ix_embeddings_collection_id_used_on", "embeddings", ["collection_id", "used_on"])


def _extend_dead_letters() -> None:
    # The default fills the rows that exist already. All rows written later have a value.
    op.add_column("dead_letters", sa.Column("run", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("dead_letters", sa.Column("ended", sa.String(length=16), nullable=True))
    op.add_column("dead_letters", sa.Column("ended_at", sa.Float(), nullable=True))
    op.create_index("uq_dead_letters_chunk", "dead_letters", ["job_id", "run", "chunk_index"], unique=True)
    _partial_index("ix_dead_letters_open", "dead_letters", ["created_at"], "ended IS NULL")


def _create_deaths() -> None:
    op.create_table(
        "deaths",
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("task_id", sa.String(length=80), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("stage", "task_id", name=op.f("pk_deaths")),
    )
    op.create_index(op.f("ix_deaths_job_id"), "deaths", ["job_id"])


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("event_id", sa.String(length=56), nullable=False),
        sa.Column("position", _Id, nullable=True),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("media_id", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=24), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("chunks_stored", sa.Integer(), nullable=False),
        sa.Column("chunks_dead", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("delivered_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_events")),
        sa.UniqueConstraint("position", name=op.f("uq_events_position")),
    )
    op.create_index("ix_events_tenant_id_position", "events", ["tenant_id", "position"])
    _partial_index("ix_events_outbox", "events", ["created_at"], "position IS NULL")
    _partial_index("ix_events_undelivered", "events", ["position"], "delivered_at IS NULL")


def _partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)
