"""Orchestrators: which of them run, which one leads, and the broker epoch that the outbox knows."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "facts",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_facts")),
    )
    op.create_table(
        "leadership",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=True),
        sa.Column("term", sa.Integer(), nullable=False),
        sa.Column("beats", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leadership")),
    )
    op.execute("INSERT INTO leadership (name, holder, term, beats) VALUES ('leader', NULL, 0, 0)")
    op.create_table(
        "orchestrators",
        sa.Column("orchestrator_id", sa.String(length=64), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("pools", sa.Text(), nullable=False),
        sa.Column("wanted", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("orchestrator_id", name=op.f("pk_orchestrators")),
    )
