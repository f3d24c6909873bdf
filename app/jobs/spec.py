"""What passes between the engine of jobs and the process that runs one: a closed document in, events, a result out.

The engine writes `spec.json`, starts `python -m app.jobs.runner spec.json OUT_DIRECTORY`, reads events from its
standard output, one JSON object a line, and takes `OUT_DIRECTORY/result.json`, which appears whole or not at all. The
runner takes no lock and knows no database; the engine knows no torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from planner.contract import EstimateRequest

PROTOCOL: Final = 2
"""Rises when a worker of the version before could not run a job of this one. A worker takes its own protocol only."""

MAXIMUM_DEVICES: Final = 64
"""Of one job, all on one worker."""

RESULT_NAME: Final = "result.json"

JobKind = Literal["measure", "calibrate", "verify"]
JobState = Literal[
    "queued", "waiting_for_hardware", "starting", "running", "succeeded", "failed", "cancelled", "timed_out", "lost"
]
FailureKind = Literal["oom_device", "oom_host", "device_error", "model_unavailable", "invalid_spec", "infrastructure"]
"""Of these only `infrastructure` is tried again. In a measuring job both `oom` kinds are results, not faults."""
Phase = Literal[
    "import", "build", "warm_up", "measure", "calibrate", "fit", "trace", "compare", "write"
]  # fmt: skip

FINAL_STATES: Final = frozenset({"succeeded", "failed", "cancelled", "timed_out", "lost"})


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True, extra="forbid")


class JobSpec(_Document):
    """One job, complete: nothing is looked up while it runs."""

    schema_version: Literal[1] = 1
    kind: JobKind
    request: EstimateRequest | None = Field(
        default=None, description="the plan to measure or to verify; none to calibrate"
    )
    config: dict[str, Any] | None = Field(default=None, description="the model's config.json, looked up on submission")
    machine: dict[str, Any] | None = Field(
        default=None, description="the machine that the prediction is of, as JSON; none: the one that runs the job"
    )
    steps: int = Field(default=10, ge=1, le=1000, description="most steps to measure")
    depth: int | None = Field(default=None, ge=1, description="layers to build where the whole model would not fit")
    device_class: str = Field(description="which kind of device: cpu, cuda/<catalogue id>, rocm/..., xpu/..., mps/...")
    device_id: str = Field(description="the catalogue's id of the device, or this-machine")
    device_count: int = Field(default=1, ge=1, le=MAXIMUM_DEVICES)
    threads: int | None = Field(default=None, ge=1, description="CPU threads for each rank; none: one for each core")
    deadline_seconds: float = Field(default=600, gt=0, le=86400)
    memory_cap_bytes: int | None = Field(default=None, gt=0, description="of the whole process; none: no cap")
    seed: int = 0
    advice: bool = Field(default=True, description="of a verify job: whether its answer holds advice")


class PhaseEvent(_Document):
    """The job goes over to another phase."""

    event: Literal["phase"] = "phase"
    phase: Phase
    message: str = ""


class SampleEvent(_Document):
    """One measured step, or one measured point of a calibration."""

    event: Literal["sample"] = "sample"
    step: int
    of: int
    seconds: float
    tokens_per_second: float | None = None
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    label: str = ""


class LogEvent(_Document):
    """A line for people."""

    event: Literal["log"] = "log"
    message: str


JobEventDocument = Annotated[PhaseEvent | SampleEvent | LogEvent, Field(discriminator="event")]


class JobResult(_Document):
    """How a job ended, and what it found."""

    schema_version: Literal[1] = 1
    outcome: Literal["succeeded", "failed"]
    failure_kind: FailureKind | None = None
    message: str = Field(default="", description="one sentence for people")
    measurement: dict[str, Any] | None = Field(
        default=None, description="of a measure job: planner.calibration's document"
    )
    calibration: dict[str, Any] | None = Field(
        default=None, description="of a calibrate job: planner.calibration's document"
    )
    verification: dict[str, Any] | None = Field(default=None, description="of a verify job: the verified answer")
    stack: dict[str, Any] = Field(default_factory=dict, description="versions of what ran, device, driver, date")
