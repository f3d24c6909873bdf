from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    is_parallel,
    spec_of,
    windows_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("cohere", "cohere2")


def test_only_command_r_plus_norms_its_heads() -> None:
    assert attention_of(spec_of("CohereLabs/c4ai-command-r-v01")).q_norm is None
    norm = attention_of(spec_of("CohereLabs/c4ai-command-r-plus")).q_norm
    assert norm is not None
    assert norm.shape == (96, 128)
    assert is_parallel(spec_of("CohereLabs/c4ai-command-r-v01"))


def test_full_layers_of_command_r7b_have_no_position() -> None:
    spec = spec_of("CohereLabs/c4ai-command-r7b-12-2024")
    assert [attention_of(spec, index).position for index in range(4)] == ["rope", "rope", "rope", "none"]
    assert windows_of(spec)[:4] == [4096, 4096, 4096, None]
