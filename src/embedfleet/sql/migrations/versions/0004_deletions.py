"""How often vectors of a document were deleted: such a deletion may also have removed rows written since."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The default fills the rows that exist already. All rows written later have a value.
    op.add_column("documents", sa.Column("deletions", sa.Integer(), nullable=False, server_default="0"))
