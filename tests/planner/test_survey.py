"""Arrays of sizes give what one request after another gives, to the byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.architecture.registry import read_config
from planner.catalog.models import model
from planner.contract import Answer, EstimateRequest
from planner.errors import NotModelledError, PlanError
from planner.evaluation import VERDICTS, Survey, host_peak_bytes, prepare, survey
from planner.hardware import resolve_machine
from planner.plan import Plan, Points
from tests.planner.asking import LLAMA_8B, QWEN_MOE, TINY, answer, request

DEVICES = (
    ("nvidia-rtx-4090-24gb", 1),
    ("nvidia-h100-sxm-80gb", 4),
    ("amd-rx-7900-xtx-24gb", 1),
    ("apple-m4-max", 1),
    ("amd-mi300a-128gb", 1),
    ("intel-arc-a770-16gb", 1),
    ("amd-epyc-9654", 1),
)
MODELS = (
    LLAMA_8B,
    QWEN_MOE,
    "Qwen/Qwen2.5-0.5B",
    "google/gemma-2-9b",
    "mistralai/Mistral-7B-v0.1",
    "state-spaces/mamba-130m-hf",
)
METHODS = ("full", "lora", "qlora", "dora", "freeze")
LENGTHS = st.sampled_from([1, 100, 512, 2048, 4096, 5000, 32768])
POINT = st.tuples(st.integers(1, 24), LENGTHS, st.sampled_from([1, 8, 13, 64]))


@st.composite
def requests(draw: st.DrawFn) -> EstimateRequest:
    """A request without sizes; many of them are refused, which is drawn again."""
    device, count = draw(st.sampled_from(DEVICES))
    run: dict[str, Any] = {
        "method": draw(st.sampled_from(METHODS)),
        "framework": draw(st.sampled_from(["transformers", "trl", "torchtitan", "litgpt", "deepspeed"])),
        "optimizer": draw(st.sampled_from(["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd", "muon"])),
        "activation_checkpointing": draw(
            st.sampled_from(["none", "full", "selective_op", "selective_attention", {"every_nth": 3}])
        ),
        "loss": draw(st.sampled_from(["full_logits", "chunked", "fused_linear"])),
        "attention": draw(st.sampled_from(["sdpa", "eager"])),
        "gradient_accumulation_steps": draw(st.sampled_from([1, 4])),
        "allocator": draw(st.sampled_from(["native", "expandable_segments"])),
        "optimizer_in_backward": draw(st.booleans()),
        "parallelism": {"zero_stage": draw(st.sampled_from([0, 1, 2, 3]))},
    }
    machine = {"device_count": count, "host_memory_gib": draw(st.sampled_from([16, 64, 512])), "disk_free_gib": 100}
    return request(draw(st.sampled_from(MODELS)), device, machine=machine, **run)


def resolved(asked: EstimateRequest) -> Plan:
    spec = read_config(asked.model.config or model(asked.model.id or "").config)
    return prepare(asked, spec, resolve_machine(asked.machine))


def arrays(points: list[tuple[int, int, int]]) -> Points:
    return Points(*(np.array(axis) for axis in zip(*points, strict=True)))


def at(values: Any, index: int) -> Any:
    return np.broadcast_to(values, (index + 1,) if np.ndim(values) == 0 else np.shape(values))[index]


def with_sizes(asked: EstimateRequest, batch: int, sequence: int, rank: int) -> EstimateRequest:
    run = asked.run.model_dump(exclude_unset=True)
    sizes = {"micro_batch_size": batch, "sequence_length": sequence, "lora": {"rank": rank}}
    document = asked.model_dump(exclude_unset=True) | {"run": run | sizes}
    return EstimateRequest.model_validate(document)


def compare(plan: Plan, found: Survey, index: int, single: Answer) -> None:
    assert single.memory is not None
    device, sums = single.memory.device, found.totals
    assert {name: at(value, index) for name, value in sums.moments.items()} == {
        moment.name: moment.allocated_bytes for moment in device.moments
    }
    assert at(sums.peak_allocated_bytes, index) == device.peak_allocated_bytes
    assert at(sums.peak_process_bytes, index) == device.peak_process_bytes
    assert at(sums.required_bytes, index) == device.required_bytes
    assert tuple(at(end, index) for end in found.interval) == device.interval_bytes
    assert at(host_peak_bytes(plan, sums), index) == single.memory.host.peak_bytes
    assert at(sum(sums.disk_terms.values()), index) == single.memory.disk.needed_bytes
    assert VERDICTS[at(found.grades, index)] == single.verdict
    assert (found.time is None) == (single.throughput is None)
    if found.time is not None and single.throughput is not None:
        assert at(found.time.step_seconds, index) == pytest.approx(single.throughput.step_seconds, rel=1e-9)
        assert at(found.time.tokens_per_second, index) == pytest.approx(single.throughput.tokens_per_second, rel=1e-9)


@given(asked=requests(), points=st.lists(POINT, min_size=1, max_size=4))
@settings(max_examples=60)
def test_many_plans_at_once_need_what_each_needs(asked: EstimateRequest, points: list[tuple[int, int, int]]) -> None:
    try:
        plan = resolved(asked)
        found = survey(plan, arrays(points))
    except (PlanError, NotModelledError):
        return
    for index, point in enumerate(points):
        compare(plan, found, index, answer(with_sizes(asked, *point)))


def test_many_plans_beyond_4_pib_are_refused() -> None:
    plan = resolved(request(TINY, method="full", attention="eager"))
    with pytest.raises(OverflowError, match="4 PiB"):
        survey(plan, arrays([(2**20, 2**24, 1), (1, 7, 1)]))
