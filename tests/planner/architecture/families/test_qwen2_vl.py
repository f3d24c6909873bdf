from __future__ import annotations

from planner.architecture.registry import read_config
from planner.catalog.models import model
from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    attention_of,
    spec_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("qwen2_vl", "qwen2_5_vl")


def test_the_flat_and_the_nested_form_read_alike() -> None:
    flat = model("Qwen/Qwen2.5-VL-7B-Instruct").config
    outer = ("model_type", "vision_config", "tie_word_embeddings", "torch_dtype")
    nested = {name: flat[name] for name in outer} | {"text_config": {**flat, "model_type": "qwen2_5_vl_text"}}
    assert read_config(nested).text == read_config(flat).text
    assert read_config(nested).encoders == read_config(flat).encoders
    assert attention_of(spec_of("Qwen/Qwen2.5-VL-7B-Instruct")).o.bias == 0
