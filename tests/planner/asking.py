"""How the tests of the engine ask: short requests, answers of the real engine."""

from __future__ import annotations

from typing import Any

from planner.catalog.models import model
from planner.contract import Answer, EstimateRequest
from planner.estimate import estimate
from planner.hardware import resolve_machine

LLAMA_8B = "meta-llama/Llama-3.1-8B"
LLAMA_2_7B = "meta-llama/Llama-2-7b-hf"
QWEN_MOE = "Qwen/Qwen3-30B-A3B"
LONGCAT = "meituan-longcat/LongCat-Flash-Chat"
RTX_4090 = "nvidia-rtx-4090-24gb"
H100 = "nvidia-h100-sxm-80gb"
MIB = 2**20
GIB = 2**30

TINY = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}


def request(model_id: str | dict[str, Any] = LLAMA_8B, device: str = H100, **run: Any) -> EstimateRequest:
    """A request; `machine` among the keywords adds to the machine."""
    machine = {"device": device, **run.pop("machine", {})}
    reference = {"id": model_id} if isinstance(model_id, str) else {"config": model_id}
    return EstimateRequest.model_validate({"model": reference, "machine": machine, "run": run})


def answer(asked: EstimateRequest, *, advice: bool = False) -> Answer:
    """The engine's answer to a request."""
    config = asked.model.config if asked.model.config is not None else model(asked.model.id or "").config
    return estimate(asked, config=config, machine=resolve_machine(asked.machine), advice=advice)


def ask(model_id: str | dict[str, Any] = LLAMA_8B, device: str = H100, *, advice: bool = False, **run: Any) -> Answer:
    """Request and answer in one."""
    return answer(request(model_id, device, **run), advice=advice)


def terms(given: Answer) -> dict[str, int]:
    """The terms of an answer."""
    assert given.memory is not None
    return given.memory.device.terms.model_dump()


def peak(given: Answer) -> int:
    """Allocated bytes at the step's peak."""
    assert given.memory is not None
    return given.memory.device.peak_allocated_bytes


def required(given: Answer) -> int:
    """Required bytes."""
    assert given.memory is not None
    return given.memory.device.required_bytes


def moments(given: Answer) -> dict[str, int]:
    """Allocated bytes by moment."""
    assert given.memory is not None
    return {moment.name: moment.allocated_bytes for moment in given.memory.device.moments}
