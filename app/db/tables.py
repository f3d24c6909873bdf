"""The tables. What a page filters or sorts by is a column; the rest is a JSON document with a version of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Index, Integer, MetaData, String, TypeDecorator
from sqlmodel import Column, Field, SQLModel

# Constraints need names before a migration can change them.
SQLModel.metadata.naming_convention = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
METADATA: MetaData = SQLModel.metadata


class Instant(TypeDecorator[datetime]):
    """A point in time, aware and in UTC on both sides. SQLite forgets the zone; this puts it back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:  # noqa: ARG002
        if value is not None and value.tzinfo is None:
            raise ValueError("a stored time needs its zone")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def now() -> datetime:
    """This instant."""
    return datetime.now(UTC)


class Job(SQLModel, table=True):
    """One job as its page shows it. The engine's own tables say how far the engine is; this says what is true.

    `attempts` counts how often its process was started, `dispatches` how often it was handed to the engine: what a
    worker writes carries both of them as it knew them, so that one that was given up for dead can change nothing.
    """

    id: str = Field(primary_key=True, description="UUID version 7: sorts by time")
    kind: str = Field(index=True, description="measure, calibrate or verify")
    state: str = Field(index=True)
    phase: str | None = Field(default=None, description="what a running job does: build, warm_up, measure, ...")
    failure_kind: str | None = None
    message: str | None = Field(default=None, description="one sentence for people")
    title: str = Field(
        default="", sa_column=Column(String, nullable=False, server_default=""), description="what it does, in words"
    )
    steps: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    depth: int | None = None
    spec: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False), description="a list does not read it")
    result: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    device_class: str = Field(index=True)
    device_count: int = Field(default=1, sa_column=Column(Integer, nullable=False, server_default="1"))
    queue: str = Field(index=True, description="of the devices, or worker/<id> where one worker was asked for")
    protocol: int
    worker_id: str | None = Field(default=None, index=True)
    attempts: int = 0
    dispatches: int = 1
    is_dispatched: bool = False
    cancel_requested_at: datetime | None = Field(default=None, sa_column=Column(Instant))
    idempotency_key: str | None = Field(default=None, unique=True)
    request_sha256: str
    step_seconds_ratio: float | None = Field(default=None, description="predicted over measured")
    peak_bytes_ratio: float | None = Field(default=None, description="predicted over measured")
    created_at: datetime = Field(default_factory=now, sa_column=Column(Instant, nullable=False, index=True))
    started_at: datetime | None = Field(default=None, sa_column=Column(Instant))
    finished_at: datetime | None = Field(default=None, sa_column=Column(Instant))


class JobEvent(SQLModel, table=True):
    """What a job said, in order: a page that was cut off asks for what came after the last number it saw."""

    __tablename__ = "job_event"  # pyright: ignore[reportAssignmentType]

    job_id: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    number: int = Field(primary_key=True)
    event: str
    data: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    at: datetime = Field(default_factory=now, sa_column=Column(Instant, nullable=False))


class JobPhase(SQLModel, table=True):
    """How long each phase of a finished job took, for the metrics."""

    __tablename__ = "job_phase"  # pyright: ignore[reportAssignmentType]

    job_id: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    phase: str = Field(primary_key=True)
    seconds: float


class Worker(SQLModel, table=True):
    """A process that runs jobs on one machine's hardware."""

    id: str = Field(primary_key=True)
    name: str
    device_classes: list[str] = Field(sa_column=Column(JSON, nullable=False))
    device_counts: dict[str, int] = Field(
        default_factory=dict[str, int], sa_column=Column(JSON, nullable=False, server_default="{}"),
        description="how many devices of each class one job can have",
    )  # fmt: skip
    machine: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False), description="what pages say of it")
    stack: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False), description="versions of its libraries")
    protocol: int
    started_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    heartbeat_at: datetime = Field(sa_column=Column(Instant, nullable=False, index=True))
    stopped_at: datetime | None = Field(default=None, sa_column=Column(Instant))


class Calibration(SQLModel, table=True):
    """What a calibrating job fitted: never changed, never mixed with another."""

    id: str = Field(primary_key=True)
    device_class: str = Field(index=True)
    device_id: str = Field(index=True)
    document: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    created_at: datetime = Field(default_factory=now, sa_column=Column(Instant, nullable=False, index=True))


class Report(SQLModel, table=True):
    """A saved comparison. Plans and answers stay as they were; title and notes may change."""

    id: str = Field(primary_key=True, description="128 random bits")
    title: str
    notes: str
    baseline: int
    edit_token_sha256: str
    summary: list[dict[str, str]] = Field(sa_column=Column(JSON, nullable=False), description="a line for each plan")
    words: str = Field(description="for search: title, notes and summary, casefolded")
    created_at: datetime = Field(default_factory=now, sa_column=Column(Instant, nullable=False, index=True))
    edited_at: datetime | None = Field(default=None, sa_column=Column(Instant))
    # The last column: SQLite reads a row from its beginning, and a list needs all but this.
    document: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False), description="requests and answers")


class ReportFacet(SQLModel, table=True):
    """What a list of reports can be narrowed by: the model, the device, ... of one of its plans."""

    __tablename__ = "report_facet"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (Index("ix_report_facet_facet_value", "facet", "value"),)

    report_id: str = Field(primary_key=True, foreign_key="report.id", ondelete="CASCADE")
    facet: str = Field(primary_key=True, description="model, device, method, verdict or tier")
    value: str = Field(primary_key=True)
