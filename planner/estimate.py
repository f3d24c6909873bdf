"""The engine's one entry: a request with its model's configuration and its machine in, an answer out."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from planner.advice import advise
from planner.architecture import count
from planner.architecture.config import UnknownModelType
from planner.architecture.registry import read_config
from planner.architecture.spec import ModelSpec
from planner.catalog.models import catalogued_id, model
from planner.contract import ESTIMATED, SCHEMA_VERSION, Answer, Costs, EstimateRequest, Parameters, Reason
from planner.costs import costs_of
from planner.errors import NotModelledError
from planner.evaluation import Evaluation, evaluate, host_peak_bytes
from planner.hardware import Machine
from planner.interval import memory_factors
from planner.sources import source_of
from planner.summary import not_modelled_sentence, sentence
from planner.throughput import StepTime, seconds_to_finish
from planner.version import CATALOG_VERSION, ESTIMATOR_VERSION

KEPT_SPECS = 512
_specs: OrderedDict[str, ModelSpec] = OrderedDict()


def canonical_sha256(config: Mapping[str, Any]) -> str:
    """SHA-256 of the configuration's canonical JSON (sorted keys, no spaces): the model's identity."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sha256_of(config: Mapping[str, Any]) -> str:
    """`canonical_sha256`, remembered for the configurations of the catalogue."""
    model_id = catalogued_id(config)
    return canonical_sha256(config) if model_id is None else _catalogued_sha256(model_id)


@lru_cache(maxsize=1024)
def _catalogued_sha256(model_id: str) -> str:
    return canonical_sha256(model(model_id).config)


def spec_of(config: Mapping[str, Any], sha256: str) -> ModelSpec:
    """The model as shapes, remembered by hash.

    Raises:
        ConfigError: a value of the configuration cannot be used.
        UnknownModelType: no family describes it.
    """
    spec = _specs.get(sha256)
    if spec is None:
        spec = _specs[sha256] = read_config(config)
        if len(_specs) > KEPT_SPECS:
            _specs.popitem(last=False)
    return spec


def estimate(request: EstimateRequest, *, config: Mapping[str, Any], machine: Machine, advice: bool = True) -> Answer:
    """Answer one request in closed form: `document`, checked.

    Args:
        request: the question.
        config: the model's config.json, looked up by the caller when the request names an id.
        machine: the machine, resolved by the caller.
        advice: whether to work out what would change the answer.

    Raises:
        ConfigError: the configuration holds a value that cannot be used.
        PlanError: the request contradicts itself, the model, the machine or the framework.
    """
    return Answer.model_validate(document(request, config=config, machine=machine, advice=advice))


def document(
    request: EstimateRequest, *, config: Mapping[str, Any], machine: Machine, advice: bool = True
) -> dict[str, Any]:
    """The fields of `estimate`'s answer: what is sent as JSON needs no check of what was just calculated.

    Raises:
        ConfigError: the configuration holds a value that cannot be used.
        PlanError: the request contradicts itself, the model, the machine or the framework.
    """
    sha256 = sha256_of(config)
    try:
        spec = spec_of(config, sha256)
    except UnknownModelType as error:
        return _not_modelled(
            request, sha256, None, Reason(code="unknown_model_type", field="model", message=str(error))
        )
    try:
        evaluation = evaluate(request, spec, machine)
    except NotModelledError as error:
        reason = Reason(code=error.code, field=error.field, message=str(error))
        return _not_modelled(request, sha256, _parameters(spec, None), reason)
    return _evaluated(request, sha256, evaluation, advice=advice)


def answer_of(request: EstimateRequest, sha256: str, evaluation: Evaluation, *, advice: bool) -> Answer:
    """The contract's answer to an evaluated request."""
    # Checked and built in one call, parts and all, which takes a third of the time of one by one.
    return Answer.model_validate(_evaluated(request, sha256, evaluation, advice=advice))


def _head(request: EstimateRequest, sha256: str) -> dict[str, Any]:
    """What every answer begins with."""
    return {
        "schema_version": SCHEMA_VERSION,
        "estimator_version": ESTIMATOR_VERSION,
        "catalog_version": CATALOG_VERSION,
        "request": request,
        "model_sha256": sha256,
    }


def _not_modelled(
    request: EstimateRequest, sha256: str, parameters: Parameters | None, reason: Reason
) -> dict[str, Any]:
    return {
        **_head(request, sha256),
        "verdict": "not_modelled",
        "summary": not_modelled_sentence(reason),
        "reasons": [reason],
        "parameters": parameters,
        "memory": None,
        "throughput": None,
        "costs": None,
        "software": [],
        "advice": [],
        "evidence": ESTIMATED,
        "assumed": {},
        "warnings": [],
    }


def _evaluated(request: EstimateRequest, sha256: str, evaluation: Evaluation, *, advice: bool) -> dict[str, Any]:
    plan = evaluation.plan
    costs = costs_of(request, plan, evaluation.time)
    return {
        **_head(request, sha256),
        "verdict": evaluation.verdict,
        "summary": sentence(evaluation),
        "reasons": evaluation.reasons,
        "parameters": _parameters(plan.spec, evaluation),
        "memory": _memory(evaluation),
        "throughput": _throughput(evaluation, costs),
        "costs": costs,
        "software": evaluation.software,
        "advice": advise(request, evaluation) if advice else [],
        "evidence": ESTIMATED,
        "assumed": _assumed(evaluation),
        "warnings": [*(note.message for note in plan.spec.notes), *evaluation.warnings],
    }


def _assumed(evaluation: Evaluation) -> dict[str, Any]:
    plan = evaluation.plan
    model = {f"model.config.{name}": value for name, value in plan.spec.assumed.items()}
    return {**plan.assumed, **plan.machine.assumed, **_calibration(evaluation), **model}


def _calibration(evaluation: Evaluation) -> dict[str, str]:
    """Which calibration the time rests on."""
    found = evaluation.plan.machine.calibration
    if found is None or evaluation.time is None:
        return {}
    threads = "" if found.threads is None else f", {found.threads} threads"
    return {"machine.calibration": f"{found.id} of {found.day}{threads}"}


def _parameters(spec: ModelSpec, evaluation: Evaluation | None) -> Parameters:
    if evaluation is None:
        return _counted(spec, None, 0)
    rules = evaluation.plan.rules
    labels = rules.num_labels if rules.objective != "causal_lm" else None
    return _counted(spec, labels, evaluation.ledger.resident.trainable_parameters)


@lru_cache(maxsize=1024)
def _counted(spec: ModelSpec, labels: int | None, trainable: int) -> Parameters:
    """The counts of a model, with the head of a classifier when there are labels."""
    built = spec if labels is None else count.classified(spec, labels)
    return Parameters(
        total=count.total(built),
        active=count.active(built),
        trainable=trainable,
        checkpoint_total=count.checkpoint_total(spec),
        by_component=dict(count.by_component(built)),
    )


def _memory(evaluation: Evaluation) -> dict[str, Any]:
    """The contract's `Memory`."""
    plan, ledger, machine = evaluation.plan, evaluation.ledger, evaluation.plan.machine
    device = {
        "total_bytes": machine.memory_total_bytes,
        "system_reserved_bytes": machine.system_reserved_bytes,
        "in_use_bytes": machine.in_use_bytes,
        "usable_bytes": machine.usable_bytes,
        "peak_allocated_bytes": ledger.peak_allocated_bytes,
        "peak_reserved_bytes": ledger.peak_reserved_bytes,
        "peak_process_bytes": ledger.peak_process_bytes,
        "interval_bytes": evaluation.interval,
        "interval_basis": memory_factors(machine.device).basis,
        "headroom_bytes": evaluation.headroom_bytes,
        "peak_moment": ledger.peak_moment,
        "required_bytes": ledger.required_bytes,
        "highest_moment": ledger.highest_moment,
        "terms": ledger.terms,
        "moments": [{"name": name, "allocated_bytes": size} for name, size in ledger.moments.items()],
        "ledger": _rows(evaluation),
    }
    host = {
        "usable_bytes": machine.host_usable_bytes,
        "peak_bytes": host_peak_bytes(plan, ledger),
        "terms": ledger.host_terms,
        "shared_with_device": machine.shared_with_host,
    }
    disk = {
        "free_bytes": machine.disk_free_bytes,
        "needed_bytes": sum(ledger.disk_terms.values()),
        "terms": ledger.disk_terms,
    }
    return {"device": device, "host": host, "disk": disk}


def _rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The contract's `LedgerRow`s: the standing terms first, then what the peak's instant holds, largest first."""
    ledger = evaluation.ledger
    shown = {part.term for part in ledger.parts}
    rows = [
        {"term": term, "what": said.what, "formula": said.formula, "bytes": size, "source": said.source}
        for term, size in ledger.terms.items()
        if size and term not in shown and (said := source_of(term))
    ]
    rows += [
        {
            "term": part.term,
            "what": part.what,
            "formula": part.formula,
            "bytes": part.bytes,
            "source": source_of(part.term).source,
        }
        for part in ledger.parts
    ]
    return rows


def _throughput(evaluation: Evaluation, costs: Costs | None) -> dict[str, Any] | None:
    """The contract's `Throughput`."""
    time, plan = evaluation.time, evaluation.plan
    if time is None:
        return None
    finish = None if plan.tokens is None else seconds_to_finish(time, plan.tokens)
    return {
        "step_seconds": time.step_seconds,
        "tokens_per_second": time.tokens_per_second,
        "mfu": time.mfu,
        "interval": time.interval,
        "interval_basis": time.interval_basis,
        "basis": time.basis,
        "seconds_to_finish": finish,
        "finish_interval": None if finish is None else _scaled(time.interval, finish / time.step_seconds),
        "peak_flops": time.peak_flops,
        "cost_usd": None if costs is None else costs.cost_usd,
        "energy_kwh": None if costs is None else costs.energy_kwh,
        "operations": _operations(time),
    }


def _scaled(interval: tuple[float, float], factor: float) -> tuple[float, float]:
    """Every step takes as long as the others, so that the whole run's range is the step's."""
    return interval[0] * factor, interval[1] * factor


def _operations(time: StepTime) -> list[dict[str, Any]]:
    return [
        {"operation": o.operation, "flops": o.flops, "bytes": o.bytes, "seconds": o.seconds, "bound_by": o.bound_by}
        for o in time.operations
    ]
