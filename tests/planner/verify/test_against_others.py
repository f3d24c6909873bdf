"""The same peak as torch's own tracker, and as the allocator's events of a real step on this CPU."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.mem_tracker import tracker_peak
from planner.verify.build import build_model
from planner.verify.settings import TraceSettings
from planner.verify.step import TrainingStep, no_garbage_collection
from planner.verify.storages import StorageTracker
from planner.verify.trace import trace_step
from tests.planner.verify import tiny

pytestmark = pytest.mark.slow


# Long enough for 5,056 bytes to be little: a checkpoint keeps the CPU generator's state, which no dispatcher sees.
ON_CPU = TraceSettings(target="cpu", rounding_bytes=1, sequence_length=256, micro_batch_size=2, lora_rank=4)
FLOAT32 = replace(ON_CPU, weights_dtype="float32", compute_dtype="float32")
MARK_BYTES = 7_777_777


def give_real_storages(model: nn.Module) -> None:
    """Small random weights in the place of meta ones; tied ones once."""
    replaced: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is not None:
                    table[name] = replaced.setdefault(id(tensor), real_like(tensor, name))  # type: ignore[assignment]


def real_like(tensor: torch.Tensor, name: str) -> torch.Tensor:
    made = torch.full(tensor.shape, 0.01, dtype=tensor.dtype)
    if isinstance(tensor, nn.Parameter):
        if "inv_freq" not in name:
            made.normal_(0.0, 0.02)
        return nn.Parameter(made, requires_grad=tensor.requires_grad)
    return made


class RealStep(TrainingStep):
    def make_batch(self) -> dict[str, torch.Tensor]:
        return {name: tensor.random_(3, tiny.VOCABULARY) for name, tensor in super().make_batch().items()}


def measured_peak(config: dict[str, Any], settings: TraceSettings) -> int:
    """The highest sum of the CPU allocator's events in the second step of a real run."""
    model = build_model(config, settings)
    with no_garbage_collection(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        give_real_storages(model)
        step = RealStep(model, settings, StorageTracker(1, None))
        step.run()
        torch.empty(MARK_BYTES, dtype=torch.uint8)
        step.run()
    kineto: Any = profiler.profiler
    events = [event for event in kineto.kineto_results.events() if event.name() == "[memory]"]
    return peak_after_mark([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])


def peak_after_mark(sizes: list[int]) -> int:
    live = peak = 0
    marked = False
    for size in sizes:
        if abs(size) == MARK_BYTES:
            marked = True
            continue
        live += size
        peak = max(peak, live) if marked else 0
    return peak


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("config", [tiny.LLAMA, tiny.QWEN3, tiny.GPT2, tiny.GEMMA2, tiny.QWEN3_MOE])
@pytest.mark.parametrize(
    "settings",
    [
        FLOAT32,
        replace(FLOAT32, activation_checkpointing="full", optimizer_impl="for_loop"),
        replace(ON_CPU, method="lora"),
    ],
)
def test_a_real_step_has_the_traced_peak(config: dict[str, Any], settings: TraceSettings) -> None:
    traced, measured = trace_step(config, settings).peak_bytes, measured_peak(config, settings)
    assert traced == pytest.approx(measured, rel=0.001)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("settings", [ON_CPU, replace(ON_CPU, activation_checkpointing="full")])
def test_torchs_tracker_finds_the_same_peak(settings: TraceSettings) -> None:
    settings = replace(settings, library_scratch=False)
    traced = trace_step(tiny.LLAMA, settings).peak_bytes
    assert traced == pytest.approx(tracker_peak(tiny.LLAMA, settings), rel=0.001)
