"""Which modules PEFT adapts, where its conversion for stacked experts decides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from planner.architecture.registry import read_config
from planner.architecture.spec import Module, linear
from planner.catalog.models import all_models
from planner.step.adapters import parameter_adapter_shapes, typical_targets, with_targets
from planner.step.player import NotModelled
from planner.step.rules import StepRules
from tests.planner.step.reduced import reduced_config

LORA = StepRules("lora", "bfloat16", "bfloat16", "bfloat16")


def resolved(model_type: str, **changes: Any) -> StepRules:
    spec = read_config(reduced_config(model_type))
    once = with_targets(replace(LORA, **changes), spec)
    assert with_targets(once, spec) == once
    return once


def test_all_linear_reaches_experts_and_router_and_leaves_shared_experts_out() -> None:
    rules = resolved("deepseek_v3")
    assert rules.target_parameters == ("down_proj", "gate.weight", "gate_up_proj")
    assert rules.adapts(linear("q_a_proj", 8, 8, "attention"))
    assert not rules.adapts(linear("down_proj", 8, 8, "shared_experts"))
    assert rules.adapts_parameter(Module("experts.gate_up_proj", "experts", "experts", (4, 16, 8)))
    assert rules.adapts_parameter(Module("gate.weight", "parameter", "router", (4, 8)))


def test_all_linear_leaves_the_experts_of_other_classes_alone() -> None:
    assert resolved("granitemoe").target_parameters == ()
    assert resolved("llama") == LORA


def test_named_modules_stay_as_they_are_unless_they_name_experts() -> None:
    assert resolved("mixtral", targets=("q_proj", "v_proj")).targets == ("q_proj", "v_proj")
    named = resolved("mixtral", targets=("q_proj", "w1", "w2", "w3"))
    assert (named.targets, named.target_parameters) == (("q_proj",), ("down_proj", "gate_up_proj"))


@pytest.mark.parametrize(
    ("model_type", "changes", "reason"),
    [
        ("mixtral", {"targets": ("w1",)}, "together"),
        ("mixtral", {"dropout": True}, "ParamWrapper"),
        ("phimoe", {}, "returns a tuple"),
        ("mamba2", {}, "PEFT refuses"),
    ],
)
def test_what_peft_refuses_is_refused_with_its_reason(model_type: str, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotModelled, match=reason):
        resolved(model_type, **changes)


@pytest.mark.parametrize(
    ("model_type", "expected"),
    [
        ("llama", "all-linear"),
        ("mamba", ["in_proj", "x_proj"]),
        ("falcon_h1", ["down_proj", "gate_proj", "in_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]),
        ("phimoe", ["k_proj", "o_proj", "q_proj", "v_proj"]),
    ],
)
def test_what_is_adapted_when_nobody_says_is_what_peft_can_adapt(model_type: str, expected: object) -> None:
    assert typical_targets(read_config(reduced_config(model_type))) == expected


def test_a_fused_projection_has_twice_the_rank() -> None:
    stacked = Module("experts.gate_up_proj", "experts", "experts", (8, 28, 10))
    assert parameter_adapter_shapes(stacked, 16) == ((8 * 32, 10), (28, 8 * 32))
    assert parameter_adapter_shapes(Module("gate.weight", "parameter", "router", (8, 10)), 16) == ((16, 10), (8, 16))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", ["mixtral", "qwen3_moe", "deepseek_v3", "qwen2_moe", "granitemoe", "llama"])
def test_adapters_have_as_many_elements_as_pefts_own(model_type: str) -> None:
    from planner.memory.tensors import adapters
    from planner.verify.build import build_model
    from planner.verify.settings import TraceSettings

    config = reduced_config(model_type)
    model = build_model(config, TraceSettings(method="lora"))
    own = sum(parameter.numel() for name, parameter in model.named_parameters() if "lora_" in name)
    spec = read_config(config)
    assert sum(part.elements * part.count for part in adapters(spec, with_targets(LORA, spec), 16)) == own


def test_kimi_k2_is_adapted_as_the_class_that_runs_it() -> None:
    kimi = next(model for model in all_models() if model.config["model_type"] == "kimi_k2")
    spec = read_config(kimi.config)
    rules = StepRules("lora", "bfloat16", "bfloat16", "float32")
    assert with_targets(rules, spec) == with_targets(rules, replace(spec, model_type="deepseek_v3"))
    assert with_targets(rules, spec).target_parameters
