# pyright: basic
"""The first tables: jobs, workers, calibrations, reports."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import app.db.tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "calibration",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("device_class", sa.String(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("created_at", app.db.tables.Instant(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calibration")),
    )
    with op.batch_alter_table("calibration", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_calibration_created_at"), ["created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_calibration_device_class"), ["device_class"], unique=False)
        batch_op.create_index(batch_op.f("ix_calibration_device_id"), ["device_id"], unique=False)

    op.create_table(
        "job",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("phase", sa.String(), nullable=True),
        sa.Column("failure_kind", sa.String(), nullable=True),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("device_class", sa.String(), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("protocol", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.String(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("dispatches", sa.Integer(), nullable=False),
        sa.Column("is_dispatched", sa.Boolean(), nullable=False),
        sa.Column("cancel_requested_at", app.db.tables.Instant(timezone=True), nullable=True),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("request_sha256", sa.String(), nullable=False),
        sa.Column("step_seconds_ratio", sa.Float(), nullable=True),
        sa.Column("peak_bytes_ratio", sa.Float(), nullable=True),
        sa.Column("created_at", app.db.tables.Instant(timezone=True), nullable=False),
        sa.Column("started_at", app.db.tables.Instant(timezone=True), nullable=True),
        sa.Column("finished_at", app.db.tables.Instant(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_job_idempotency_key")),
    )
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_job_created_at"), ["created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_job_device_class"), ["device_class"], unique=False)
        batch_op.create_index(batch_op.f("ix_job_kind"), ["kind"], unique=False)
        batch_op.create_index(batch_op.f("ix_job_queue"), ["queue"], unique=False)
        batch_op.create_index(batch_op.f("ix_job_state"), ["state"], unique=False)
        batch_op.create_index(batch_op.f("ix_job_worker_id"), ["worker_id"], unique=False)

    op.create_table(
        "report",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("notes", sa.String(), nullable=False),
        sa.Column("baseline", sa.Integer(), nullable=False),
        sa.Column("edit_token_sha256", sa.String(), nullable=False),
        sa.Column("summary", sa.JSON(), nullable=False),
        sa.Column("words", sa.String(), nullable=False),
        sa.Column("created_at", app.db.tables.Instant(timezone=True), nullable=False),
        sa.Column("edited_at", app.db.tables.Instant(timezone=True), nullable=True),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_report")),
    )
    with op.batch_alter_table("report", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_report_created_at"), ["created_at"], unique=False)

    op.create_table(
        "report_facet",
        sa.Column("report_id", sa.String(), nullable=False),
        sa.Column("facet", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["report_id"], ["report.id"], name=op.f("fk_report_facet_report_id_report"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("report_id", "facet", "value", name=op.f("pk_report_facet")),
    )
    with op.batch_alter_table("report_facet", schema=None) as batch_op:
        batch_op.create_index("ix_report_facet_facet_value", ["facet", "value"], unique=False)

    op.create_table(
        "worker",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("device_classes", sa.JSON(), nullable=False),
        sa.Column("machine", sa.JSON(), nullable=False),
        sa.Column("stack", sa.JSON(), nullable=False),
        sa.Column("protocol", sa.Integer(), nullable=False),
        sa.Column("started_at", app.db.tables.Instant(timezone=True), nullable=False),
        sa.Column("heartbeat_at", app.db.tables.Instant(timezone=True), nullable=False),
        sa.Column("stopped_at", app.db.tables.Instant(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worker")),
    )
    with op.batch_alter_table("worker", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_worker_heartbeat_at"), ["heartbeat_at"], unique=False)

    op.create_table(
        "job_event",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("at", app.db.tables.Instant(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_job_event_job_id_job"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_job_event")),
    )

    op.create_table(
        "job_phase",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("phase", sa.String(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_job_phase_job_id_job"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "phase", name=op.f("pk_job_phase")),
    )


def downgrade() -> None:
    op.drop_table("job_phase")
    op.drop_table("job_event")
    with op.batch_alter_table("worker", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_worker_heartbeat_at"))

    op.drop_table("worker")
    with op.batch_alter_table("report_facet", schema=None) as batch_op:
        batch_op.drop_index("ix_report_facet_facet_value")

    op.drop_table("report_facet")
    with op.batch_alter_table("report", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_report_created_at"))

    op.drop_table("report")
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_job_worker_id"))
        batch_op.drop_index(batch_op.f("ix_job_state"))
        batch_op.drop_index(batch_op.f("ix_job_queue"))
        batch_op.drop_index(batch_op.f("ix_job_kind"))
        batch_op.drop_index(batch_op.f("ix_job_device_class"))
        batch_op.drop_index(batch_op.f("ix_job_created_at"))

    op.drop_table("job")
    with op.batch_alter_table("calibration", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_calibration_device_id"))
        batch_op.drop_index(batch_op.f("ix_calibration_device_class"))
        batch_op.drop_index(batch_op.f("ix_calibration_created_at"))

    op.drop_table("calibration")
