"""A request with every open field filled in: typical defaults per framework, the dtype policy, and what was assumed."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

from planner.architecture.spec import ModelSpec
from planner.contract import EstimateRequest, LoraSettings, QuantizationSettings, RunRequest
from planner.frameworks import adapted_names, adapter_dtype, as_built_by, autocasts_always, step_of
from planner.hardware import Machine
from planner.plan.covered import data_parallel, refuse_uncovered
from planner.plan.dtypes import Formats, formats_of, gathered_dtype, weights_and_compute
from planner.plan.filling import (
    FRAMEWORK_DEFAULTS,
    Filler,
    checkpointing,
    implementation,
    lora_settings,
    quantization_settings,
    trainable_layers,
)
from planner.plan.lengths import sequence_length
from planner.plan.plan import Plan
from planner.plan.routing import expert_imbalance, felt_imbalance
from planner.step.adapters import with_targets
from planner.step.rules import StepRules
from planner.support import attention_kernel

FIXED_DEFAULTS = ("framework", "objective", "allocator")
"""Fields whose default is one value for everybody."""


def resolve(request: EstimateRequest, spec: ModelSpec, machine: Machine) -> Plan:
    """Fill in the request.

    Raises:
        PlanError: fields contradict each other, the model or the framework (HTTP 422).
        NotModelledError: the plan is understood but not covered.
    """
    run, filler = request.run, Filler()
    data = data_parallel(run, machine, filler)
    refuse_uncovered(run)
    spec = as_built_by(run.framework, spec)
    filler.assumed |= {f"run.{name}": getattr(run, name) for name in FIXED_DEFAULTS if name not in run.model_fields_set}
    method = filler.take("method", run.method, "lora")
    weights, compute = weights_and_compute(run, method, spec, machine.device, filler)
    lora = lora_settings(run, method, spec, adapter_dtype(run.framework, method, weights), filler)
    optimizer = filler.take("optimizer", run.optimizer, "adamw")
    formats = formats_of(run, optimizer, weights, compute, lora.adapter_dtype or weights, filler)
    attention = filler.take("attention", run.attention, "sdpa")
    kernel, why = attention_kernel(machine.device, attention, masked=False)
    accumulation = filler.take("gradient_accumulation_steps", run.gradient_accumulation_steps, 1)
    quantization = quantization_settings(run, method, filler)
    plain = _rules(run, method, spec, lora, formats, quantization, filler)
    rules = _completed(spec, plain, kernel, accumulation > 1, machine.device.allocator_family == "cpu")
    sequence = sequence_length(run, spec, filler)
    imbalance = expert_imbalance(run, spec, filler)
    return Plan(
        spec=spec, machine=machine, rules=rules, optimizer=optimizer,
        optimizer_impl=implementation(run, optimizer, machine.device, filler), optimizer_state_dtype=formats.state,
        master_weights=formats.master, optimizer_in_backward=run.optimizer_in_backward,
        double_quant=quantization.double_quant, sequence_length=sequence,
        micro_batch_size=filler.take("micro_batch_size", run.micro_batch_size, 1),
        gradient_accumulation_steps=accumulation, rank=lora.rank, data_parallel=data,
        zero_stage=run.parallelism.zero_stage, allocator=run.allocator, given_tokens=run.tokens,
        examples=None if run.examples is None else run.examples * (run.epochs or 1.0),
        attention=attention, kernel_reason=why, expert_imbalance=imbalance, assumed=filler.assumed,
        warnings=(*filler.warnings, *_kernel_warning(kernel, why), *_expert_warning(rules)),
    )  # fmt: skip


@lru_cache(maxsize=4096)
def _completed(
    spec: ModelSpec, plain: StepRules, kernel: str, accumulate: bool, on_processor: bool
) -> StepRules:  # fmt: skip
    """The rules with kernel and targets: one object for equal ones, so that later caches find them by identity."""
    rules = replace(plain, kernel=cast(Any, kernel), accumulate=accumulate, on_processor=on_processor)
    return with_targets(rules, spec)


def _rules(
    run: RunRequest, method: str, spec: ModelSpec, lora: LoraSettings, formats: Formats,
    quantization: QuantizationSettings, filler: Filler,
) -> StepRules:  # fmt: skip
    """What of the run decides the shape of the step; kernel and accumulation are added by `resolve`."""
    defaults = FRAMEWORK_DEFAULTS[run.framework]
    kept, every = checkpointing(run, method, defaults, filler)
    gathered = gathered_dtype(run, formats.weights, formats.compute)
    return StepRules(
        method=cast(Any, method),
        weights_dtype=gathered,
        stored_dtype=None if gathered == formats.weights else formats.weights,
        compute_dtype=formats.compute,
        gradient_dtype=formats.gradient,
        adapter_dtype=lora.adapter_dtype or "float32",
        targets=None if lora.target_modules == "all-linear" else adapted_names(lora.target_modules, spec),
        saved_modules=tuple(lora.modules_to_save),
        dropout=lora.dropout > 0,
        scheme=quantization.scheme if method == "qlora" else None,
        checkpointing=cast(Any, kept),
        checkpoint_every=every,
        loss=filler.take("loss", run.loss, defaults["loss"]),
        loss_chunks=run.loss_chunks,
        framework=step_of(run.framework),
        trainer_autocast=autocasts_always(run.framework),
        trainable_layers=trainable_layers(run, method, spec, filler),
        objective=run.objective,
        num_labels=run.num_labels,
        optimizer_in_backward=run.optimizer_in_backward,
        expert_imbalance=felt_imbalance(run, spec),
    )


def _expert_warning(rules: StepRules) -> tuple[str, ...]:
    """PEFT 0.21 turns the names of per-expert linear modules into the stacked parameters of transformers 5."""
    if not any(name.endswith("_proj") for name in rules.target_parameters):
        return ()
    return (
        "adapters: PEFT reaches the stacked experts of this model too and makes their whole weights anew in each "
        "forward pass; name the attention modules in run.lora.target_modules to leave the experts alone",
    )


def _kernel_warning(kernel: str, why: str) -> tuple[str, ...]:
    return (f"attention: {why}",) if kernel == "math" else ()
