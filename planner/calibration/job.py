"""The measuring job: what is predicted of a plan, what is measured, and both in one document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from planner.architecture.spec import ModelSpec
from planner.calibration.build import settings_for
from planner.calibration.depth import BuiltDepths, chosen_depths, extended
from planner.calibration.device import Device
from planner.calibration.measure import WARM_UP_STEPS, OutOfMemory, Reporter, Taken, Task, take
from planner.calibration.memory import loaded_bytes
from planner.calibration.steady import RULE, is_steady, median_of
from planner.calibration.training import PHASES
from planner.contract import EstimateRequest
from planner.estimate import sha256_of, spec_of
from planner.evaluation import Evaluation, evaluate
from planner.hardware import Machine, fingerprint_of
from planner.measurement import Compared, Depth, Measurement, Steps, Unit
from planner.verify.coverage import buildable
from planner.verify.timeline import TERMS
from planner.version import ESTIMATOR_VERSION


@dataclass(frozen=True, slots=True)
class Question:
    """A plan to measure here."""

    request: EstimateRequest
    config: Mapping[str, Any]
    machine: Machine
    device_class: str
    device_count: int
    steps: int
    seconds: float
    depth: int | None = None
    seed: int = 0
    processor: Machine | None = None
    """This machine's own, as detected, which may be another than the plan's; None where none could be."""


@dataclass(frozen=True, slots=True)
class Found:
    """The document, and whether memory ran out."""

    measurement: Measurement
    ran_out: OutOfMemory | None = None


def measure(question: Question, device: Device, threads: int, reporter: Reporter, *, ranks: int = 1) -> Found:
    """Measures the plan, or as much of it as memory allows.

    Raises:
        ConfigError, PlanError, NotModelledError, NotMeasurable: the plan can't be run, and why.
    """
    evaluation = evaluate(question.request, _spec(question), question.machine)
    settings = settings_for(evaluation.plan, question.request.run, None)
    depths = chosen_depths(evaluation.plan, settings, question.depth)
    task = Task(
        config=question.config,
        settings=settings,
        device=device,
        steps=question.steps,
        seconds=question.seconds,
        ranks=ranks,
        seed=question.seed,
        imported_bytes=loaded_bytes(buildable(question.config), settings),
    )
    try:
        taken, ran_out = _taken(task, depths, reporter), None
    except OutOfMemory as error:
        taken, ran_out = error.taken, error
    return Found(_document(question, evaluation, depths, taken, ran_out, device, threads), ran_out)


def _spec(question: Question) -> ModelSpec:
    return spec_of(question.config, sha256_of(question.config))


def _taken(task: Task, depths: BuiltDepths, reporter: Reporter) -> Taken:
    """The whole model, or two depths extended to it; each gets half of the time then."""
    if depths.shallow is None:
        return take(task, reporter)
    half = replace(task, seconds=task.seconds / 2)
    shallow = take(replace(half, settings=replace(task.settings, layers_override=depths.shallow)), reporter)
    deep = take(replace(half, settings=replace(task.settings, layers_override=depths.deep)), reporter)
    return extended(shallow, deep, depths)


def _document(
    question: Question,
    evaluation: Evaluation,
    depths: BuiltDepths,
    taken: Taken,
    ran_out: OutOfMemory | None,
    device: Device,
    threads: int,
) -> Measurement:
    time, calibration = evaluation.time, question.machine.calibration
    built = [depths.deep] if depths.shallow is None else [depths.shallow, depths.deep]
    return Measurement(
        request=question.request,
        configuration=_configuration(evaluation),
        model={
            "model_type": evaluation.plan.spec.model_type,
            "parameters": taken.parameters or None,
            "config_sha256": sha256_of(question.config),
        },
        device=_processor_name(question) if device.on_processor else device.name,
        planned_device=_planned_elsewhere(question) if device.on_processor else None,
        device_class=question.device_class,
        device_count=question.device_count,
        threads=threads,
        depth=Depth(layers=depths.whole, built=built, how=depths.how),
        steps=_steps(taken),
        rows=_rows(evaluation, taken, question.device_count),
        phases=_phases(evaluation, taken),
        terms=_terms(evaluation, taken),
        peak_moment=taken.peak_moment,
        basis=None if time is None else time.basis,
        calibration_id=None if calibration is None else calibration.id,
        estimator_version=ESTIMATOR_VERSION,
        out_of_memory=None if ran_out is None else ran_out.phase,
        warnings=list(evaluation.warnings),
    )


def _processor_name(question: Question) -> str:
    return "a processor that could not be named" if question.processor is None else question.processor.device.name


def _planned_elsewhere(question: Question) -> str | None:
    """The plan's device where the processor here is another: any processor takes a job for `cpu`."""
    planned, here = question.machine, question.processor
    is_same = here is not None and fingerprint_of(here) == fingerprint_of(planned)
    return None if is_same else planned.device.name


def _configuration(evaluation: Evaluation) -> dict[str, Any]:
    """The whole run, what was filled in included."""
    plan, rules = evaluation.plan, evaluation.plan.rules
    return {
        "method": rules.method,
        "lora_rank": plan.rank if rules.has_adapters else None,
        "weights_dtype": rules.weights_dtype,
        "compute_dtype": rules.compute_dtype,
        "adapter_dtype": rules.adapter_dtype if rules.has_adapters else None,
        "quantization": rules.scheme,
        "optimizer": plan.optimizer,
        "optimizer_impl": plan.optimizer_impl,
        "optimizer_in_backward": plan.optimizer_in_backward,
        "sequence_length": plan.sequence_length,
        "micro_batch_size": plan.micro_batch_size,
        "gradient_accumulation_steps": plan.gradient_accumulation_steps,
        "activation_checkpointing": rules.checkpointing,
        "checkpoint_every": rules.checkpoint_every,
        "attention": plan.attention,
        "attention_kernel": rules.kernel,
        "loss": rules.loss,
        "objective": rules.objective,
        "data_parallel": plan.data_parallel,
        "zero_stage": plan.zero_stage,
    }


def _steps(taken: Taken) -> Steps | None:
    if not taken.step_seconds:
        return None
    median = median_of(taken.step_seconds)
    return Steps(
        warm_up=WARM_UP_STEPS,
        seconds=taken.step_seconds,
        median=median.middle,
        low=median.low,
        high=median.high,
        steady=is_steady(taken.step_seconds),
        rule=RULE,
    )


def _rows(evaluation: Evaluation, taken: Taken, device_count: int) -> list[Compared]:
    """The step's seconds and rate, and the peaks; the resident peak is above what the imports took."""
    time, ledger, plan = evaluation.time, evaluation.ledger, evaluation.plan
    seconds = median_of(taken.step_seconds).middle if taken.step_seconds else None
    tokens = plan.micro_batch_size * plan.sequence_length * plan.gradient_accumulation_steps * device_count
    rows = [
        _compared("step_seconds", "seconds", None if time is None else time.step_seconds, seconds),
        _compared("tokens_per_second", "tokens/s", None if time is None else time.tokens_per_second,
                  None if seconds is None else tokens / seconds),
        _compared("peak_allocated_bytes", "bytes", ledger.peak_allocated_bytes, taken.allocated_bytes),
        _compared("peak_reserved_bytes", "bytes", ledger.peak_reserved_bytes, taken.reserved_bytes),
        _compared("resident_peak_bytes", "bytes", ledger.peak_reserved_bytes, taken.resident_bytes),
    ]  # fmt: skip
    on_processor = plan.machine.device.kind == "cpu"
    unused = "peak_reserved_bytes" if on_processor else "resident_peak_bytes"
    return [row for row in rows if row.name != unused]


def _phases(evaluation: Evaluation, taken: Taken) -> list[Compared]:
    """Forward, backward and the optimizer step; only a calibration predicts them apart."""
    if not taken.phase_seconds:
        return []
    time = evaluation.time
    return [
        _compared(name, "seconds", None if time is None else time.phases.get(name), taken.phases[name])
        for name in PHASES
    ]


def _terms(evaluation: Evaluation, taken: Taken) -> list[Compared]:
    """Each term at the step's peak; the measured ones are those of the storages that lived then."""
    if not taken.terms:
        return []
    predicted = evaluation.ledger.terms
    held = [term for term in TERMS if predicted.get(term) or taken.terms.get(term)]
    return [_compared(term, "bytes", predicted.get(term, 0), taken.terms.get(term, 0)) for term in held]


def _compared(name: str, unit: Unit, predicted: float | None, measured: float | None) -> Compared:
    return Compared(name=name, unit=unit, predicted=predicted, measured=measured)
