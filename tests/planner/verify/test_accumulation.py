"""Sums of gradients: the trace against a real step on the CPU, allocation by allocation."""

from __future__ import annotations

from typing import Any

import pytest

from tests.planner.step.reduced import reduced_config

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

LAYERS = {"mamba": (2, 64), "llama": (2, 128), "deepseek_v3": (2, 64)}


def allocated_peak(step: Any) -> int:
    """The highest sum of allocations and frees that torch's profiler saw."""
    from torch._C._profiler import _EventType  # pyright: ignore
    from torch.profiler import ProfilerActivity, profile
    from torch.profiler._utils import traverse_dfs

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    tree: Any = profiled.profiler.kineto_results.experimental_event_tree()  # pyright: ignore
    events: list[Any] = [event for event in traverse_dfs(tree) if event.tag == _EventType.Allocation]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_time_ns):
        live += event.extra_fields.alloc_size
        peak = max(peak, live)
    return peak


@pytest.mark.parametrize("model_type", LAYERS)
def test_a_traced_step_has_the_peak_of_a_real_one(model_type: str) -> None:
    import torch

    from planner.verify.build import build_model
    from planner.verify.settings import TraceSettings
    from planner.verify.trace import trace_step

    layers, sequence = LAYERS[model_type]
    config = reduced_config(model_type, layers, experts=8)
    settings = TraceSettings(
        sequence_length=sequence, target="cpu", rounding_bytes=1, library_scratch=False, optimizer="sgd",
        weights_dtype="float32", compute_dtype="float32", max_grad_norm=0,
    )  # fmt: skip
    trace = trace_step(config, settings)
    instants = [instant for moment, instant in trace.moment_peaks().items() if moment != "optimizer_step"]
    traced = max(trace.live_bytes[instant] - trace.bytes_by_term(instant)["weights"] for instant in instants)
    model: Any = build_model(config, settings).to_empty(device="cpu")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter.data, std=0.02)
    tokens = torch.randint(1, 100, (1, sequence))

    def step() -> None:
        model(input_ids=tokens, labels=tokens, num_items_in_batch=torch.tensor(3)).loss.backward()

    step()
    model.zero_grad()
    assert traced == pytest.approx(allocated_peak(step), rel=1e-3)
