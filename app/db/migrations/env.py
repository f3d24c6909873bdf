"""What Alembic runs for every command: our tables, on the connection that we were given."""

from __future__ import annotations

from alembic import context

from app.db.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # SQLite cannot change a column: Alembic copies the table instead.
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
