"""Moving in: which requests go the new way, shadows, what is to be removed from the other way."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _number_rows_once()
    _create_tables_of_traffic()
    _create_tables_of_shadows()
    _create_tables_of_views()


def _number_rows_once() -> None:
    """Have SQLite never give the number of a deleted row again. PostgreSQL never does."""
    if op.get_bind().dialect.name != "sqlite":
        return
    for table in ("collections", "generations", "dead_letters"):
        with op.batch_alter_table(table, recreate="always", table_kwargs={"sqlite_autoincrement": True}):
            pass


def _create_tables_of_traffic() -> None:
    op.create_table(
        "traffic_changes",
        sa.Column("change_id", _BIG, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("change_id", name="pk_traffic_changes"),
    )
    op.create_table(
        "traffic_counts",
        sa.Column("slice_at", sa.BigInteger(), nullable=False),
        sa.Column("process", sa.String(40), nullable=False),
        sa.Column("path", sa.String(16), nullable=False),
        sa.Column("change_id", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("fallbacks", sa.BigInteger(), nullable=False),
        sa.Column("chunks", sa.BigInteger(), nullable=False),
        sa.Column("latencies", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("slice_at", "process", "path", "change_id", name="pk_traffic_counts"),
    )
    op.create_table(
        "traffic_removals",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("media_id", sa.Text(), nullable=False),
        sa.Column("path", sa.String(16), nullable=False),
        sa.Column("requested_at", sa.Float(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("claimed_until", sa.Float(), nullable=True),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("erases", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "media_id", "path", name="pk_traffic_removals"),
    )
    op.create_index("ix_traffic_removals_due_at", "traffic_removals", ["due_at"])


def _create_tables_of_shadows() -> None:
    op.create_table(
        "shadows",
        sa.Column("shadow_id", sa.String(40), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("begun_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("running", sa.Integer(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("verdict", sa.String(16), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("erased_at", sa.Float(), nullable=True),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("shadow_id", name="pk_shadows"),
        sa.UniqueConstraint("running", name="uq_shadows_running"),
    )
    op.create_table(
        "shadow_differences",
        sa.Column("difference_id", _BIG, nullable=False),
        sa.Column("shadow_id", sa.String(40), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("media_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(24), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("difference_id", name="pk_shadow_differences"),
    )
    op.create_index("ix_shadow_differences_shadow_id", "shadow_differences", ["shadow_id"])


def _create_tables_of_views() -> None:
    # The default fills the rows that exist already. All rows written later have a value.
    op.add_column("documents", sa.Column("view_marks", sa.Integer(), nullable=False, server_default="0"))
    marked = sa.text("view_marks > 0")
    op.create_index(
        "ix_documents_view_marks",
        "documents",
        ["document_id"],
        sqlite_where=marked,
        postgresql_where=marked,
    )
    op.create_table(
        "views",
        sa.Column("view_id", _BIG, nullable=False),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("recipe", sa.Text(), nullable=False),
        sa.Column("filled_to", sa.String(32), nullable=True),
        sa.PrimaryKeyConstraint("view_id", name="pk_views"),
        sa.UniqueConstraint("name", name="uq_views_name"),
    )
    op.create_table(
        "view_changes",
        sa.Column("view_id", _BIG, nullable=False),
        sa.Column("document_id", sa.String(32), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("media_id", sa.Text(), nullable=False),
        sa.Column("changes", sa.Integer(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["view_id"], ["views.view_id"], name="fk_view_changes_view_id_views"),
        sa.PrimaryKeyConstraint("view_id", "document_id", name="pk_view_changes"),
    )
    op.create_index("ix_view_changes_view_id_since", "view_changes", ["view_id", "since"])
    op.create_index("ix_view_changes_tenant_id_media_id", "view_changes", ["tenant_id", "media_id"])
