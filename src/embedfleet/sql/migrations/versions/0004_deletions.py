"""How often vectors of a document were deleted: what was written meanwhile may be gone again."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Filled by the default, as rows are there already; no later row relies on it.
    op.add_column("documents", sa.Column("deletions", sa.Integer(), nullable=False, server_default="0"))
