from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    layers_of,
    spec_of,
    windows_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("olmo", "olmo2", "olmo3")


def test_the_first_olmo_has_norms_without_elements() -> None:
    norm = layers_of(spec_of("allenai/OLMo-1B-hf"))[0].sublayers[0].norm
    assert norm is not None
    assert norm.elements == 0


def test_olmo2_norms_after_the_sublayer_and_over_whole_projections() -> None:
    spec = spec_of("allenai/OLMo-2-1124-7B")
    first = layers_of(spec)[0].sublayers[0]
    assert first.norm is None
    assert first.post_norm is not None
    assert attention_of(spec).norm_over == "projection"


def test_olmo3_slides_in_three_layers_of_four() -> None:
    assert windows_of(spec_of("allenai/Olmo-3-1025-7B"))[:5] == [4096, 4096, 4096, None, 4096]
