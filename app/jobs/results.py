"""What a job's stored result says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from planner.measurement import Measurement

if TYPE_CHECKING:
    from app.db.tables import Job


def measurement_of(job: Job) -> Measurement | None:
    """What a measuring job found, where there is something and we can read it."""
    found = (job.result or {}).get("measurement")
    if found is None:
        return None
    try:
        return Measurement.model_validate(found)
    except ValidationError:
        return None
