"""What is sent as JSON is the checked answer, though no one checked it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.plans import Plans
from app.settings import Settings
from planner.catalog.models import model
from planner.contract import EstimateRequest
from tests.app.conftest import fake_machine, unreachable_hub

LLAMA = {"id": "meta-llama/Llama-3.1-8B"}
RTX = {"device": "nvidia-rtx-4090-24gb", "host_memory_gib": 64, "disk_free_gib": 500}
ASKED: list[dict[str, Any]] = [
    {"model": LLAMA, "machine": RTX, "run": {"method": "qlora", "tokens": 10**9}},
    {"model": LLAMA, "machine": RTX, "run": {"method": "full"}},
    {"model": LLAMA, "run": {"method": "lora", "lora": {"target_modules": ["q_proj"]}}},
    {"model": LLAMA, "machine": {"offer": "runpod-rtx-4090-secure", "spot": True}, "run": {"tokens": 1}},
    {"model": LLAMA, "machine": {"device": "nvidia-h100-sxm-80gb", "device_count": 8}, "run": {"compile": True}},
    {"model": LLAMA, "machine": {"device": {"name": "mine", "memory_gib": 24, "memory_bandwidth_gb_s": 500}}},
    {"model": {"config": {"model_type": "nobody-knows"}}, "machine": RTX},
    {"model": {"config": {**model("Qwen/Qwen2.5-0.5B").config, "auto_map": {"AutoModel": "own.Own"}}}, "machine": RTX},
    {"model": {"id": "meituan-longcat/LongCat-Flash-Chat"}, "machine": {"device": "nvidia-b200-180gb"}},
]


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Plans:
    settings = Settings(data_dir=tmp_path_factory.mktemp("plans"))
    return Plans(settings, look=fake_machine, hub=unreachable_hub(settings))


@pytest.mark.parametrize("advice", [False, True])
@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: str(asked["model"].get("id", "config")))
def test_the_json_is_that_of_the_checked_answer(plans: Plans, asked: dict[str, Any], advice: bool) -> None:
    request = EstimateRequest.model_validate(asked)
    sent, checked = plans.answer_json(plans.plan(request), advice=advice), plans.answer(request, advice=advice)
    assert json.loads(sent) == json.loads(checked.model_dump_json())
