"""A step's time by the curves of a calibration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from planner.contract import EstimateRequest
from planner.estimate import estimate, sha256_of, spec_of
from planner.evaluation import Evaluation, evaluate
from planner.hardware import Machine, resolve_machine
from planner.hardware.calibration import Calibration, Curve
from tests.planner.throughput.calibrations import BYTES, FLOPS, flat_calibration, phase

CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 8000, "tie_word_embeddings": False,
}  # fmt: skip
EXPERTS: dict[str, Any] = CONFIG | {
    "model_type": "qwen3_moe", "head_dim": 64, "num_experts": 8, "num_experts_per_tok": 2,
    "moe_intermediate_size": 256, "norm_topk_prob": True,
}  # fmt: skip
MATRICES = 6 * (256 * 256 * 2 + 256 * 128 * 2 + 3 * 256 * 688) + 256 * 8000
TOKENS = 2 * 128


def machine(calibration: Calibration | None) -> Machine:
    seen = resolve_machine(request().machine)
    return replace(seen, calibration=calibration)


def request(config: dict[str, Any] = CONFIG, **run: Any) -> EstimateRequest:
    settings = {"method": "full", "weights_dtype": "float32", "compute_dtype": "float32", "sequence_length": 128,
                "micro_batch_size": 2}  # fmt: skip
    place = {"device": "amd-ryzen-7950x", "host_memory_gib": 64}
    return EstimateRequest.model_validate({"model": {"config": config}, "machine": place, "run": settings | run})


def timed(config: dict[str, Any] = CONFIG, calibration: Calibration | None = None, **run: Any) -> Evaluation:
    asked = request(config, **run)
    return evaluate(asked, spec_of(config, sha256_of(config)), machine(calibration or flat_calibration()))


def seconds(name: str, evaluation: Evaluation) -> float:
    assert evaluation.time is not None
    return sum(each.seconds for each in evaluation.time.operations if each.operation == name)


def test_a_curve_is_straight_in_logarithms_and_flat_beyond_its_ends() -> None:
    curve = Curve(operation="matmul", dtype="float32", form="forward", variable="flops", sizes=[1e3, 1e5],
                  rates=[1e9, 1e11], low=[1, 1], high=[1, 1])  # fmt: skip
    assert float(curve.rate(1e4)) == pytest.approx(1e10)
    assert [float(value) for value in curve.rate(np.array([1.0, 1e9]))] == pytest.approx([1e9, 1e11])


def test_products_take_their_flops_over_the_rate() -> None:
    """Full training computes each matrix three times: forward and both gradients."""
    assert seconds("matmul", timed()) == pytest.approx(3 * 2 * MATRICES * TOKENS / FLOPS)


def test_lora_has_no_gradient_of_the_frozen_weights() -> None:
    full, lora = seconds("matmul", timed()), seconds("matmul", timed(method="lora"))
    adapters = 16 * 6 * (4 * 256 + 256 * 2 + 128 * 2 + 3 * (256 + 688)) * 2 * 3 * TOKENS / FLOPS
    assert lora == pytest.approx(full * 2 / 3 + adapters, rel=0.05)


def test_checkpointing_runs_the_blocks_forward_again_in_backward() -> None:
    plain, again = timed().time, timed(activation_checkpointing="full").time
    assert plain is not None
    assert again is not None
    assert again.phases["forward"] == pytest.approx(plain.phases["forward"])
    blocks = (MATRICES - 256 * 8000) * 2 * TOKENS / FLOPS
    assert again.phases["backward"] - plain.phases["backward"] > blocks
    assert again.phases["optimizer_step"] == plain.phases["optimizer_step"]


def test_only_the_chosen_experts_compute() -> None:
    """Two of eight experts for each token: a quarter of their matrices."""
    two = seconds("matmul", timed(EXPERTS))
    four = seconds("matmul", timed(EXPERTS | {"num_experts_per_tok": 4}))
    assert four - two == pytest.approx(6 * 2 * 3 * 256 * 256 * 3 * 2 * TOKENS / FLOPS)


def test_attention_grows_with_the_square_of_the_length() -> None:
    short, long = (seconds("attention", timed(sequence_length=length)) for length in (256, 512))
    assert long == pytest.approx(4 * short)


def test_the_optimizer_moves_its_bytes() -> None:
    evaluation = timed()
    traffic = evaluation.ledger.resident.optimizer_traffic
    assert seconds("optimizer", evaluation) == pytest.approx(traffic / BYTES)


def test_every_operation_costs_something_besides() -> None:
    free, dear = timed().time, timed(calibration=flat_calibration(operation_seconds=1e-3)).time
    assert free is not None
    assert dear is not None
    assert dear.step_seconds > free.step_seconds + 1e-3 * 2 * 6 * 7


def test_phases_add_up_to_the_step() -> None:
    time = timed(gradient_accumulation_steps=3).time
    assert time is not None
    assert sum(time.phases.values()) == pytest.approx(time.step_seconds)
    once = timed().time
    assert once is not None
    assert time.phases["forward"] == pytest.approx(3 * once.phases["forward"])


def test_the_answer_says_that_it_is_calibrated_and_by_what() -> None:
    asked = request()
    answer = estimate(asked, config=CONFIG, machine=machine(flat_calibration("1f6e")), advice=False)
    assert answer.throughput is not None
    assert answer.throughput.basis == "calibrated"
    assert answer.throughput.interval == pytest.approx(
        (0.9 * answer.throughput.step_seconds, 1.1 * answer.throughput.step_seconds)
    )
    assert answer.assumed["machine.calibration"] == "1f6e of 2026-11-24, 2 threads"
    assert "1f6e" in answer.throughput.interval_basis
    derived = estimate(asked, config=CONFIG, machine=machine(None), advice=False)
    assert derived.throughput is not None
    assert derived.throughput.basis == "derived"
    assert "machine.calibration" not in derived.assumed


def test_levers_are_timed_by_the_same_calibration() -> None:
    answer = estimate(request(), config=CONFIG, machine=machine(flat_calibration()), advice=True)
    assert answer.verdict == "fits"


def test_an_update_pays_for_blocks_that_are_larger_than_all_before() -> None:
    """Both tables of 8,000 x 256 are the largest blocks of a step over few tokens, and not of one over many."""
    table_bytes = 8000 * 256 * 4
    mapping = flat_calibration()
    mapping = mapping.model_copy(update={"backward": phase(mapped=1e-9)})

    def extra(length: int) -> float:
        run: dict[str, Any] = {"sequence_length": length, "micro_batch_size": 1}
        return seconds("optimizer", timed(calibration=mapping, **run)) - seconds("optimizer", timed(**run))

    assert extra(128) == pytest.approx(2 * 2 * table_bytes * 1e-9)
    assert extra(512) == 0.0
