"""Moves of the vectors to another store, and what the other store holds."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "store_moves",
        sa.Column("move_id", _BIG, nullable=False),
        sa.Column("source_part", sa.String(32), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("target_part", sa.String(32), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("phase", sa.String(16), nullable=False),
        sa.Column("running", sa.Integer(), nullable=True),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.Column("switched_at", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("read_to", _BIG, nullable=False),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("move_id", name="pk_store_moves"),
        sa.UniqueConstraint("running", name="uq_store_moves_running"),
    )
    op.create_table(
        "store_copies",
        sa.Column("chunk_id", sa.LargeBinary(16), nullable=False),
        sa.Column("document_id", sa.String(32), nullable=False),
        sa.Column("collection_id", _BIG, nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("writes", sa.Integer(), nullable=False),
        sa.Column("described_by", _BIG, nullable=False),
        sa.Column("checksum", sa.LargeBinary(8), nullable=True),
        sa.Column("system_checksum", sa.LargeBinary(8), nullable=True),
        sa.PrimaryKeyConstraint("chunk_id", name="pk_store_copies"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_store_copies_document_id", "store_copies", ["document_id"])
    op.create_index("ix_store_copies_tenant_id", "store_copies", ["tenant_id"])
    op.create_index("ix_store_copies_collection_id_chunk_id", "store_copies", ["collection_id", "chunk_id"])
