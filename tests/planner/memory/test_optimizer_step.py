"""What an optimizer step holds for its own work, against traces of the real optimizers."""

from __future__ import annotations

from typing import Any

import pytest

from planner.architecture.registry import read_config
from planner.memory.optimizer import OptimizerChoice, step_temporary_bytes
from planner.memory.tensors import Tensors, trained
from planner.step.rules import BYTES, StepRules
from tests.planner.verify import tiny

WIDE_HEAD = {**tiny.LLAMA, "vocab_size": 1024}
WIDE_BLOCKS = {**tiny.LLAMA, "vocab_size": 16, "intermediate_size": 1024}
BATCH_BYTES = 2 * 512  # token ids and labels of [1, 32], which the training loop's list still holds


def choice(name: str, implementation: str, state_dtype: str) -> OptimizerChoice:
    return OptimizerChoice(name, implementation, state_dtype, True, False, 512)


def traced(config: dict[str, Any], name: str, implementation: Any, dtype: str) -> int:
    from planner.verify.settings import TraceSettings
    from planner.verify.trace import trace_step

    chosen: Any = name
    settings = TraceSettings(
        sequence_length=32, max_grad_norm=0.0, optimizer=chosen, optimizer_impl=implementation,
        weights_dtype=dtype, compute_dtype=dtype,
    )  # fmt: skip
    trace = trace_step(config, settings)
    return trace.bytes_by_term(trace.moment_peaks()["optimizer_step"])["temporaries"] - BATCH_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("config", [WIDE_HEAD, WIDE_BLOCKS], ids=["head", "blocks"])
@pytest.mark.parametrize(
    ("name", "implementation"),
    [
        ("adamw", "for_loop"),
        ("adamw", "foreach"),
        ("adamw", "fused"),
        ("adafactor", "for_loop"),
        ("muon", "for_loop"),
        ("muon", "foreach"),
        ("sgd", "foreach"),
        ("sgd_momentum", "for_loop"),
        ("lion", "fused"),
    ],
)
def test_temporaries_are_those_of_the_real_step(
    config: dict[str, Any], name: str, implementation: str, dtype: str
) -> None:
    state_dtype = "float32" if name in {"adafactor", "lion"} else dtype
    rules = StepRules("full", dtype, dtype, dtype)
    tensors = trained(read_config(config), rules, 0)
    estimated = step_temporary_bytes(choice(name, implementation, state_dtype), tensors, BYTES[dtype])
    # The norms' own group, whose copies a foreach step doesn't hold at the same time, is all the difference.
    assert estimated == pytest.approx(traced(config, name, implementation, dtype), abs=5 * 512)


def test_the_loop_still_holds_the_tensor_before() -> None:
    table, head = Tensors("embed_tokens", (50, 20), 1, embedding=True), Tensors("lm_head", (50, 20), 1)
    gate, up = (Tensors(name, (30, 20), 4, hidden_matrix=True) for name in ("gate_proj", "up_proj"))
    adamw = OptimizerChoice("adamw", "for_loop", "float32", False, False, 1)
    assert step_temporary_bytes(adamw, [table], 4) == 2 * 4000
    assert step_temporary_bytes(adamw, [table, gate, up], 4) == 2 * 4000
    assert step_temporary_bytes(adamw, [gate, up], 4) == 3 * 2400
    assert step_temporary_bytes(adamw, [table, gate, up, head], 4) == 2 * 4000 + 2400


def test_muon_leaves_tables_to_adamw() -> None:
    table, head = Tensors("embed_tokens", (500, 20), 1, embedding=True), Tensors("lm_head", (500, 20), 1)
    matrix = Tensors("up_proj", (30, 20), 4, hidden_matrix=True)
    for_loop = OptimizerChoice("muon", "for_loop", "float32", False, False, 1)
    fused = OptimizerChoice("muon", "fused", "float32", False, False, 1)
    assert step_temporary_bytes(for_loop, [table, matrix, head], 4) == 3 * 40_000
    assert step_temporary_bytes(fused, [table, matrix, head], 4) == 600 * (4 + 2 + 2) + 2 * 2 * 400
