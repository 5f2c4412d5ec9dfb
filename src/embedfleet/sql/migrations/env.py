"""The entry point for Alembic: runs the migrations on the connection of `upgrade`, in its transaction."""

from alembic import context

from embedfleet.sql.schema import SCHEMA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SCHEMA,
    transactional_ddl=False,
    render_as_batch=True,
)
context.run_migrations()
