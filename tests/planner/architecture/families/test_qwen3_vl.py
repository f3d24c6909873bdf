from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("qwen3_vl")


def test_each_deep_stack_index_has_a_merger() -> None:
    spec = spec_of("Qwen/Qwen3-VL-2B-Instruct")
    names = [module.name for module in spec.encoders[0].after]
    assert sum("deepstack" in name and "fc1" in name for name in names) == 3
    assert attention_of(spec).q_norm is not None
