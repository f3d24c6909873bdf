"""What must hold for every model's step, whatever its shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.architecture.registry import read_config
from planner.step.adapters import with_targets
from planner.step.compiler import compile_step
from planner.step.player import NotModelled
from planner.step.program import StepProgram
from planner.step.rules import StepRules
from tests.planner.step.reduced import reduced_config

Method = Literal["full", "lora", "freeze"]
FAMILIES = ("llama", "gemma2", "mistral", "gpt2", "mixtral", "deepseek_v3", "qwen3_next", "mamba2", "gpt_oss", "bloom")
SAVED = "activations"


def rules(method: Method = "full", **changes: Any) -> StepRules:
    base = StepRules(method, "bfloat16", "bfloat16", "bfloat16", targets=("q_proj", "in_proj", "c_attn", "qkv"))
    return replace(base, trainable_layers=2, **changes)


def program(model_type: str, method: Method = "full", **changes: Any) -> StepProgram:
    spec = read_config(reduced_config(model_type))
    return compile_step(spec, with_targets(rules(method, **changes), spec))


def peak(step: StepProgram, batch: Any, sequence: Any, rank: Any = 16) -> Any:
    totals = step.instant_bytes(step.storage_bytes(batch, sequence, rank, 512))
    return np.max(np.stack([np.asarray(total) for total in totals]), axis=0)


def saved(step: StepProgram, sequence: int) -> int:
    """The most bytes of activations at any instant of the forward pass."""
    sizes = step.storage_bytes(1, sequence, 16, 512)
    kept = [
        sum(sizes[index] * count for index, count in instant.live if step.kinds[index].term == SAVED)
        for instant in step.instants
        if instant.moment == "forward"
    ]
    return max(kept)


@pytest.mark.parametrize("method", ["full", "lora", "freeze"])
@pytest.mark.parametrize("model_type", FAMILIES)
@given(batch=st.integers(1, 8), sequence=st.integers(1, 8192), rank=st.integers(1, 64))
@settings(max_examples=10)
def test_more_never_needs_less(model_type: str, method: Method, batch: int, sequence: int, rank: int) -> None:
    step = program(model_type, method)
    here = peak(step, batch, sequence, rank)
    assert peak(step, batch + 1, sequence, rank) >= here
    assert peak(step, batch, sequence, rank + 1) >= here


@pytest.mark.parametrize("model_type", [name for name in FAMILIES if name not in {"mistral"}])
@given(sequence=st.integers(1, 8192))
@settings(max_examples=10)
def test_a_longer_sequence_never_needs_less(model_type: str, sequence: int) -> None:
    step = program(model_type)
    assert peak(step, 1, sequence + 64) >= peak(step, 1, sequence)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_arrays_and_ints_agree(model_type: str) -> None:
    step = program(model_type, "lora")
    batches, sequences = np.array([1, 2, 3]), np.array([100, 4096, 777])
    many = peak(step, batches, sequences, np.array([8, 16, 32]))
    assert many.tolist() == [
        int(peak(step, b, s, r)) for b, s, r in zip((1, 2, 3), (100, 4096, 777), (8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_checkpoints_never_keep_more(model_type: str, method: Method) -> None:
    checkpointed = program(model_type, method, checkpointing="full", checkpoint_every=1)
    assert saved(checkpointed, 2048) < saved(program(model_type, method), 2048)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_adapters_keep_fewer_gradients_than_full_training(model_type: str) -> None:
    def gradients(step: StepProgram) -> int:
        sizes = step.storage_bytes(1, 512, 16, 512)
        return max(
            sum(sizes[index] * count for index, count in instant.live if step.kinds[index].term == "gradients")
            for instant in step.instants
        )

    assert gradients(program(model_type, "lora")) < gradients(program(model_type))


def test_a_window_changes_the_kernel_only_when_the_sequence_reaches_it() -> None:
    step = program("mistral")
    kinds = [kind for kind in step.kinds if kind.what == "additive mask"]
    assert kinds
    below, above = (
        [size for size, kind in zip(step.storage_bytes(1, length, 16, 1), step.kinds, strict=True) if kind in kinds]
        for length in (4095, 4096)
    )
    assert set(below) == {0}
    assert set(above) == {2 * 4096 * 4096}


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [("kimi_linear", "kimi_delta"), ("phi3small", "gegelu"), ("deepseek_v4", "hyper-connections")],
)
def test_what_has_no_program_is_refused_by_name(model_type: str, reason: str) -> None:
    with pytest.raises(NotModelled, match=reason):
        program(model_type)
