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
        sa.Column("from_collection", _BIG, nullable=True),
        sa.Column("to_collection", _BIG, nullable=False),
        sa.Column("phase", sa.String(16), nullable=False),
        sa.Column("running", sa.Integer(), nullable=True),
        sa.Column("percent", sa.Float(), nullable=False),
        sa.Column("wanted_percent", sa.Float(), nullable=False),
        sa.Column("sticky_by", sa.String(8), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("trial_of", sa.String(40), nullable=True),
        sa.Column("forced", sa.Boolean(), nullable=False),
        sa.Column("most_jobs", sa.Integer(), nullable=True),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.Column("switched_at", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("divergences", sa.Integer(), nullable=False),
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
    op.create_index("ix_documents_tenant_id_document_id", "documents", ["tenant_id", "document_id"])
    is_live = sa.text("state = 'live'")
    op.create_index(
        "ix_generations_live",
        "generations",
        ["collection_id", "document_id"],
        sqlite_where=is_live,
        postgresql_where=is_live,
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
    _add_experiments()
    _add_impressions()


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


def _add_experiments() -> None:
    op.create_table(
        "experiments",
        sa.Column("experiment_id", sa.String(40), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("collection_a", _BIG, nullable=True),
        sa.Column("collection_b", _BIG, nullable=True),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("phase", sa.String(16), nullable=False),
        sa.Column("running", sa.Integer(), nullable=True),
        sa.Column("keep", sa.Boolean(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("begun_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("experiment_id", name="pk_experiments"),
        sa.UniqueConstraint("tenant_id", "running", name="uq_experiments_tenant_id_running"),
        sa.ForeignKeyConstraint(
            ["collection_a"], ["collections.collection_id"], name="fk_experiments_collection_a_collections"
        ),
        sa.ForeignKeyConstraint(
            ["collection_b"], ["collections.collection_id"], name="fk_experiments_collection_b_collections"
        ),
    )
    op.create_index("ix_experiments_running", "experiments", ["running"])
    op.create_table(
        "experiment_questions",
        *_of_question(),
        sa.Column("document_id", sa.String(32), nullable=True),
        sa.Column("is_title", sa.Boolean(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("impression_id", sa.String(32), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("language", sa.String(16), nullable=False),
        sa.Column("content_type", sa.String(16), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("experiment_id", "place", name="pk_experiment_questions"),
        _of_experiment("experiment_questions"),
    )
    op.create_index("ix_experiment_questions_document_id", "experiment_questions", ["document_id"])
    op.create_index("ix_experiment_questions_impression_id", "experiment_questions", ["impression_id"])
    op.create_table(
        "experiment_answers",
        *_of_question(),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("document_id", sa.String(32), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=True),
        sa.Column("end", sa.BigInteger(), nullable=True),
        sa.Column("gain", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("experiment_id", "place", "number", name="pk_experiment_answers"),
        _of_experiment("experiment_answers"),
    )
    op.create_index("ix_experiment_answers_document_id", "experiment_answers", ["document_id"])
    op.create_table(
        "experiment_hits",
        *_of_question(),
        sa.Column("team", sa.String(1), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("document_id", sa.String(32), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("is_right", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("experiment_id", "place", "team", "rank", name="pk_experiment_hits"),
        _of_experiment("experiment_hits"),
    )
    op.create_index("ix_experiment_hits_document_id", "experiment_hits", ["document_id"])


def _of_question() -> list[sa.Column[object]]:
    return [
        sa.Column("experiment_id", sa.String(40), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
    ]


def _of_experiment(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["experiment_id"], ["experiments.experiment_id"], name=f"fk_{table}_experiment_id_experiments"
    )


def _add_impressions() -> None:
    op.create_table(
        "impressions",
        sa.Column("impression_id", sa.String(32), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("experiment_id", sa.String(40), nullable=True),
        sa.Column("query", sa.Text(), nullable=True),
        sa.Column("teams", sa.Text(), nullable=False),
        sa.Column("clicks", sa.Text(), nullable=False),
        sa.Column("shown_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("impression_id", name="pk_impressions"),
    )
    op.create_index("ix_impressions_experiment_id", "impressions", ["experiment_id"])
    op.create_index("ix_impressions_tenant_shown_at", "impressions", ["tenant_id", "shown_at"])
    op.create_index("ix_impressions_shown_at", "impressions", ["shown_at"])
    op.create_table(
        "impression_hits",
        sa.Column("impression_id", sa.String(32), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("document_id", sa.String(32), nullable=False),
        sa.Column("chunk_id", sa.LargeBinary(16), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("impression_id", "place", name="pk_impression_hits"),
        sa.ForeignKeyConstraint(
            ["impression_id"],
            ["impressions.impression_id"],
            name="fk_impression_hits_impression_id_impressions",
        ),
    )
    op.create_index("ix_impression_hits_document_id", "impression_hits", ["document_id"])
