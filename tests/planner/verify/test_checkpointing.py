"""Which blocks and which operations are recomputed."""

from dataclasses import replace

import pytest

from planner.verify.settings import TraceSettings
from planner.verify.timeline import Trace
from planner.verify.trace import trace_step
from tests.planner.verify import tiny

pytestmark = pytest.mark.slow

FULL = TraceSettings(
    sequence_length=64, micro_batch_size=2, lora_rank=4, rounding_bytes=1, activation_checkpointing="full"
)
FOUR = {**tiny.LLAMA, "num_hidden_layers": 4}


def recomputed(trace: Trace, op: str, shape: tuple[int, ...]) -> int:
    """How many storages of that kind the second step's backward makes outside its own nodes."""
    return sum(
        r.op == op and r.shape == shape and r.moment == "backward" and not r.in_backward_node and r.born >= trace.first
        for r in trace.records
    )


def activations(trace: Trace) -> int:
    return trace.bytes_by_term(trace.moment_peaks()["loss"])["activations"]


def test_every_second_block_is_recomputed() -> None:
    trace = trace_step(FOUR, replace(FULL, checkpoint_every=2))
    assert recomputed(trace, "mm", (128, 176)) == 2 * 2
    assert recomputed(trace_step(FOUR, FULL), "mm", (128, 176)) == 4 * 2


def test_activations_lie_between_none_and_full() -> None:
    none, every, full = (
        activations(trace_step(FOUR, settings))
        for settings in (replace(FULL, activation_checkpointing="none"), replace(FULL, checkpoint_every=2), FULL)
    )
    assert full < every < none
    # Half of the blocks keep all; rotary tables and the embedding's output are shared.
    assert every == pytest.approx((none + full) / 2, rel=0.02)


def test_selected_operations_are_not_run_again() -> None:
    trace = trace_step(FOUR, replace(FULL, activation_checkpointing="selective_op"))
    # q, k, v, o, gate, up, down: the first, third, fifth and seventh are kept, so up alone of [128, 176] runs again.
    assert recomputed(trace, "mm", (128, 176)) == 4
    attention = "_scaled_dot_product_flash_attention"
    assert sum(r.op == attention and r.moment == "backward" for r in trace.records) == 0


def test_selected_operations_cost_what_they_keep() -> None:
    selective = activations(trace_step(FOUR, replace(FULL, activation_checkpointing="selective_op")))
    full = activations(trace_step(FOUR, FULL))
    tokens = 128
    # A block more than its input: q [64], v [32], attention's output [64] with its log-sum-exp, gate [176], down [64].
    kept = 2 * tokens * (64 + 32 + 64 + 176 + 64) + 4 * tokens * 4
    assert selective - full == pytest.approx(4 * kept, rel=0.02)
