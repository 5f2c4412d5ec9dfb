"""A collection is known by its tenant and space. What the vector store calls it is the store's own affair."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite cannot drop a column with a UNIQUE constraint: there, the table is copied into a new one.
    with op.batch_alter_table("collections") as batch:
        batch.drop_constraint(op.f("uq_collections_name"), type_="unique")
        batch.drop_column("name")
        batch.create_unique_constraint(op.f("uq_collections_tenant_id_space"), ["tenant_id", "space"])
        # The index of the new constraint begins with tenant_id and serves the same look-ups.
        batch.drop_index(op.f("ix_collections_tenant_id"))
