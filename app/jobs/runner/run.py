"""From a specification to a result: the job's kind decides who works, and every ending has its document."""

from __future__ import annotations

import json
import os
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

from app.jobs.devices import device_class
from app.jobs.runner.confine import cap_data
from app.jobs.runner.events import Events
from app.jobs.runner.ranks import Rank, run_ranks
from app.jobs.spec import RESULT_NAME, FailureKind, JobResult, JobSpec
from planner.architecture.config import ConfigError
from planner.errors import NotModelledError, PlanError
from planner.hardware import THIS_MACHINE, Machine, MachineError, UnknownDevice, fingerprint_of, resolve_machine


class JobFailed(Exception):
    """The job ends without a finding; `kind` says in which way."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        self.kind: FailureKind = kind
        super().__init__(message)


def run(spec_file: Path, directory: Path) -> int:
    """Run the job; the exit status is 0 once there is a result."""
    rank = Rank.of_environment()
    events = Events(silent=rank.number > 0)
    events.phase("import")
    try:
        spec = JobSpec.model_validate_json(spec_file.read_bytes())
    except (OSError, ValidationError) as error:
        return _write(directory, _failed("invalid_spec", f"{spec_file.name}: {error}"))
    if spec.device_count > 1 and not rank.is_started:
        return run_ranks(spec_file, directory, spec.device_count)
    try:
        result = _work(spec, rank, events)
    except JobFailed as error:
        result = _failed(error.kind, str(error))
    except Exception as error:
        traceback.print_exc()
        result = _failed("device_error", f"{type(error).__name__}: {error}"[:500])
    if rank.number > 0 and result.outcome == "succeeded":
        return 0
    events.phase("write")
    return _write(directory, result)


def _failed(kind: FailureKind, message: str) -> JobResult:
    return JobResult(outcome="failed", failure_kind=kind, message=message)


def _work(spec: JobSpec, rank: Rank, events: Events) -> JobResult:
    """Load the libraries and do what the job's kind asks for."""
    if spec.kind == "verify":
        return _verify(spec, events)
    try:
        from planner.calibration.device import Device, DeviceMissing
        from planner.calibration.stack import stack_of
    except ImportError as error:
        raise JobFailed("device_error", f"this worker can't import what training needs: {error}") from error

    threads = _set_threads(spec)
    if spec.memory_cap_bytes is not None and spec.device_class.startswith("cpu"):
        cap_data(spec.memory_cap_bytes // spec.device_count)
    try:
        device = Device(spec.device_class, rank.local)
    except DeviceMissing as error:
        raise JobFailed("device_error", str(error)) from error
    stack = stack_of(device) | {"date": datetime.now(UTC).isoformat()}
    if spec.kind == "calibrate":
        result = _calibrate(spec, device, threads, events, stack)
    else:
        with rank.joined(device.type):
            result = _measure(spec, device, threads, events)
    return result.model_copy(update={"stack": stack})


def _set_threads(spec: JobSpec) -> int:
    """Threads of this rank: as asked, or its share of the cores."""
    from planner.calibration.threads import use_threads

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return use_threads(spec.threads or max(1, cores // spec.device_count))


def _measure(spec: JobSpec, device: Any, threads: int, events: Events) -> JobResult:
    from planner.calibration.build import NotMeasurable
    from planner.calibration.job import Question, measure

    if spec.request is None or spec.config is None:
        raise JobFailed("invalid_spec", "a measuring job needs a request and its model's configuration")
    try:
        question = Question(
            request=spec.request,
            config=spec.config,
            machine=_machine(spec),
            device_class=spec.device_class,
            device_count=spec.device_count,
            steps=spec.steps,
            seconds=spec.deadline_seconds,
            depth=spec.depth,
            seed=spec.seed,
            processor=_own_processor() if device.on_processor else None,
        )
        found = measure(question, device, threads, events, ranks=spec.device_count)
    except (ConfigError, PlanError, NotModelledError, NotMeasurable, MachineError, UnknownDevice) as error:
        raise JobFailed("invalid_spec", str(error)) from error
    if found.ran_out is None:
        return JobResult(outcome="succeeded", measurement=found.measurement.model_dump(mode="json"))
    whose = "the device's" if found.ran_out.kind == "oom_device" else "the host's"
    return JobResult(
        outcome="failed",
        failure_kind=found.ran_out.kind,
        message=f"{whose} memory ran out during {found.ran_out.phase}: {found.ran_out}",
        measurement=found.measurement.model_dump(mode="json"),
    )


def _calibrate(spec: JobSpec, device: Any, threads: int, events: Events, stack: dict[str, Any]) -> JobResult:
    from planner.calibration.calibrate import Identity, calibrate

    machine = _own_machine(spec)
    identity = Identity(
        id=str(uuid4()),
        created_at=stack["date"],
        device_id=spec.device_id,
        device_class=spec.device_class,
        fingerprint=fingerprint_of(machine),
        threads=threads if device.on_processor else None,
        stack=stack,
    )
    events.phase("calibrate")
    found = calibrate(identity, machine, device, events)
    return JobResult(outcome="succeeded", calibration=found.model_dump(mode="json"))


def _verify(spec: JobSpec, events: Events) -> JobResult:
    """What the fork server's child does, in a process that has minutes instead of seconds."""
    try:
        from app.jobs.verification import work
    except ImportError as error:
        raise JobFailed("device_error", f"this worker can't import what a verification needs: {error}") from error

    if spec.memory_cap_bytes is not None:
        cap_data(spec.memory_cap_bytes)
    try:
        answer = json.loads(work(spec.model_dump(mode="json"), events.phase))
    except MemoryError as error:
        raise JobFailed("oom_host", "the verification reached its memory cap") from error
    return JobResult(outcome="succeeded", message=answer["summary"], verification=answer)


def _own_processor() -> Machine | None:
    """This machine's processor as it is detected."""
    from app.detect import detect, to_machines

    return next((machine for machine in to_machines(detect()) if machine.device.kind == "cpu"), None)


def _own_machine(spec: JobSpec) -> Machine:
    """What of this machine is calibrated: the device of the job's class, as it is detected."""
    from app.detect import detect, to_machines

    is_processor = spec.device_class.startswith("cpu")
    for machine in to_machines(detect()):
        if is_processor if machine.device.kind == "cpu" else device_class(machine.device) == spec.device_class:
            return machine
    raise JobFailed("device_error", f"this machine has no {spec.device_class} that can be detected")


def _machine(spec: JobSpec) -> Machine:
    """The machine that the prediction is of: the specification's, or this one as it is seen now."""
    assert spec.request is not None
    if spec.machine is not None:
        return TypeAdapter(Machine).validate_python(spec.machine)
    from app.detect import detect, to_machine

    detected = to_machine(detect()) if spec.request.machine.device == THIS_MACHINE else None
    return resolve_machine(spec.request.machine, detected)


def _write(directory: Path, result: JobResult) -> int:
    """Write the result as a whole or not at all: half of one would keep a full disk full."""
    directory.mkdir(parents=True, exist_ok=True)
    unfinished = directory / f"{RESULT_NAME}.{os.getpid()}"
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(result.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(directory / RESULT_NAME)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    return 0
