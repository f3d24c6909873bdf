"""The closed form of a step against the trace of the same step, for what a run can add to the plain one."""

from dataclasses import replace
from typing import Any

import pytest

from planner.architecture.registry import read_config
from planner.step.compiler import compile_step
from planner.step.rules import StepRules
from planner.verify.settings import TraceSettings
from planner.verify.trace import trace_step
from tests.planner.verify import tiny

pytestmark = pytest.mark.slow

# Widths of a real 8 B model, so that no rounding and no small tensor matters.
WIDE: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 4,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, **tiny.TOKENS,
}  # fmt: skip
STANDING = ("weights", "adapters", "quantization_state", "optimizer_states")
FULL = TraceSettings(optimizer_impl="fused")
LORA = replace(FULL, method="lora")
QLORA = replace(FULL, method="qlora")


def estimated_peak(settings: TraceSettings, config: dict[str, Any] = WIDE) -> int:
    rules = StepRules(
        settings.method, settings.weights_dtype, settings.compute_dtype, settings.weights_dtype,
        scheme=settings.quantization if settings.method == "qlora" else None,
        checkpointing=settings.activation_checkpointing,
        checkpoint_every=0 if settings.activation_checkpointing == "none" else settings.checkpoint_every,
        loss=settings.loss, loss_chunks=settings.loss_chunks, objective=settings.objective,
        optimizer_in_backward=settings.optimizer_in_backward,
    )  # fmt: skip
    program = compile_step(read_config(config), rules)
    sizes = program.storage_bytes(settings.micro_batch_size, settings.sequence_length, settings.lora_rank, 512)
    return int(program.instant_bytes(sizes).max())


def traced_peak(settings: TraceSettings, config: dict[str, Any] = WIDE) -> int:
    """What forward, loss and backward hold at their highest beside what stands through the step."""
    trace = trace_step(config, settings)
    highest = 0
    for moment, instant in trace.moment_peaks().items():
        if moment != "optimizer_step":
            terms = trace.bytes_by_term(instant)
            highest = max(highest, trace.live_bytes[instant] - sum(terms[term] for term in STANDING))
    return highest


CASES: list[tuple[TraceSettings, float]] = [
    (QLORA, 0.001),
    (replace(QLORA, activation_checkpointing="full"), 0.01),
    (replace(QLORA, quantization="int8"), 0.001),
    (replace(QLORA, quantization="int8", activation_checkpointing="full"), 0.03),
    (replace(FULL, activation_checkpointing="full", checkpoint_every=2, sequence_length=4096), 0.001),
    (replace(LORA, activation_checkpointing="full", checkpoint_every=2), 0.001),
    (replace(FULL, activation_checkpointing="full", loss="chunked", micro_batch_size=8), 0.001),
    (replace(LORA, loss="chunked"), 0.01),
    (replace(FULL, activation_checkpointing="full", loss="fused_linear", micro_batch_size=4), 0.001),
    (replace(FULL, activation_checkpointing="full", optimizer_in_backward=True), 0.001),
    (replace(FULL, objective="sequence_classification"), 0.001),
]


@pytest.mark.parametrize(("settings", "tolerance"), CASES)
def test_the_closed_form_meets_the_trace(settings: TraceSettings, tolerance: float) -> None:
    assert estimated_peak(settings) == pytest.approx(traced_peak(settings), rel=tolerance)


@pytest.mark.parametrize(("loss", "tolerance"), [("fused_linear", 0.001), ("chunked", 0.03)])
def test_a_trained_head_gathers_its_gradient_from_chunks(loss: Any, tolerance: float) -> None:
    config = {**WIDE, "vocab_size": 128256}
    settings = replace(FULL, loss=loss)
    assert estimated_peak(settings, config) == pytest.approx(traced_peak(settings, config), rel=tolerance)
