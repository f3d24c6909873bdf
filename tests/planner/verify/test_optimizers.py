"""bitsandbytes' states, and an optimizer that steps inside backward."""

from dataclasses import replace

import pytest

from planner.verify.settings import TraceSettings
from planner.verify.timeline import Trace
from planner.verify.trace import trace_step
from tests.planner.verify import tiny

pytestmark = pytest.mark.slow

SMALL = TraceSettings(sequence_length=64, micro_batch_size=2, lora_rank=4, rounding_bytes=1)
EMBEDDING = tiny.VOCABULARY * 64
HEAD = EMBEDDING
# Elements of the blocks' matrices under and from 4,096 elements, and of the norms.
SMALL_MATRICES = 2 * 2 * 32 * 64
LARGE_MATRICES = 2 * (2 * 64 * 64 + 3 * 64 * 176)
NORMS = 5 * 64
ALL = EMBEDDING + HEAD + SMALL_MATRICES + LARGE_MATRICES + NORMS


def states(trace: Trace) -> int:
    return trace.bytes_by_term(trace.moment_peaks()["forward"])["optimizer_states"]


def test_eight_bit_moments_have_scales_and_leave_embedding_and_small_tensors_alone() -> None:
    narrow = HEAD + LARGE_MATRICES
    wide = EMBEDDING + SMALL_MATRICES + NORMS
    trace = trace_step(tiny.LLAMA, replace(SMALL, optimizer="adamw_8bit"))
    assert states(trace) == 2 * (narrow + 4 * narrow // 256) + 2 * 4 * wide + 2 * 1024


def test_lion_keeps_one_float32_moment() -> None:
    assert states(trace_step(tiny.LLAMA, replace(SMALL, optimizer="lion"))) == 4 * ALL


def test_paged_moments_of_large_tensors_leave_the_device() -> None:
    config = {**tiny.LLAMA, "vocab_size": 2048}  # 131,072 elements: embedding and head are paged
    trace = trace_step(config, replace(SMALL, optimizer="paged_adamw"))
    assert states(trace) == 2 * 4 * (ALL - EMBEDDING - HEAD)
    assert sum(r.label == "host" for r in trace.records) == 2 * 2


def test_nothing_is_made_beside_the_states() -> None:
    trace = trace_step(tiny.LLAMA, replace(SMALL, optimizer="adamw_8bit", max_grad_norm=0.0))
    at_step = trace.bytes_by_term(trace.moment_peaks()["optimizer_step"])
    assert at_step["temporaries"] <= 2 * 2 * 64 * 8  # the batch


def test_gradients_go_as_soon_as_they_are_used() -> None:
    at_end = trace_step(tiny.LLAMA, SMALL)
    at_once = trace_step(tiny.LLAMA, replace(SMALL, optimizer_in_backward=True, optimizer_impl="fused"))
    highest = [
        max(trace.bytes_by_term(instant)["gradients"] for instant in range(trace.first, trace.last))
        for trace in (at_end, at_once)
    ]
    assert highest == [2 * ALL, 2 * EMBEDDING]
    assert not any(r.moment == "optimizer_step" for r in at_once.records)
    assert states(at_once) == 4 * ALL + 4 * 21
