from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    mlp_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("internlm2", "internlm3")


def test_internlm2_fuses_its_projections_and_internlm3_renames_its_biases() -> None:
    assert attention_of(spec_of("internlm/internlm2-chat-7b")).qkv is not None
    biased = spec_of("internlm/internlm3-8b-instruct", attention_bias=None, mlp_bias=None, qkv_bias=True, bias=True)
    assert attention_of(biased).o.bias == 4096
    assert mlp_of(biased).down.bias == 4096
