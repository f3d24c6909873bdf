"""A specification as a new row, with the columns that lists show of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.jobs.spec import PROTOCOL, JobSpec

if TYPE_CHECKING:
    from app.db.tables import Job


def row_of(spec: JobSpec, queue: str, request_sha256: str, key: str | None = None) -> Job:
    """A job that nobody has stored yet."""
    from app.db.jobs import new_id
    from app.db.tables import Job

    return Job(
        id=new_id(), kind=spec.kind, state="queued", title=title_of(spec), spec=spec.model_dump(mode="json"),
        device_class=spec.device_class, device_count=spec.device_count, queue=queue, steps=spec.steps, depth=spec.depth,
        protocol=PROTOCOL, idempotency_key=key, request_sha256=request_sha256,
    )  # fmt: skip


def title_of(spec: JobSpec) -> str:
    """What a job does, in words."""
    if spec.request is None:
        return f"Calibrate {spec.device_class}"
    verb = "Verify" if spec.kind == "verify" else "Measure"
    model = spec.request.model.id or f"pasted {(spec.config or {}).get('model_type', 'model')}"
    return f"{verb} {model}, {spec.request.run.method or 'lora'}"
