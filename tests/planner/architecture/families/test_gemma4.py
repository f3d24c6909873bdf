from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    branches_of,
    layers_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("gemma4", "gemma4_text")


def test_full_layers_have_wider_heads_and_no_value_projection() -> None:
    spec = spec_of("google/gemma-4-26B-A4B-it")
    sliding, full = attention_of(spec, 0), attention_of(spec, 5)
    assert (sliding.head_dim, full.head_dim) == (256, 512)
    assert sliding.v is not None
    assert full.v is None
    assert full.k is not None
    assert (sliding.window, full.window) == (1024, None)


def test_experts_run_beside_the_dense_mlp() -> None:
    mixers = [sublayer.mixer for sublayer in branches_of(layers_of(spec_of("google/gemma-4-26B-A4B-it"))[0])]
    assert [type(mixer).__name__ for mixer in mixers] == ["Attention", "Mlp", "Moe"]


def test_small_models_have_an_audio_tower_and_shared_keys() -> None:
    spec = spec_of("google/gemma-4-E2B-it")
    assert [stack.name for stack in spec.encoders] == ["vision", "audio"]
    assert attention_of(spec, spec.text.layer_count - 1).k is None
    assert len(spec.embeddings) == 2
