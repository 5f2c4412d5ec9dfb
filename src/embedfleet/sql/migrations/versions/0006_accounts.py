"""What of a document's source is not in its text, its title, and of each chunk its context and its place."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("generations", sa.Column("title", sa.Text(), nullable=True))
    op.add_column("generations", sa.Column("account", sa.Text(), nullable=True))
    # The default fills the rows that exist already. All rows written later have a value.
    op.add_column("generations", sa.Column("strict", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("segments", sa.Column("places", sa.LargeBinary(), nullable=True))
    op.add_column("chunks", sa.Column("unknown", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("chunks", sa.Column("context", sa.Text(), nullable=False, server_default=""))
    op.add_column("chunks", sa.Column("page", sa.Integer(), nullable=True))
    op.add_column("chunks", sa.Column("start_seconds", sa.Float(), nullable=True))
    op.add_column("chunks", sa.Column("end_seconds", sa.Float(), nullable=True))
    op.add_column("events", sa.Column("account", sa.Text(), nullable=True))
