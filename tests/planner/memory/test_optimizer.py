"""Optimizer states and adapters against the real objects of torch, transformers and peft, on a small Llama."""

from __future__ import annotations

from typing import Any

import pytest

from planner.architecture.registry import read_config
from planner.memory.optimizer import OptimizerChoice, host_state_bytes, state_bytes, step_temporary_bytes, traffic_bytes
from planner.memory.tensors import Tensors, adapters, trained
from planner.memory.weights import adapter_bytes, base_weight_bytes
from planner.step.rules import StepRules
from tests.planner.asking import TINY

FULL = StepRules("full", "bfloat16", "bfloat16", "bfloat16")
LORA = StepRules("lora", "bfloat16", "bfloat16", "bfloat16")
SPEC = read_config(TINY)


def choice(name: str, state_dtype: str = "bfloat16", implementation: str = "for_loop", **kw: Any) -> OptimizerChoice:
    defaults: dict[str, Any] = {"embeddings_in_32_bit": False, "step_on_device": False, "rounding": 1}
    return OptimizerChoice(name, implementation, state_dtype, **{**defaults, **kw})


def build_model() -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    values = {key: value for key, value in TINY.items() if key not in {"model_type", "torch_dtype"}}
    config = AutoConfig.for_model("llama", **values)
    return AutoModelForCausalLM.from_config(config).to(torch.bfloat16)


def step_once(model: Any, optimizer: Any) -> None:
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()


def tensor_bytes(state: Any) -> int:
    """Bytes of all state tensors with more than one element (step counters are counted where they are modelled)."""
    import torch

    values = [value for entry in state.values() for value in entry.values() if isinstance(value, torch.Tensor)]
    return sum(value.numel() * value.element_size() for value in values if value.dim() > 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw", "sgd", "sgd_momentum", "adafactor"])
def test_states_equal_those_of_the_real_optimizer(name: str) -> None:
    import torch
    from transformers.optimization import Adafactor

    model = build_model()
    real: dict[str, Any] = {
        "adamw": lambda: torch.optim.AdamW(model.parameters()),
        "sgd": lambda: torch.optim.SGD(model.parameters(), lr=0.1),
        "sgd_momentum": lambda: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        "adafactor": lambda: Adafactor(model.parameters(), scale_parameter=False, relative_step=False, lr=0.1),
    }
    optimizer = real[name]()
    step_once(model, optimizer)
    dtype = "float32" if name == "adafactor" else "bfloat16"
    scalars = 4 * len(optimizer.state) if name == "adafactor" else 0
    assert state_bytes(choice(name, dtype), trained(SPEC, FULL, 0)) == tensor_bytes(optimizer.state) + scalars


@pytest.mark.slow
def test_muon_takes_hidden_matrices_and_adamw_the_rest() -> None:
    import torch

    model = build_model()
    hidden = [
        p for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name and "lm_head" not in name
    ]
    rest = [p for p in model.parameters() if all(p is not other for other in hidden)]
    muon, adamw = torch.optim.Muon(hidden, lr=0.1), torch.optim.AdamW(rest)
    step_once(model, muon)
    adamw.step()
    expected = tensor_bytes(muon.state) + tensor_bytes(adamw.state)
    assert state_bytes(choice("muon"), trained(SPEC, FULL, 0)) == expected


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft 0.21 asks transformers 5 so
@pytest.mark.parametrize("targets", [None, ("q_proj", "v_proj")])
def test_adapters_equal_pefts(targets: tuple[str, ...] | None) -> None:
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(build_model(), LoraConfig(r=8, target_modules=list(targets) if targets else "all-linear"))
    real = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    rules = StepRules("lora", "bfloat16", "bfloat16", "bfloat16", targets=targets)
    assert sum(t.elements * t.count for t in adapters(SPEC, rules, 8)) == real
    assert adapter_bytes(SPEC, rules, 8, 1) == 4 * real


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match")
@pytest.mark.parametrize("model_type", ["qwen3_moe", "olmoe", "gpt_oss", "mixtral"])
def test_adapters_on_experts_equal_pefts(model_type: str) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    from planner.step.adapters import with_targets

    sizes = {"num_experts": 8, "num_local_experts": 8, "moe_intermediate_size": 32, "num_experts_per_tok": 2}
    shape = {"hidden_size": 64, "intermediate_size": 48, "head_dim": 16, "num_attention_heads": 4, "vocab_size": 128}
    values = {**sizes, **shape, "num_hidden_layers": 2, "num_key_value_heads": 2, "tie_word_embeddings": False}
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **values))
    wrapped = get_peft_model(built, LoraConfig(r=4, target_modules="all-linear"))
    real = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    spec = read_config({"model_type": model_type, **values, **built.config.to_dict()})
    assert sum(t.elements * t.count for t in adapters(spec, with_targets(LORA, spec), 4)) == real


@pytest.mark.slow
def test_weights_equal_the_models() -> None:
    model = build_model()
    assert base_weight_bytes(SPEC, FULL, 1) == sum(p.numel() * p.element_size() for p in model.parameters())


def test_eight_bit_states_worked_by_hand() -> None:
    large, small = Tensors("weight", (64, 128), 2), Tensors("norm", (128,), 3)
    expected = 2 * 2 * (8192 + 4 * 32) + 3 * 2 * 4 * 128 + 2 * 1024
    assert state_bytes(choice("adamw_8bit"), [large, small]) == expected


def test_an_embedding_stays_in_32_bit_when_the_framework_says_so() -> None:
    table = Tensors("embed_tokens", (1000, 64), 1, embedding=True)
    assert state_bytes(choice("adamw_8bit", embeddings_in_32_bit=True), [table]) == 8 * 64_000
    assert state_bytes(choice("adamw_8bit"), [table]) == 2 * (64_000 + 4 * 250) + 2 * 1024


def test_lion_keeps_one_moment_and_sgd_none() -> None:
    weight = Tensors("weight", (10, 10), 1)
    assert state_bytes(choice("lion"), [weight]) == 400
    assert state_bytes(choice("sgd"), [weight]) == 0


def test_moments_under_100_000_elements_are_not_paged() -> None:
    large, small = Tensors("weight", (1000, 200), 2), Tensors("lora_A", (16, 4096), 3)
    assert host_state_bytes(choice("paged_adamw"), [large, small]) == 2 * 2 * 4 * 200_000
    assert host_state_bytes(choice("paged_adamw_8bit"), [large, small]) == 2 * 2 * 200_000
    assert host_state_bytes(choice("adamw_8bit"), [large, small]) == 0


def test_rounding_applies_to_each_tensor() -> None:
    bias = Tensors("bias", (3,), 5)
    assert state_bytes(choice("adamw", "float32", rounding=512), [bias]) == 5 * 2 * 512


def test_shards_split_each_tensor_upwards() -> None:
    weight = Tensors("weight", (10,), 1)
    assert state_bytes(choice("adamw", "float32"), [weight], shards=4) == 2 * 10


def test_foreach_copies_all_second_moments_and_fused_none() -> None:
    weights = [Tensors("weight", (100, 100), 3)]
    assert step_temporary_bytes(choice("adamw", "float32", "foreach"), weights, 4) == 3 * 40_000
    assert step_temporary_bytes(choice("adamw", "float32", "for_loop"), weights, 4) == 2 * 40_000
    assert step_temporary_bytes(choice("adamw", "float32", "fused"), weights, 4) == 0
    assert step_temporary_bytes(choice("adamw"), [], 4) == 0


def test_a_fused_step_moves_less_than_a_foreach_step() -> None:
    weights = [Tensors("weight", (100, 100), 3)]
    fused = traffic_bytes(choice("adamw", "float32", "fused"), weights, 4)
    assert fused == 30_000 * (3 * 4 + 2 * 2 * 4)
    assert traffic_bytes(choice("adamw", "float32", "foreach"), weights, 4) == 3 * fused
