"""GLM-4.1V: GLM-4 behind a vision tower that halves the patch grid by a convolution.

Source: transformers models/glm4v; arXiv 2507.01006.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, filled
from planner.architecture.config import Config
from planner.architecture.families.glm import glm4_layers
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec
from planner.architecture.towers import glm4v_tower
from planner.architecture.vision import with_tower


def read_glm4v(config: Config) -> ModelSpec:
    """model_type glm4v: q, k and v always have biases; the head is tied if either level asks for it."""
    text = filled(config.section("text_config").without("head_dim").without("attention_bias"), num_key_value_heads=2)
    spec = decoder(text, glm4_layers(text), top=config)
    spec = replace(spec, tied=spec.tied or text.flag("tie_word_embeddings", False))
    return with_tower(spec, glm4v_tower(filled(config.section("vision_config"), in_channels=3)))


READERS: dict[str, Reader] = {"glm4v": read_glm4v}
