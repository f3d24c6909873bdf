from __future__ import annotations

from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    mlp_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("gpt2", "gpt_bigcode")


def test_positions_are_learned() -> None:
    spec = spec_of("openai-community/gpt2")
    assert [table.name for table in spec.embeddings] == ["wte", "wpe"]
    assert attention_of(spec).position == "none"
    assert mlp_of(spec).gate is None
    assert mlp_of(spec).intermediate == 4 * 768


def test_the_newer_field_names_read_alike() -> None:
    renamed = spec_of("openai-community/gpt2", n_embd=None, hidden_size=768, n_layer=None, num_hidden_layers=12)
    assert renamed.text == spec_of("openai-community/gpt2").text


def test_santacoder_has_one_key_value_head() -> None:
    assert attention_of(spec_of("bigcode/gpt_bigcode-santacoder")).key_value_heads == 1
