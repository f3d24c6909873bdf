"""Chunked and fused losses, and classification."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from planner.verify.losses import chunk_rows
from planner.verify.settings import TraceSettings
from planner.verify.timeline import Trace
from planner.verify.trace import trace_step
from tests.planner.verify import tiny

pytestmark = pytest.mark.slow

SMALL = TraceSettings(sequence_length=64, micro_batch_size=2, lora_rank=4, rounding_bytes=1)
LOGITS = 2 * 64 * tiny.VOCABULARY


def logits_and_loss(trace: Trace) -> int:
    return max(trace.bytes_by_term(i)["logits_and_loss"] for i in range(trace.first, trace.last))


def test_chunks_are_upcast_one_at_a_time() -> None:
    # Seven chunks are done when the eighth is at work: 16-bit logits of all, log-softmax of all, one upcast.
    trace = trace_step(tiny.LLAMA, replace(SMALL, loss="chunked"))
    assert logits_and_loss(trace) == 2 * LOGITS + 4 * LOGITS + 4 * LOGITS // 8


def test_fused_loss_holds_two_chunks_of_logits() -> None:
    # The old chunk still has its name when the new one is made.
    trace = trace_step(tiny.LLAMA, replace(SMALL, loss="fused_linear"))
    assert logits_and_loss(trace) == 2 * 2 * 16 * tiny.VOCABULARY


@pytest.mark.parametrize(
    ("tokens", "vocabulary", "width", "rows"), [(16384, 32000, 4096, 2048), (2048, 128256, 4096, 64)]
)
def test_chunks_of_the_fused_loss_are_powers_of_two(tokens: int, vocabulary: int, width: int, rows: int) -> None:
    hidden, weight = (torch.empty(shape, device="meta") for shape in ((tokens, width), (vocabulary, width)))
    assert chunk_rows(hidden, weight) == rows


def test_a_frozen_head_has_no_gradient_in_the_fused_loss() -> None:
    trace = trace_step(tiny.LLAMA, replace(SMALL, loss="fused_linear", method="lora"))
    made = [r for r in trace.records if r.moment == "loss" and r.shape == (tiny.VOCABULARY, 64)]
    assert made == []


@pytest.mark.parametrize("loss", ["chunked", "fused_linear"])
@pytest.mark.parametrize("config", [tiny.GEMMA2, tiny.GPT2, tiny.QWEN3_MOE])
def test_other_families_take_them_too(loss: Any, config: dict[str, Any]) -> None:
    trace = trace_step(config, replace(SMALL, loss=loss, weights_dtype="float32"))
    assert trace.peak_bytes == sum(trace.bytes_by_term_at_peak.values())


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_a_classifier_has_scores_in_the_place_of_logits(method: Any) -> None:
    trace = trace_step(tiny.LLAMA, replace(SMALL, method=method, objective="sequence_classification", num_labels=3))
    assert not any(record.shape[-1:] == (tiny.VOCABULARY,) for record in trace.records if record.shape)
    scores = [r for r in trace.records if r.shape[-1:] == (3,) and r.moment == "loss" and r.label == "logits_and_loss"]
    assert scores
    heads = [r.label for r in trace.records if r.op == "load" and r.shape == (3, 64)]
    assert heads == (["weights"] if method == "full" else ["weights", "adapters"])
