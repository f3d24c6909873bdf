from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    branches_of,
    is_parallel,
    layers_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("gpt_neox")


def test_blocks_are_parallel_with_a_norm_each() -> None:
    spec = spec_of("EleutherAI/pythia-70m")
    assert is_parallel(spec)
    assert all(branch.norm is not None for branch in branches_of(layers_of(spec)[0]))
    assert attention_of(spec).rotary_dim == 16
    assert not is_parallel(spec_of("EleutherAI/pythia-70m", use_parallel_residual=False))
