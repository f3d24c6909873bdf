"""The real model with random weights on a device, its adapters, and what of a plan can't be measured."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from planner.calibration.device import Device
from planner.contract import RunRequest
from planner.plan import Plan
from planner.verify.build import add_adapters, auto_class, choose_trainable, experts_choice, library_config_of
from planner.verify.build import attention_name as traced_attention
from planner.verify.coverage import run_settings
from planner.verify.library import library
from planner.verify.modules import output_head
from planner.verify.settings import TraceSettings

BITSANDBYTES_OPTIMIZERS = frozenset({"adamw_8bit", "paged_adamw", "paged_adamw_8bit", "lion"})


class NotMeasurable(Exception):
    """The plan can be estimated but not run here; `field` is what of the request says so."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(message)


def settings_for(plan: Plan, run: RunRequest, depth: int | None) -> TraceSettings:
    """The plan as the step runs it.

    Raises:
        NotMeasurable: the step would not run what the plan runs.
    """
    _refuse_uncovered(plan, run)
    return replace(run_settings(plan, run), layers_override=depth)


def _refuse_uncovered(plan: Plan, run: RunRequest) -> None:
    rules = plan.rules
    only = "a measuring run trains transformers' own model as its Trainer does"
    _require(rules.framework == "transformers", "run.framework", f"{only}; {rules.framework} has its own loop")
    _require(
        plan.zero_stage == 0, "run.parallelism.zero_stage", "several ranks are measured with DDP, which shards none"
    )
    _require(rules.stored_dtype is None, "run.parallelism.zero_stage", "sharded parameters are not measured")
    _require(plan.spec.task == "causal_lm", "model", f"{only} for decoders; this is a {plan.spec.task} model")
    _require(not plan.master_weights, "run.master_weights", f"{only}, which keeps no separate master copy")
    saved = "modules that are trained in full beside adapters are not measured"
    _require(not (run.lora and run.lora.modules_to_save), "run.lora.modules_to_save", saved)
    by_operation = "of the selective policies, only the one by operation is measured"
    _require(rules.checkpointing != "selective_attention", "run.activation_checkpointing", by_operation)
    if rules.method == "qlora":
        _require_bitsandbytes("run.method", "qlora stores its base with bitsandbytes")
    if plan.optimizer in BITSANDBYTES_OPTIMIZERS:
        _require_bitsandbytes("run.optimizer", f"{plan.optimizer} is an optimizer of bitsandbytes")


def _require(holds: bool, field: str, message: str) -> None:
    if not holds:
        raise NotMeasurable(field, message)


def _require_bitsandbytes(field: str, why: str) -> None:
    try:
        library("bitsandbytes")
    except ImportError as error:
        raise NotMeasurable(field, f"{why}, which this machine can't import: {error}") from error


def build_model(config: dict[str, Any], settings: TraceSettings, device: Device) -> nn.Module:
    """The causal language model (and PEFT's adapters) on the device, with the library's random weights.

    Raises what transformers raises when it can't build the config.
    """
    library_config = library_config_of(config, settings)
    with torch.device(device.torch), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: nn.Module = auto_class(library_config, settings).from_config(
            library_config,
            dtype=getattr(torch, settings.weights_dtype),
            attn_implementation=attention_name(library_config, settings),
            **experts_choice(settings),
        )
        if settings.method == "qlora":
            quantise(model, settings, device)
            model = add_adapters(model, settings)
        else:
            model = choose_trainable(model, settings)
    model.train()
    return model


def attention_name(library_config: Any, settings: TraceSettings) -> str | dict[str, str]:
    """The key in transformers' attention table, one for each part of a model; flash attention is a package's own."""
    if settings.attention == "flash_attention":
        return "flash_attention_2"
    return traced_attention(library_config, settings)


def quantise(model: nn.Module, settings: TraceSettings, device: Device) -> None:
    """Replaces every nn.Linear but the output head by bitsandbytes', which packs its weight on its way to the device.

    transformers/integrations/bitsandbytes.py `replace_with_bnb_linear`, with its default modules_to_not_convert.
    """
    bitsandbytes, head = library("bitsandbytes"), output_head(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and child is not head:
                setattr(parent, name, quantised(bitsandbytes, child, settings).to(device.torch))


def quantised(bitsandbytes: Any, module: nn.Linear, settings: TraceSettings) -> nn.Module:
    """The module with its weight packed in 4 or 8 bit, frozen."""
    biased = module.bias is not None  # pyright: ignore[reportUnnecessaryComparison]
    weight = module.weight.data
    if settings.quantization == "int8":
        packed: Any = bitsandbytes.nn.Linear8bitLt(
            module.in_features, module.out_features, bias=biased, has_fp16_weights=False
        )
        packed.weight = bitsandbytes.nn.Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False)
    else:
        packed = bitsandbytes.nn.Linear4bit(
            module.in_features, module.out_features, bias=biased, compute_dtype=getattr(torch, settings.compute_dtype)
        )
        packed.weight = bitsandbytes.nn.Params4bit(
            weight.cpu(), requires_grad=False, quant_type="nf4", compress_statistics=settings.double_quant
        )
    if biased:
        packed.bias = nn.Parameter(module.bias.data, requires_grad=False)
    return packed
