from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("whisper")


def test_the_encoder_is_audio_of_a_fixed_length() -> None:
    spec = spec_of("openai/whisper-tiny")
    assert spec.task == "speech_seq2seq_lm"
    assert spec.encoders[0].positions_per_sample == 1500
    attention = attention_of(spec)
    assert attention.k is not None
    assert attention.k.bias == 0
    assert attention.causal
