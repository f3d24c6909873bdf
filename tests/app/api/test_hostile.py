"""Requests that mean harm or come from a broken program, put to the real engine: an answer or a problem, at once."""

from __future__ import annotations

import json
import resource
import time
from typing import Any

import pytest
from starlette.testclient import TestClient

ADDRESS = "/api/v1/estimates?advice=none"
LIMIT_SECONDS = 3.0  # tells a hang from a busy machine; how fast it is, the benchmarks say
"""The promise is 100 ms; a first question also fills caches, and cores that are shared run slower."""
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
DEVICE = {"device": "nvidia-rtx-4090-24gb"}
HOSTILE: dict[str, dict[str, Any]] = {
    "a billion layers": {"num_hidden_layers": 10**9},
    "negative layers": {"num_hidden_layers": -1},
    "a negative width": {"hidden_size": -4096},
    "no width": {"hidden_size": 0},
    "a fractional width": {"hidden_size": 4096.5},
    "text for a number": {"hidden_size": "4096"},
    "a flag for a number": {"hidden_size": True},
    "a list for a number": {"hidden_size": [4096]},
    "an object for a number": {"hidden_size": {"a": 1}},
    "null for a number": {"hidden_size": None},
    "an enormous number": {"vocab_size": 10**400},
    "heads that do not divide": {"num_attention_heads": 7},
    "an unknown type": {"model_type": "x" * 10_000},
    "a number for the type": {"model_type": 5},
    "an object for the type": {"model_type": {"a": 1}},
    "code": {"auto_map": {"AutoModelForCausalLM": "evil.Model"}, "trust_remote_code": True},
    "a quantization of nonsense": {"quantization_config": "yes"},
    "a dtype of nonsense": {"torch_dtype": 5},
    "ten thousand unknown fields": {f"field_{number}": number for number in range(10_000)},
    "deep nesting": {"x": json.loads("[" * 150 + "]" * 150)},
}


def post(client: TestClient, body: Any) -> tuple[int, dict[str, Any], float]:
    text = json.dumps(body)
    began = time.process_time()  # of this process, whatever else the machine does
    answer = client.post(ADDRESS, content=text, headers={"content-type": "application/json"})
    return answer.status_code, answer.json(), time.process_time() - began


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_config_is_answered_at_once(real_client: TestClient, change: dict[str, Any]) -> None:
    post(real_client, {"model": {"config": LLAMA}, "machine": DEVICE})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status, body, seconds = post(real_client, {"model": {"config": {**LLAMA, **change}}, "machine": DEVICE})
    assert status in (200, 400, 422)
    if status != 200:
        assert body["code"]
        assert body["detail"]
    assert seconds < LIMIT_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


@pytest.mark.parametrize("name", sorted(LLAMA))
@pytest.mark.parametrize("value", [None, -1, 0, 1, 2**40, 0.5, "x", [], {}, True])
def test_any_value_in_any_field_is_answered(real_client: TestClient, name: str, value: Any) -> None:
    status, body, _ = post(real_client, {"model": {"config": {**LLAMA, name: value}}, "machine": DEVICE})
    assert status in (200, 422), body


@pytest.mark.parametrize(
    "run",
    [
        {"sequence_length": 2**24, "micro_batch_size": 2**20, "gradient_accumulation_steps": 2**20},
        {"method": "lora", "lora": {"rank": 65536}},
        {"method": "lora", "lora": {"target_modules": []}},
        {"method": "lora", "lora": {"target_modules": ["nothing"] * 100}},
        {"method": "freeze", "freeze": {"trainable_layers": 100_000}},
        {"method": "freeze", "freeze": {"trainable_layers": 0}},
        {"tokens": 10**18},
        {"examples": 10**15, "epochs": 1e6},
        {"parallelism": {"tensor": 2**31 - 1}},
        {"parallelism": {"data": 2**31 - 1, "zero_stage": 3}},
        {"objective": "sequence_classification", "num_labels": 1_000_000},
        {"activation_checkpointing": {"every_nth": 100_000}},
        {"framework": "🔥"},
    ],
    ids=str,
)
def test_extreme_runs_are_answered(real_client: TestClient, run: dict[str, Any]) -> None:
    status, body, seconds = post(real_client, {"model": {"config": LLAMA}, "machine": DEVICE, "run": run})
    assert status in (200, 422), body
    assert seconds < LIMIT_SECONDS


@pytest.mark.parametrize(
    "machine",
    [
        {"device": "nvidia-rtx-4090-24gb", "device_count": 65536},
        {"device": {"memory_gib": 2**30, "memory_bandwidth_gb_s": 1e6}},
        {"device": {"memory_gib": 1e-9, "memory_bandwidth_gb_s": 1e-9}},
        {"device": {"memory_gib": 1, "memory_bandwidth_gb_s": 1, "kind": "cpu", "tflops_float32": 1e-9}},
        {"device": "nvidia-rtx-4090-24gb", "device_memory_gib": 1e-300, "host_memory_gib": 1e-300, "disk_free_gib": 0},
        {"device": "../../etc/passwd"},
        {"device": "\x00"},
    ],
    ids=str,
)
def test_extreme_machines_are_answered(real_client: TestClient, machine: dict[str, Any]) -> None:
    status, body, _ = post(real_client, {"model": {"config": LLAMA}, "machine": machine})
    assert status in (200, 422), body
