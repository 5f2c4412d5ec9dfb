"""Models over time: switches of tenants to another model, routing by content, scores of several spaces."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("tenants", sa.Column("model", sa.Text(), nullable=True))
    _add_routing()
    op.add_column("jobs", sa.Column("switch_id", _BIG, nullable=True))
    op.add_column("jobs", sa.Column("flow", sa.String(40), nullable=True))
    op.create_table(
        "model_switches",
        sa.Column("switch_id", _BIG, nullable=False),
        sa.Column("campaign", sa.String(32), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("from_collection", _BIG, nullable=False),
        sa.Column("to_collection", _BIG, nullable=False),
        sa.Column("phase", sa.String(16), nullable=False),
        sa.Column("running", sa.Integer(), nullable=True),
        sa.Column("percent", sa.Float(), nullable=False),
        sa.Column("wanted_percent", sa.Float(), nullable=False),
        sa.Column("sticky_by", sa.String(8), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("forced", sa.Boolean(), nullable=False),
        sa.Column("most_jobs", sa.Integer(), nullable=True),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.Column("switched_at", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("switch_id", name="pk_model_switches"),
        sa.UniqueConstraint("tenant_id", "running", name="uq_model_switches_tenant_id_running"),
        sa.ForeignKeyConstraint(
            ["from_collection"],
            ["collections.collection_id"],
            name="fk_model_switches_from_collection_collections",
        ),
        sa.ForeignKeyConstraint(
            ["to_collection"],
            ["collections.collection_id"],
            name="fk_model_switches_to_collection_collections",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_model_switches_campaign", "model_switches", ["campaign"])
    op.create_index("ix_model_switches_running", "model_switches", ["running"])
    op.create_table(
        "switch_questions",
        sa.Column("switch_id", _BIG, nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("document_id", sa.String(32), nullable=False),
        sa.Column("is_title", sa.Boolean(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("old_rank", sa.Integer(), nullable=True),
        sa.Column("new_rank", sa.Integer(), nullable=True),
        sa.Column("overlap", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("switch_id", "place", name="pk_switch_questions"),
        sa.ForeignKeyConstraint(
            ["switch_id"], ["model_switches.switch_id"], name="fk_switch_questions_switch_id_model_switches"
        ),
    )
    op.create_index("ix_switch_questions_document_id", "switch_questions", ["document_id"])


def _add_routing() -> None:
    op.add_column("tenants", sa.Column("rules", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("route", sa.Text(), nullable=True))
    op.create_table(
        "score_backgrounds",
        sa.Column("collection_id", _BIG, nullable=False),
        sa.Column("background", sa.Text(), nullable=False),
        sa.Column("documents", sa.BigInteger(), nullable=False),
        sa.Column("made_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.collection_id"],
            name="fk_score_backgrounds_collection_id_collections",
        ),
        sa.PrimaryKeyConstraint("collection_id", name="pk_score_backgrounds"),
    )
