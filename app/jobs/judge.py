"""What the end of one run means for its job: the one table of endings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from app.db.changes import Ending
from app.jobs.launch import Outcome
from app.jobs.spec import JobKind, JobResult
from planner.measurement import Measurement

_PUT_BACK: Mapping[str, str] = {
    "interrupted": "its worker was stopped.",
    "unreachable": "its worker could not reach the database.",
}
_OUT_OF_MEMORY = ("oom_device", "oom_host")
PEAKS = ("peak_allocated_bytes", "resident_peak_bytes")


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Another attempt may have an answer; `counts`: this one is among the three that a job may have."""

    reason: str
    counts: bool = True


def judge(outcome: Outcome, kind: JobKind) -> Ending | GiveBack | None:
    """How the job goes on; None when it is somebody else's by now."""
    if outcome.kind in _PUT_BACK:
        return GiveBack(_PUT_BACK[outcome.kind], counts=False)
    if outcome.is_infrastructure:
        return GiveBack(f"{outcome.detail}.")
    if outcome.result is not None:
        return _of_result(outcome, outcome.result, kind)
    if outcome.kind == "out_of_memory":
        result = JobResult(outcome="failed", failure_kind="oom_host", message=f"Out of memory: {outcome.detail}.")
        return _of_result(outcome, result, kind)
    return _without_result(outcome)


def _without_result(outcome: Outcome) -> Ending | None:
    match outcome.kind:
        case "superseded":
            return None
        case "cancelled":
            return _ending(outcome, "cancelled", "Cancelled while it ran.")
        case "timed_out":
            return _ending(outcome, "timed_out", f"It took too long: {outcome.detail}.")
        case _:
            return _ending(outcome, "failed", f"It failed: {outcome.detail}.", "device_error")


def _ending(outcome: Outcome, state: str, message: str, failure_kind: str | None = None) -> Ending:
    return Ending(state, message, failure_kind, phase_seconds=outcome.phase_seconds)


def _of_result(outcome: Outcome, result: JobResult, kind: JobKind) -> Ending | GiveBack:
    """A measuring job that ran out of memory found out something: that it does not fit."""
    found = result.outcome == "succeeded" or (kind == "measure" and result.failure_kind in _OUT_OF_MEMORY)
    if not found and result.failure_kind == "infrastructure":
        return GiveBack(result.message)
    times, peaks = _ratios(result)
    return Ending(
        state="succeeded" if found else "failed",
        message=result.message or ("It is done." if found else "It failed."),
        failure_kind=result.failure_kind,
        result=result.model_dump(mode="json"),
        phase_seconds=outcome.phase_seconds,
        step_seconds_ratio=times,
        peak_bytes_ratio=peaks,
    )


def _ratios(result: JobResult) -> tuple[float | None, float | None]:
    """Predicted over measured: the step's time and the peak; none where the plan is of another device than ran it."""
    if result.measurement is None:
        return None, None
    try:
        found = Measurement.model_validate(result.measurement)
    except ValidationError:  # of a worker that is newer than we are
        return None, None
    if found.planned_device is not None:
        return None, None
    rows = {row.name: row.ratio for row in found.rows}
    return rows.get("step_seconds"), next((rows[name] for name in PEAKS if rows.get(name) is not None), None)
