"""Which modules and parameters of a model PEFT adapts, where its own conversion of targets decides.

transformers 5 holds a layer's experts as stacked parameters. For some model types PEFT rewrites the names of the old
per-expert linear modules to those parameters: "all-linear" then adapts the experts and the router, and no longer the
dense and shared feed-forward modules of the same names. For the others "all-linear" reaches nn.Linear modules alone,
and the experts stay without adapters. Source: peft 0.21 utils/transformers_weight_conversion.py
(_resolve_string_target_modules, _convert_peft_config_moe); transformers 5.23 conversion_mapping.py.
Kimi K2 runs on DeepSeek-V3's class.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from planner.architecture.spec import ModelSpec, Module, layer_modules
from planner.step.player import NotModelled
from planner.step.rules import StepRules, leaf

_MIXTRAL = {"gate": "gate.weight", "w1": "gate_up_proj", "w3": "gate_up_proj", "w2": "down_proj"}
_QWEN2_MOE = {
    "gate": "gate.weight",
    "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
    "down_proj": "down_proj",
}
_CONVERTED = {
    **dict.fromkeys(("mixtral", "minimax", "minimax_m2"), _MIXTRAL),
    **dict.fromkeys(
        (
            "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots1", "ernie4_5_moe", "glm4_moe", "glm4_moe_lite",
            "glm_moe_dsa", "glm4v_moe", "longcat_flash", "solar_open", "qwen3_moe", "qwen3_next", "hunyuan_v1_moe",
            "flex_olmo", "olmoe", "exaone_moe", "kimi_k2",
        ),
        _QWEN2_MOE,
    ),
}  # fmt: skip
_ROUTER_RETURNS_TUPLE = {"phimoe": "PhimoeTopKRouter", "llama4": "Llama4Router", "llama4_text": "Llama4Router"}

_MAMBA = frozenset({"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"})
_REFUSED = frozenset({"out_proj", "conv1d"})


def typical_targets(spec: ModelSpec) -> Literal["all-linear"] | list[str]:
    """What is adapted when nobody says: all-linear, or where PEFT cannot do that, every linear module that it can.

    The names are those of the text model's layers, without the ones that PEFT refuses on the model, and without Mamba's
    dt_proj, whose weight the mixer reads past the module, so that an adapter on it has no effect.
    """
    refused = _REFUSED | {"dt_proj"} if spec.model_type in _MAMBA else {"router"}
    if spec.model_type not in _MAMBA and spec.model_type not in _ROUTER_RETURNS_TUPLE:
        return "all-linear"
    modules = (module for run in spec.text.runs for module in layer_modules(run.layer))
    return sorted({leaf(module) for module in modules if module.kind == "linear"} - refused)


def with_targets(rules: StepRules, spec: ModelSpec) -> StepRules:
    """The rules with PEFT's targets as it resolves them for this model; a second call changes nothing.

    Raises:
        NotModelled: PEFT refuses the targets, or fails with them.
    """
    if not rules.has_adapters:
        return rules
    if rules.targets is None and spec.model_type in _ROUTER_RETURNS_TUPLE:
        raise NotModelled(
            f"all-linear adapters on {spec.model_type}: its router {_ROUTER_RETURNS_TUPLE[spec.model_type]} is an "
            "nn.Linear that returns a tuple, which PEFT's LoRA layer cannot wrap; name the modules to adapt"
        )
    if spec.model_type in _MAMBA and (rules.targets is None or _REFUSED & set(rules.targets)):
        raise NotModelled(
            f"adapters on out_proj or conv1d of {spec.model_type}: PEFT refuses them on Mamba models "
            "(tuners_utils.py, _check_lora_target_modules_mamba); name other modules to adapt, such as in_proj"
        )
    names = _CONVERTED.get(spec.model_type)
    if names is None:
        return rules
    asked = set(names) if rules.targets is None else set(names) & set(rules.targets)
    return _converted(rules, names, asked) if asked else rules


def _converted(rules: StepRules, names: dict[str, str], asked: set[str]) -> StepRules:
    fused = {old for old, new in names.items() if new == "gate_up_proj"}
    if asked & fused and not fused <= asked:
        raise NotModelled(f"adapters on {sorted(asked & fused)} alone: PEFT demands {sorted(fused)} together")
    if rules.dropout or rules.method == "dora":
        raise NotModelled("adapters on stacked experts with dropout or DoRA: PEFT's ParamWrapper refuses both")
    parameters = tuple(sorted({names[old] for old in asked}))
    if rules.targets is None:
        return replace(rules, untargeted=tuple(sorted(names)), target_parameters=parameters)
    rest = tuple(name for name in rules.targets if name not in names)
    return replace(rules, targets=rest, target_parameters=parameters)


def parameter_adapter_shapes(module: Module, rank: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """A and B of an adapter on a bare parameter: [experts x rank, in] and [out, experts x rank].

    A fused gate_up_proj gets twice the rank; a router is one matrix. Source: peft/tuners/lora/layer.py ParamWrapper.
    """
    own = rank * (2 if module.name.endswith("gate_up_proj") else 1)
    if len(module.shape) == 2:
        return (own, module.shape[1]), (module.shape[0], own)
    experts, outputs, inputs = module.shape
    return (experts * own, inputs), (outputs, experts * own)
