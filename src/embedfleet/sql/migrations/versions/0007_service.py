"""The service: API keys, limits of tenants, the ledger by model and key, metadata, receipts, an audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("tenants") as tenants:
        tenants.alter_column("tier", existing_type=sa.String(16), nullable=True)
        tenants.add_column(sa.Column("limits", sa.Text(), nullable=True))
    _create_tables_of_keys()
    _create_tables_of_answers()
    op.add_column("generations", sa.Column("metadata", sa.Text(), nullable=True))
    # The default fills the rows that exist already. All rows written later have a value.
    op.add_column("documents", sa.Column("patches", sa.Integer(), nullable=False, server_default="0"))
    _divide_usage()


def _create_tables_of_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("requests_per_minute", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.Column("used_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("prefix", name="pk_api_keys"),
    )
    op.create_index("ix_api_keys_tenant_id", "api_keys", ["tenant_id"])
    big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "audit",
        sa.Column("audit_id", big, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=True),
        sa.Column("details", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("audit_id", name="pk_audit"),
    )
    op.create_index("ix_audit_at", "audit", ["at"])


def _create_tables_of_answers() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("route", sa.String(80), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("response", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "route", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_table(
        "receipts",
        sa.Column("receipt_id", sa.String(40), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("media_id", sa.Text(), nullable=True),
        sa.Column("document_id", sa.String(32), nullable=True),
        sa.Column("requested_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("receipt_id", name="pk_receipts"),
    )
    op.create_index("ix_receipts_tenant_id_requested_at", "receipts", ["tenant_id", "requested_at"])
    unfinished = sa.text("finished_at IS NULL")
    op.create_index(
        "ix_receipts_open",
        "receipts",
        ["requested_at"],
        sqlite_where=unfinished,
        postgresql_where=unfinished,
    )


def _divide_usage() -> None:
    """Give the ledger a row for each model and key. The rows that exist name neither."""
    op.rename_table("usage", "usage_of_days")
    if op.get_bind().dialect.name == "postgresql":
        # A constraint keeps its name when its table is renamed, and the new table needs that name.
        op.execute("ALTER TABLE usage_of_days RENAME CONSTRAINT pk_usage TO pk_usage_of_days")
    op.create_table(
        "usage",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("api_key", sa.String(16), nullable=False),
        sa.Column("chars", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.Column("texts", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "day", "model", "api_key", name="pk_usage"),
    )
    op.execute(
        "INSERT INTO usage (tenant_id, day, model, api_key, chars, bytes, tokens, jobs, texts) "
        "SELECT tenant_id, day, '', '', chars, 0, 0, jobs, 0 FROM usage_of_days"
    )
    op.drop_table("usage_of_days")
