"""Which plans a trace covers, and what of a config.json transformers gets to see. No trace is run."""

from typing import Any

import pytest

from planner.architecture.registry import read_config
from planner.contract import EstimateRequest
from planner.hardware import all_devices, resolve_machine
from planner.plan import Plan, resolve
from planner.verify.coverage import NotVerifiable, buildable, settings_for
from planner.verify.settings import TraceSettings
from tests.planner.step.reduced import reduced_config
from tests.planner.verify import tiny

GPU = {"device": "nvidia-rtx-4090-24gb"}


def plan(run: dict[str, Any], machine: dict[str, Any] = GPU, config: dict[str, Any] = tiny.LLAMA) -> Plan:
    request = asked(run, machine)
    return resolve(request, read_config(config), resolve_machine(request.machine))


def asked(run: dict[str, Any], machine: dict[str, Any] = GPU) -> EstimateRequest:
    return EstimateRequest.model_validate({"model": {"id": "x"}, "machine": machine, "run": run})


def settings(run: dict[str, Any], machine: dict[str, Any] = GPU) -> TraceSettings:
    return settings_for(plan(run, machine), asked(run).run)


def test_a_plan_in_the_tracers_words() -> None:
    run = {
        "method": "qlora", "quantization": {"scheme": "int8"}, "lora": {"rank": 8, "target_modules": ["q_proj"]},
        "sequence_length": 512, "micro_batch_size": 3, "gradient_accumulation_steps": 16,
        "optimizer": "paged_adamw_8bit", "activation_checkpointing": {"every_nth": 2}, "attention": "eager",
        "loss": "chunked", "loss_chunks": 4, "weights_dtype": "float32", "compute_dtype": "bfloat16",
    }  # fmt: skip
    made = settings(run)
    assert (made.method, made.quantization, made.lora_rank, made.target_modules) == ("qlora", "int8", 8, ("q_proj",))
    assert (made.sequence_length, made.micro_batch_size, made.gradient_accumulation_steps) == (512, 3, 2)
    assert (made.optimizer, made.attention, made.loss, made.loss_chunks) == ("paged_adamw_8bit", "eager", "chunked", 4)
    assert (made.activation_checkpointing, made.checkpoint_every) == ("full", 2)
    assert made.autocast
    assert (made.target, made.rounding_bytes, made.fused_attention) == ("cuda", 512, True)


@pytest.mark.parametrize(
    ("family", "backward", "target", "fused"),
    [
        ("cuda", "yes", "cuda", True),
        ("rocm", "yes", "cuda", True),
        ("rocm", "no", "cuda", False),
        ("mps", "no", "cuda", False),
        ("cpu", "yes", "cpu", True),
    ],
)
def test_whose_kernels(family: str, backward: str, target: str, fused: bool) -> None:
    known = [item for item in all_devices() if item.supports.fused_attention_backward == backward]
    device = next(item for item in known if item.allocator_family == family)
    made = settings({"method": "lora"}, {"device": device.id})
    assert (made.target, made.fused_attention, made.library_scratch) == (target, fused, fused)
    assert made.rounding_bytes == device.allocation_rounding_bytes


@pytest.mark.parametrize(
    ("run", "machine", "field"),
    [
        ({"framework": "torchtune"}, GPU, "run.framework"),
        ({"framework": "deepspeed"}, GPU, "run.framework"),
        ({}, {**GPU, "device_count": 2}, "run.parallelism"),
        ({"method": "lora", "lora": {"modules_to_save": ["lm_head"]}}, GPU, "run.lora.modules_to_save"),
        ({}, {"device": "intel-arc-b580-12gb"}, "machine.device"),
    ],
)
def test_what_the_trace_does_not_run_is_refused_with_a_reason(
    run: dict[str, Any], machine: dict[str, Any], field: str
) -> None:
    with pytest.raises(NotVerifiable) as caught:
        settings_for(plan(run, machine), asked(run).run)
    assert (caught.value.reason.code, caught.value.reason.field) == ("not_verifiable", field)
    assert "trace" in caught.value.reason.message


@pytest.mark.parametrize(
    ("model_type", "run", "field"),
    [
        ("bert", {}, "model"),
        ("t5", {"objective": "sequence_classification"}, "run.objective"),
    ],
)
def test_what_is_no_generator_or_gets_another_head_is_refused(model_type: str, run: dict[str, Any], field: str) -> None:
    with pytest.raises(NotVerifiable) as caught:
        settings_for(plan(run, config=reduced_config(model_type)), asked(run).run)
    assert caught.value.reason.field == field


@pytest.mark.parametrize("model_type", ["t5", "mt5", "whisper", "mllama"])
def test_models_with_an_encoder_are_covered(model_type: str) -> None:
    run = {"sequence_length": 256}
    assert settings_for(plan(run, config=reduced_config(model_type)), asked(run).run).layers_override is None


def test_transformers_sees_shapes_alone() -> None:
    config = {
        **tiny.LLAMA, "auto_map": {"AutoModel": "evil--code.Model"}, "quantization_config": {"quant_method": "fp8"},
        "_attn_implementation": "evil/kernel", "attn_implementation": "evil/kernel", "torch_dtype": "float8_e4m3fn",
    }  # fmt: skip
    assert buildable(config) == tiny.LLAMA


def test_a_type_without_a_class_has_a_named_proxy() -> None:
    assert buildable({"model_type": "kimi_k2", "a": 1}) == {"model_type": "deepseek_v3", "a": 1}
