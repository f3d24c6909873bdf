from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("hunyuan_v1_dense")


def test_q_and_k_are_normed_whatever_the_flag_says() -> None:
    assert attention_of(spec_of("tencent/Hunyuan-0.5B-Pretrain", use_qk_norm=False)).q_norm is not None
