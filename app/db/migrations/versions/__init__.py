"""The tables' versions, in order. Alembic reads this folder."""
