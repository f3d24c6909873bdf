"""The verified tier: the estimate of a request, held against the library's own code on the same request.

Only a process of `app.jobs` imports this module: it loads torch and transformers.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, Literal, Protocol

from torch import nn

from planner.architecture import count
from planner.architecture.spec import ModelSpec
from planner.contract import Answer, Difference, EstimateRequest, Evidence
from planner.estimate import answer_of, estimate, spec_of
from planner.evaluation import Evaluation, evaluate, weigh
from planner.hardware import Machine
from planner.memory.ledger import Ledger
from planner.units import format_bytes
from planner.verify.coverage import PROXIES, NotVerifiable, buildable, has_two_stacks, settings_for
from planner.verify.depth import MOST_LAYERS_TRACED_WHOLE, Depths, depths
from planner.verify.extend import ExtendedTrace, MomentPeak, extend
from planner.verify.parameters import Built, built_parameters
from planner.verify.replayed import Events, Replayed, events_of
from planner.verify.settings import TraceSettings
from planner.verify.stream import NotExtendable, Stream, extended_stream, whole_stream
from planner.verify.timeline import TERMS, Trace
from planner.verify.trace import trace_step

AGREEMENT: Final = 0.01
"""Share of the traced peak up to which the estimate's number stands."""
MOST_LAYERS_COUNTED: Final = 512
"""Layers of which the class is built whole to be counted; a layer takes about 5 ms."""
PEAK: Final = "peak_allocated"
ROUNDING_BYTES: Final = 2**16
"""The curve extends the rounded bytes of clipping's stack of norms, the events its shape: 4 bytes a gradient."""


class Tell(Protocol):
    """Hears which part of a verification begins, and with what."""

    def __call__(self, name: Literal["build", "trace", "compare"], message: str = "") -> None:
        """A part begins."""
        ...


def tell_nobody(name: str, message: str = "") -> None:
    """For whoever waits in silence."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What the library's code says: its class and parameters, and the step's moments at the real depth."""

    built: Built | None
    traced: ExtendedTrace
    depths: Depths
    events: Events


def verify(
    request: EstimateRequest,
    *,
    config: Mapping[str, Any],
    machine: Machine,
    advice: bool = True,
    tell: Tell = tell_nobody,
) -> Answer:
    """The estimate's answer with the evidence of a trace, or with the reason why there is none.

    Raises:
        ConfigError, PlanError: as `estimate` does.
        MemoryError: the process's cap is too low for this model.
    """
    estimated = estimate(request, config=config, machine=machine, advice=advice)
    if estimated.memory is None:
        return estimated
    try:
        evaluation = evaluate(request, spec_of(config, estimated.model_sha256), machine)
        found = findings(evaluation, request, config, tell)
        tell("compare")
        return verified(estimated, evaluation, found)
    except NotVerifiable as error:
        return estimated.model_copy(update={"reasons": [*estimated.reasons, error.reason]})


def findings(
    evaluation: Evaluation, request: EstimateRequest, config: Mapping[str, Any], tell: Tell = tell_nobody
) -> Findings:
    """Builds and traces.

    Raises:
        NotVerifiable: the tracer doesn't cover the plan, or the library can't build or run the model.
    """
    plan = evaluation.plan
    settings, usable = settings_for(plan, request.run), buildable(config)
    chosen = chosen_depths(plan.spec, settings)
    if chosen is None:
        what = f"its {plan.spec.text.layer_count} layers follow no pattern and are too many to trace one by one"
        raise NotVerifiable("model.config", what)
    few = plan.spec.text.layer_count <= MOST_LAYERS_COUNTED and settings.objective == "causal_lm"
    try:
        tell("build")
        built = built_parameters(usable) if few else None
        step, stream = traced(usable, settings, chosen, plan.spec.text.layer_count, tell)
        return Findings(built, step, chosen, events_of(stream, plan))
    except (NotVerifiable, MemoryError):
        raise
    except Exception as error:
        raise NotVerifiable("model", f"the library's code can't be traced: {place_and_message(error)}") from error


def chosen_depths(spec: ModelSpec, settings: TraceSettings) -> Depths | None:
    """The depths to trace for this model and run; None when there are too many layers.

    Two stacks that grow at once would not be one affine curve, so that an encoder and a decoder are traced whole.
    """
    if has_two_stacks(spec):
        layers = sum(stack.layer_count for stack in spec.stacks)
        return Depths(spec.text.layer_count, None) if layers <= MOST_LAYERS_TRACED_WHOLE else None
    return depths(
        layer_numbers(spec),
        trained_from_the_end=settings.trainable_layers if settings.method == "freeze" else 0,
        checkpoint_every=settings.checkpoint_every if settings.activation_checkpointing != "none" else 1,
    )


def layer_numbers(spec: ModelSpec) -> list[int]:
    """A number for each layer of the text stack, the same for equal layers."""
    kinds = {run.layer: None for run in spec.text.runs}
    numbers = {layer: number for number, layer in enumerate(kinds)}
    return [numbers[run.layer] for run in spec.text.runs for _ in range(run.count)]


def traced(
    config: dict[str, Any], settings: TraceSettings, chosen: Depths, layers: int, tell: Tell = tell_nobody
) -> tuple[ExtendedTrace, Stream | NotExtendable]:
    """The step at the real depth, and its births and deaths where they can be continued to there."""
    tell("trace", f"{chosen.shallow} of {layers} layers")
    shallow = trace_at(config, settings, chosen.shallow, cut=chosen.deep is not None)
    if chosen.deep is None:
        return whole(shallow), whole_stream(shallow)
    tell("trace", f"{chosen.deep} of {layers} layers")
    deep = trace_at(config, settings, chosen.deep)
    step = extend(shallow, deep, layers)
    try:
        stream = extended_stream(shallow, deep, layers)
    except NotExtendable as error:
        return step, error
    if not same_peaks(stream.moment_peaks(), step.moments):
        return step, NotExtendable("its peaks are not those of the curve")
    return step, stream


def same_peaks(of_events: dict[str, int], of_curve: dict[str, int]) -> bool:
    """Whether two ways to the real depth meet, but for the rounding of the few storages that grow with the depth."""
    same = of_events.keys() == of_curve.keys()
    return same and all(abs(size - of_curve[moment]) <= ROUNDING_BYTES for moment, size in of_events.items())


def trace_at(config: dict[str, Any], settings: TraceSettings, layers: int, *, cut: bool = True) -> Trace:
    """One trace of the model cut to some layers, or of all of it; its garbage goes before the next is made.

    Raises:
        NotVerifiable: the class makes another number of blocks than the closed form counts.
    """
    trace = trace_step(config, replace(settings, layers_override=layers) if cut else settings)
    gc.collect()
    if trace.layers != layers:
        raise NotVerifiable("model.config", f"asked for {layers} layers, the library's class makes {trace.layers}")
    return trace


def whole(trace: Trace) -> ExtendedTrace:
    """A trace of the real depth in the words of an extended one."""
    peaks = {
        moment: MomentPeak(
            moment,
            trace.live_bytes[instant],
            trace.bytes_by_term(instant),
            trace.instants[instant].module,
            trace.phantoms_by_term(instant),
        )
        for moment, instant in trace.moment_peaks().items()
    }
    return ExtendedTrace(trace.layers, peaks)


def place_and_message(error: BaseException) -> str:
    """Where the library's code gave up (the innermost module that ran) and what it said."""
    module = innermost_module(error.__traceback__)
    where = f"in {module}: " if module else ""
    lines = str(error).strip().splitlines() or [""]
    return f"{where}{type(error).__name__}: {lines[0][:300]}"


def innermost_module(traceback: TracebackType | None) -> str:
    """The class of the last nn.Module on the stack."""
    found = ""
    while traceback is not None:
        owner = traceback.tb_frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            found = type(owner).__name__
        traceback = traceback.tb_next
    return found


def verified(estimated: Answer, evaluation: Evaluation, found: Findings) -> Answer:
    """The answer with what was found; where the trace is believed over more than 1 %, with its numbers."""
    ledger, spec = evaluation.ledger, evaluation.plan.spec
    peak = comparable_peak(ledger, found.traced)
    differences = compared(ledger, peak, spec)
    believed = ledger
    if differences[-1].believed == "trace":
        believed = with_traced_peak(ledger, found.traced.without_phantoms)
    if found.events.replayed is not None:
        held = held_rows(ledger, peak, found.events.replayed)
        differences += held
        if held[0].believed == "trace":
            believed = with_fragmentation(believed, held[0].trace_bytes)
    answer = estimated
    if believed is not ledger:
        answer = answer_of(estimated.request, estimated.model_sha256, weigh(evaluation.plan, believed), advice=False)
        answer = answer.model_copy(update={"advice": estimated.advice})
    evidence = Evidence(
        tier="verified",
        differences=differences,
        notes=[*notes(spec, peak, found), *found.events.notes],
        timeline=found.events.timeline,
    )
    warnings = [*answer.warnings, *parameter_warnings(spec, found.built)]
    return answer.model_copy(update={"evidence": evidence, "warnings": warnings})


def comparable_peak(ledger: Ledger, trace: ExtendedTrace) -> MomentPeak:
    """The trace's peak; that of the estimate's moment where it is as high within the agreement.

    Two moments that are nearly as high hold other terms, and which one wins may hang on a few bytes. What no checkpoint
    has decides nothing.
    """
    real = trace.without_phantoms.moments
    highest = max(real, key=real.__getitem__)
    is_as_high = real.get(ledger.peak_moment, 0) >= real[highest] * (1 - AGREEMENT)
    return trace.peaks[ledger.peak_moment if is_as_high else highest]


def compared(ledger: Ledger, peak: MomentPeak, spec: ModelSpec) -> list[Difference]:
    """One row for each term that either side has, and one for their sum."""
    rows = [(term, ledger.terms[term], peak.by_term.get(term, 0), peak.phantoms.get(term, 0)) for term in TERMS]
    held = [row for row in rows if row[1] or row[2]]
    total = (PEAK, ledger.peak_allocated_bytes, peak.bytes, sum(peak.phantoms.values()))
    return [difference(row, peak, spec, ledger.peak_moment) for row in [*held, total]]


def difference(row: tuple[str, int, int, int], peak: MomentPeak, spec: ModelSpec, moment: str) -> Difference:
    """Which side is believed: the estimate up to 1 % of the peak, the closed form about phantoms, else the trace."""
    term, estimated, traced_bytes, phantoms = row
    rest = estimated - (traced_bytes - phantoms)
    share = abs(rest) / peak.bytes if peak.bytes else 0.0
    believed, why = "estimate", f"they agree: {share:.2%} of the traced peak apart"
    if share > AGREEMENT:
        believed = "trace"
        where = f"at its peak in {peak.moment}" + (f", in {peak.module}" if peak.module else "")
        why = f"the trace follows each storage of the library's own code {where}"
        if moment != peak.moment:
            why += f"; the estimate's peak is in {moment}"
    if phantoms:
        said = f"{format_bytes(phantoms)} of the trace are of parameters that no checkpoint has, and are not counted"
        why = f"{said}. {phantom_cause(spec)} Beyond them, {why}"
    return Difference(
        term=term,
        estimate_bytes=estimated,
        trace_bytes=traced_bytes,
        difference_bytes=estimated - traced_bytes,
        believed=believed,
        why=why,
    )


def held_rows(ledger: Ledger, peak: MomentPeak, replayed: Replayed) -> list[Difference]:
    """What the allocator holds beyond the peak, and both together."""
    estimated = ledger.terms["fragmentation"]
    apart = estimated - replayed.fragmentation_bytes
    share = abs(apart) / peak.bytes if peak.bytes else 0.0
    believed, why = "estimate", f"they agree: {share:.2%} of the traced peak apart"
    if share > AGREEMENT:
        believed, why = replayed.believed, replayed.why
    fragmentation = Difference(
        term="fragmentation",
        estimate_bytes=estimated,
        trace_bytes=replayed.fragmentation_bytes,
        difference_bytes=apart,
        believed=believed,
        why=why,
    )
    held = (ledger.peak_allocated_bytes + estimated, peak.bytes + replayed.fragmentation_bytes)
    total = fragmentation.model_copy(
        update={
            "term": "peak_reserved",
            "estimate_bytes": held[0],
            "trace_bytes": held[1],
            "difference_bytes": held[0] - held[1],
            "why": "peak allocated and fragmentation",
        }
    )
    return [fragmentation, total]


def with_fragmentation(ledger: Ledger, fragmentation_bytes: int) -> Ledger:
    """The ledger with another fragmentation and the sums that hold it."""
    more = fragmentation_bytes - ledger.terms["fragmentation"]
    return replace(
        ledger,
        terms=ledger.terms | {"fragmentation": fragmentation_bytes},
        peak_reserved_bytes=ledger.peak_reserved_bytes + more,
        peak_process_bytes=ledger.peak_process_bytes + more,
        required_bytes=ledger.required_bytes + more,
    )


def phantom_cause(spec: ModelSpec) -> str:
    """The family's own note on parameters that the library allocates and no checkpoint has."""
    notes_ = [note.message for note in spec.notes if note.parameters == spec.phantoms]
    return notes_[0] if notes_ else f"the library's class allocates {spec.phantoms:,} parameters that no checkpoint has"


def with_traced_peak(ledger: Ledger, trace: ExtendedTrace) -> Ledger:
    """The ledger with the trace's terms and step moments; what the trace doesn't see stays as estimated.

    Fragmentation keeps its share of the allocated bytes; load, evaluation and save keep their own bytes.
    """
    peak = trace.peak
    fragmentation = peak.bytes * ledger.terms["fragmentation"] // max(1, ledger.peak_allocated_bytes)
    moments = ledger.moments | trace.moments
    outside = ledger.terms["outside_allocator"]
    highest = max(moments, key=moments.__getitem__)
    terms = dict.fromkeys(ledger.terms, 0) | peak.by_term
    return replace(
        ledger,
        terms=terms | {"fragmentation": fragmentation, "outside_allocator": outside},
        peak_moment=peak.moment,
        peak_operation=peak.module,
        moments=moments,
        peak_allocated_bytes=peak.bytes,
        peak_reserved_bytes=peak.bytes + fragmentation,
        peak_process_bytes=peak.bytes + fragmentation + outside,
        required_bytes=moments[highest] + fragmentation + outside,
        highest_moment=highest,
        parts=(),
    )


def notes(spec: ModelSpec, peak: MomentPeak, found: Findings) -> list[str]:
    """What was built and traced."""
    lines: list[str] = []
    if found.built is not None:
        lines.append(f"{found.built.total:,} parameters, as {found.built.class_name} builds them on the meta device")
    if spec.model_type in PROXIES:
        lines.append(f"transformers has no class for {spec.model_type}; its proxy is {PROXIES[spec.model_type]}")
    chosen = found.depths
    layers = f"{chosen.shallow} layers"
    if chosen.deep is not None:
        layers = f"{chosen.shallow} and {chosen.deep} layers, extended to {found.traced.layers}"
    where = f", in {peak.module}" if peak.module else ""
    lines.append(f"traced {layers}: the peak is {format_bytes(peak.bytes)} in {peak.moment}{where}")
    phantoms = sum(peak.phantoms.values())
    if phantoms:
        said = f"{format_bytes(phantoms)} of it are of parameters that no checkpoint has"
        lines.append(f"{said}; the answer leaves them out, the timeline and the replay hold them")
    return lines


def parameter_warnings(spec: ModelSpec, built: Built | None) -> list[str]:
    """A warning where the class's count differs from the closed form, with the cause if it is known."""
    if built is None or built.total == count.total(spec):
        return []
    apart = built.total - count.total(spec)
    said = f"{built.class_name} has {built.total:,} parameters, the closed form counts {count.total(spec):,}"
    if apart == spec.phantoms:
        return [f"{said}. {phantom_cause(spec)} The closed form is believed."]
    closed = count.by_component(spec)
    names = sorted(built.by_component.keys() | closed.keys())
    parts = {name: built.by_component.get(name, 0) - closed.get(name, 0) for name in names}
    listed = ", ".join(f"{name} {size:+,}" for name, size in parts.items() if size)
    return [f"{said}; the difference of {apart:+,} is in {listed}. The cause is not known; the class is believed."]
