from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    layers_of,
    spec_of,
    windows_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("gemma", "gemma2", "gemma3_text")


def test_gemma2_norms_before_and_after_and_slides_every_second_layer() -> None:
    spec = spec_of("google/gemma-2-2b")
    first = layers_of(spec)[0].sublayers[0]
    assert first.norm is not None
    assert first.post_norm is not None
    assert windows_of(spec)[:4] == [4096, None, 4096, None]
    assert attention_of(spec).softcap
    assert spec.logit_softcap
    assert spec.tied


def test_gemma3_has_one_full_layer_in_six() -> None:
    spec = spec_of("google/gemma-3-1b-it")
    assert windows_of(spec)[:7] == [512] * 5 + [None, 512]
    assert attention_of(spec).q_norm is not None
    assert not spec.logit_softcap


def test_published_configs_may_leave_heads_to_the_class() -> None:
    spec = spec_of("google/gemma-3-1b-it", num_attention_heads=None, num_key_value_heads=None, vocab_size=None)
    assert spec.assumed["num_attention_heads"] == 8
    assert spec.vocabulary == 262_208
