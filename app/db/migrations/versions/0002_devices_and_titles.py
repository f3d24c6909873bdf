# pyright: basic
"""How many devices a job needs and a worker has; what a list of jobs shows of their specifications."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("worker", sa.Column("device_counts", sa.JSON(), server_default="{}", nullable=False))
    op.add_column("job", sa.Column("device_count", sa.Integer(), server_default="1", nullable=False))
    op.add_column("job", sa.Column("title", sa.String(), server_default="", nullable=False))
    op.add_column("job", sa.Column("steps", sa.Integer(), server_default="0", nullable=False))
    op.add_column("job", sa.Column("depth", sa.Integer(), nullable=True))
    _fill()


def _fill() -> None:
    """The new columns of jobs that were stored before, from their specifications."""
    job = sa.table(
        "job",
        sa.column("id"),
        sa.column("kind"),
        sa.column("spec", sa.JSON()),
        *(sa.column(name) for name in ("device_count", "title", "steps", "depth")),
    )
    connection = op.get_bind()
    for row in connection.execute(sa.select(job.c.id, job.c.kind, job.c.spec)).all():
        spec = row.spec
        values = {
            "device_count": spec.get("device_count", 1),
            "steps": spec.get("steps", 0),
            "depth": spec.get("depth"),
        }
        connection.execute(sa.update(job).where(job.c.id == row.id).values(**values, title=_title(row.kind, spec)))


def _title(kind: str, spec: dict) -> str:
    if kind == "calibrate":
        return f"Calibrate {spec.get('device_class', '')}"
    verb = "Verify" if kind == "verify" else "Measure"
    try:
        model, method = spec["request"]["model"]["id"], spec["request"]["run"]["method"]
        return f"{verb} {model or 'pasted ' + str(spec['config'].get('model_type', 'model'))}, {method or 'lora'}"
    except (AttributeError, KeyError, TypeError):
        return f"{verb} a plan"


def downgrade() -> None:
    for name in ("depth", "steps", "title", "device_count"):
        op.drop_column("job", name)
    op.drop_column("worker", "device_counts")
