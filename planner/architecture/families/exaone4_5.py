"""EXAONE 4.5: EXAONE 4.0 behind Qwen2.5-VL's tower with grouped key/value heads.

Source: transformers models/exaone4_5.
"""

from __future__ import annotations

from planner.architecture.blocks import decoder
from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.families.exaone4 import exaone4_layers
from planner.architecture.families.qwen2_vl import qwen2_5_vl_tower
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec
from planner.architecture.vision import with_tower


def read_exaone4_5(config: Config) -> ModelSpec:
    """model_type exaone4_5: tying is read at the top level only."""
    text, vision = config.section("text_config"), config.section("vision_config")
    heads = vision.integer("num_heads", maximum=MAXIMUM_HEADS)
    key_value_heads = vision.integer("num_key_value_heads", 8, maximum=heads)
    if heads % key_value_heads:
        raise vision.error("num_key_value_heads", f"a divisor of num_heads {heads}")
    spec = decoder(text, exaone4_layers(text), top=config)
    return with_tower(spec, qwen2_5_vl_tower(vision, key_value_heads))


READERS: dict[str, Reader] = {"exaone4_5": read_exaone4_5}
