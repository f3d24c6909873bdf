"""Why a measured run is not what was estimated: term by term, and which other plan would explain the figure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from planner.advice import merge_patch
from planner.architecture.spec import ModelSpec
from planner.contract import EstimateRequest
from planner.errors import NotModelledError, PlanError
from planner.evaluation import Evaluation, evaluate
from planner.hardware import Machine
from planner.memory.ledger import Ledger
from planner.observed.reading import Observation
from planner.units import MIB, format_bytes, format_seconds

Term = Literal["allocated", "fragmentation", "outside_allocator", "others", "step_seconds", "tokens_per_second"]
Level = Literal["allocated", "reserved", "process"]
SUSPECTS_SHOWN: Final = 6
EVALUATION_BATCH: Final = 8
"""per_device_eval_batch_size of transformers' TrainingArguments, whatever the training batch is."""
CLOSE: Final = 0.05
"""A figure within this share of the estimate needs no explanation; the allocator's own rounding is of this size."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One term: what was estimated and measured, in bytes (or seconds, or tokens per second), and what that means."""

    term: Term
    label: str
    estimated: float
    measured: float
    at_least: bool
    agrees: bool
    why: str

    @property
    def difference(self) -> float:
        """Measured minus estimated."""
        return self.measured - self.estimated


@dataclass(frozen=True, slots=True)
class Suspect:
    """Another plan under which the estimate would be nearer: a merge patch, what it gives, how far that still is."""

    title: str
    change: dict[str, Any]
    predicted_bytes: int
    remaining_bytes: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """All findings, then the plans that come closest to the measured `level`."""

    observation: Observation
    findings: tuple[Finding, ...]
    level: Level | None
    measured_bytes: int | None
    suspects: tuple[Suspect, ...]
    notes: tuple[str, ...]


def explain(request: EstimateRequest, spec: ModelSpec, machine: Machine, observation: Observation) -> Explanation:
    """Hold what was seen against the estimate.

    Raises:
        PlanError: the request contradicts itself.
        NotModelledError: no formula covers it.
    """
    base = evaluate(request, spec, machine)
    level, measured = _compared(observation)
    suspects = () if level is None or measured is None else tuple(_suspects(request, base, level, measured))
    return Explanation(
        observation=observation,
        findings=tuple(_findings(base, observation)),
        level=level,
        measured_bytes=measured,
        suspects=suspects,
        notes=tuple(_notes(base, observation)),
    )


def _compared(seen: Observation) -> tuple[Level | None, int | None]:
    """The most exact figure that was seen: allocated before reserved before the process's."""
    if seen.allocated is not None:
        return "allocated", seen.allocated + (seen.tried or 0)
    if seen.reserved is not None:
        return "reserved", seen.reserved
    if seen.process is not None:
        return "process", seen.process
    if seen.device_used is not None:
        return "process", seen.device_used - (seen.others or 0)
    return None, None


# -- findings ---------------------------------------------------------------------------------------------------------


def _findings(base: Evaluation, seen: Observation) -> Iterator[Finding]:
    ledger = base.ledger
    if seen.allocated is not None:
        yield _allocated(ledger, seen, seen.allocated)
    if seen.reserved is not None and seen.allocated is not None:
        yield _fragmentation(ledger, seen.reserved - seen.allocated)
    elif seen.reserved is not None:
        yield _whole("reserved", ledger.peak_reserved_bytes, seen.reserved)
    process = seen.process
    if process is None and seen.device_used is not None and seen.reserved is None:
        process = seen.device_used - (seen.others or 0)
    if process is not None and seen.reserved is not None:
        yield _outside(ledger, process - seen.reserved)
    elif process is not None:
        yield _whole("process", ledger.peak_process_bytes, process)
    if seen.others is not None:
        yield _others(base, seen.others)
    yield from _speed(base, seen)


def _agree(estimated: float, measured: float) -> bool:
    return abs(measured - estimated) <= CLOSE * max(estimated, 1.0)


def _allocated(ledger: Ledger, seen: Observation, allocated: int) -> Finding:
    measured, estimated = allocated + (seen.tried or 0), ledger.peak_allocated_bytes
    agrees = _agree(estimated, measured) or (seen.out_of_memory and measured <= estimated)
    if seen.out_of_memory and measured <= estimated:
        why = (
            f"The step had {format_bytes(allocated)} when it asked for {format_bytes(seen.tried or 0)} more, on the "
            f"way to the {format_bytes(estimated)} that were estimated: the failure was to be expected on this device."
        )
    elif agrees:
        why = "The live tensors are as many as estimated."
    elif measured > estimated:
        why = "There were more live tensors than the plan has: one of its settings differs in the run (see below)."
    else:
        why = (
            "There were fewer live tensors than the plan has: batches shorter than the sequence length, no optimizer "
            "step yet (its states exist from the first step on), or another setting (see below)."
        )
    return Finding("allocated", "Allocated (live tensors)", estimated, measured, seen.out_of_memory, agrees, why)


def _fragmentation(ledger: Ledger, measured: int) -> Finding:
    estimated = ledger.peak_reserved_bytes - ledger.peak_allocated_bytes
    share = measured / max(ledger.peak_reserved_bytes, 1)
    agrees = abs(measured - estimated) <= CLOSE * ledger.peak_reserved_bytes
    if agrees:
        why = "The allocator keeps about as much beyond the live tensors as estimated."
    elif measured > estimated:
        why = (
            f"The allocator keeps {share:.0%} more than is alive: blocks of sizes that vary from batch to batch do not "
            "fit each other. PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, or padding to a few fixed lengths, "
            "brings it down. The highest reserved and the highest allocated memory may also be of different moments."
        )
    else:
        why = "The allocator wastes less than estimated: expandable segments, or tensors of equal sizes."
    return Finding("fragmentation", "Fragmentation (reserved less allocated)", estimated, measured, False, agrees, why)


def _outside(ledger: Ledger, measured: int) -> Finding:
    estimated = ledger.peak_process_bytes - ledger.peak_reserved_bytes
    agrees = abs(measured - estimated) <= 256 * MIB
    if agrees:
        why = "The driver's context and the loaded kernels take what was estimated."
    elif measured > estimated:
        why = (
            "Beyond the context that every process has (130 to 500 MiB by card and driver) there are communicators, "
            "cuBLAS or cuDNN workspaces, CUDA graphs, a second library with a pool of its own (vLLM, bitsandbytes' "
            "paged states, CuPy), or a second process."
        )
    else:
        why = "Figures of different moments: the process was looked at when it held less than at its peak."
    return Finding(
        "outside_allocator", "Outside the allocator (process less reserved)", estimated, measured, False, agrees, why
    )


def _whole(level: Level, estimated: int, measured: int) -> Finding:
    agrees = _agree(estimated, measured)
    if agrees:
        why = "As estimated."
    elif measured > estimated:
        why = (
            "It holds what the allocator keeps (fragmentation), the driver's context and every earlier peak too, "
            "evaluation and saving among them: torch.cuda.memory_summary() tells which."
        )
    else:
        why = (
            "It was looked at when the run held less than at its peak, or the run has not reached it: the second "
            "optimizer step is the first with every state. A batch shorter than the sequence length does the same."
        )
    return Finding("allocated", _LEVELS[level], estimated, measured, False, agrees, why)


_LEVELS: Final = {
    "allocated": "Allocated (live tensors)",
    "reserved": "Reserved by PyTorch",
    "process": "Process, as the driver shows it",
}


def _others(base: Evaluation, measured: int) -> Finding:
    estimated = base.plan.machine.in_use_bytes
    agrees = abs(measured - estimated) <= 128 * MIB
    why = (
        "Other processes hold what the plan allows for."
        if agrees
        else "Other processes (a desktop, a notebook that still runs, another job) hold memory that the plan counts as "
        "usable: end them, or plan with less device memory."
        if measured > estimated
        else "Other processes hold less than the plan allows for."
    )
    return Finding("others", "Other processes", estimated, measured, False, agrees, why)


def _speed(base: Evaluation, seen: Observation) -> Iterator[Finding]:
    time = base.time
    if time is None:
        return
    low, high = time.interval
    if seen.seconds_per_step is not None:
        yield _slower(
            "step_seconds", "Seconds per step", time.step_seconds, seen.seconds_per_step,
            agrees=low <= seen.seconds_per_step <= high, slower=seen.seconds_per_step > high,
            span=f"{format_seconds(low)} to {format_seconds(high)}",
        )  # fmt: skip
    if seen.tokens_per_second is not None:
        step_tokens = time.tokens_per_second * time.step_seconds
        slowest, fastest = step_tokens / high, step_tokens / low
        yield _slower(
            "tokens_per_second", "Tokens per second", time.tokens_per_second, seen.tokens_per_second,
            agrees=slowest <= seen.tokens_per_second <= fastest, slower=seen.tokens_per_second < slowest,
            span=f"{slowest:,.0f} to {fastest:,.0f}",
        )  # fmt: skip


def _slower(
    term: Term, label: str, estimated: float, measured: float, *, agrees: bool, slower: bool, span: str
) -> Finding:
    if agrees:
        why = f"Within the estimate's range, {span}."
    elif slower:
        why = (
            f"Slower than the range, {span}: waiting for data, a device that throttles or shares its power, short "
            "batches, logging and saving counted in, memory so full that the allocator frees and asks again, or the "
            "first steps, which compile and choose kernels."
        )
    else:
        why = (
            f"Faster than the range, {span}: torch.compile or fused kernels, padding counted as tokens, shorter "
            "sequences than planned, or a step that is one micro-batch and not all of them."
        )
    return Finding(term, label, estimated, measured, False, agrees, why)


def _notes(base: Evaluation, seen: Observation) -> Iterator[str]:
    if seen.retries:
        yield (
            f"cudaMalloc was retried {seen.retries} times: the device was full, and cached blocks were given back to "
            "go on. The run is at its limit, and slower for it."
        )
    total, planned = seen.device_total, base.plan.machine.memory_total_bytes
    if total is not None and abs(total - planned) > 0.05 * planned:
        yield (
            f"The text is of a device with {format_bytes(total)}, the plan of one with {format_bytes(planned)}: choose "
            "the device that the run was on."
        )
    if base.plan.machine.logical_devices > 1:
        yield "The estimate is for each device; the fullest one of the text was taken."


# -- suspects ---------------------------------------------------------------------------------------------------------


def _suspects(request: EstimateRequest, base: Evaluation, level: Level, measured: int) -> list[Suspect]:
    """The changed plans whose prediction is nearer to what was measured than the plan's own, nearest first."""
    own = abs(measured - _at(base.ledger, level))
    document = request.model_dump(mode="json", exclude_unset=True)
    found = [
        Suspect(title, change, predicted, measured - predicted)
        for title, change, evaluating in _changes(base)
        if (predicted := _predicted(document, base, change, level, evaluating=evaluating)) is not None
        and abs(measured - predicted) < own
    ]
    return sorted(found, key=lambda suspect: abs(suspect.remaining_bytes))[:SUSPECTS_SHOWN]


def _at(ledger: Ledger, level: Level) -> int:
    return {
        "allocated": ledger.peak_allocated_bytes,
        "reserved": ledger.peak_reserved_bytes,
        "process": ledger.peak_process_bytes,
    }[level]


def _predicted(
    document: dict[str, Any], base: Evaluation, change: dict[str, Any], level: Level, *, evaluating: bool
) -> int | None:
    """What the changed plan needs; of an evaluation, its own moment with what lies beyond the live tensors."""
    try:
        changed = EstimateRequest.model_validate(merge_patch(document, change))
        ledger = evaluate(changed, base.plan.spec, base.plan.machine).ledger
    except (PlanError, NotModelledError, ValueError):
        return None
    beyond = _at(ledger, level) - ledger.peak_allocated_bytes
    return ledger.moments["evaluation"] + beyond if evaluating else _at(ledger, level)


Change = tuple[str, dict[str, Any], bool]
"""Title, merge patch, and whether the figure is that of the evaluation's moment."""


def _changes(base: Evaluation) -> Iterator[Change]:
    """Settings that often are not what one believes."""
    for change in (*_sizes(base), *_savers(base), *_methods(base)):
        yield change if len(change) == 3 else (*change, False)


def _sizes(base: Evaluation) -> Iterator[tuple[str, dict[str, Any]] | Change]:
    plan = base.plan
    for factor in (2, 4):
        longer, shorter = plan.sequence_length * factor, max(plan.sequence_length // factor, 1)
        yield f"sequences of {longer:,} tokens", _run(sequence_length=longer)
        yield f"batches of {shorter:,} tokens at most", _run(sequence_length=shorter)
        batch = plan.micro_batch_size * factor
        yield f"a micro-batch of {batch}", _run(micro_batch_size=batch)
    if plan.micro_batch_size < EVALUATION_BATCH:
        change = _run(micro_batch_size=EVALUATION_BATCH)
        yield f"evaluation with a batch of {EVALUATION_BATCH}, the Trainer's default", change, True


def _savers(base: Evaluation) -> Iterator[tuple[str, dict[str, Any]]]:
    rules = base.plan.rules
    if rules.checkpointing == "none":
        yield "checkpointed activations", _run(activation_checkpointing="full")
    else:
        yield "no checkpointing, though it was asked for", _run(activation_checkpointing="none")
    if rules.loss == "full_logits":
        yield "a fused loss that makes no full logits", _run(loss="fused_linear")
    else:
        yield "full logits in the loss", _run(loss="full_logits")
    if rules.kernel != "eager":
        yield "eager attention", _run(attention="eager")


def _methods(base: Evaluation) -> Iterator[tuple[str, dict[str, Any]]]:
    plan, rules = base.plan, base.plan.rules
    if plan.optimizer == "adamw":
        yield "the foreach optimizer", _run(optimizer_impl="foreach")
        yield "8-bit AdamW", _run(optimizer="adamw_8bit", optimizer_impl=None, optimizer_state_dtype=None)
    else:
        yield "plain AdamW", _run(optimizer="adamw", optimizer_impl=None, optimizer_state_dtype=None)
    if rules.method == "qlora":
        yield "a base that was loaded in 16 bit", _run(method="lora")
    if rules.has_adapters:
        yield "every weight trained, no adapters attached", _run(method="full", lora=None, quantization=None)
    elif rules.weights_dtype != "float32":
        yield "weights in float32", _run(weights_dtype="float32", gradient_dtype=None, optimizer_state_dtype=None)


def _run(**changes: Any) -> dict[str, Any]:
    return {"run": changes}
