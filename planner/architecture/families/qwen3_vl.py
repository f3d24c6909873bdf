"""Qwen3-VL: Qwen3 behind a vision tower whose middle layers also feed the text model (DeepStack).

Source: transformers models/qwen3_vl; DeepStack: arXiv 2406.04334.
"""

from __future__ import annotations

from planner.architecture.blocks import decoder, filled
from planner.architecture.config import Config
from planner.architecture.families.qwen2 import qwen_layers
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec
from planner.architecture.towers import qwen3_tower
from planner.architecture.vision import with_tower


def read_qwen3_vl(config: Config) -> ModelSpec:
    """model_type qwen3_vl: tying is read at the top level only; the text model never slides."""
    text = filled(config.section("text_config").without("use_sliding_window"), head_dim=128, use_sliding_window=False)
    bias = text.flag("attention_bias", False)
    spec = decoder(text, qwen_layers(text, qkv_bias=bias, output_bias=bias, qk_norm=True), top=config)
    return with_tower(spec, qwen3_tower(filled(config.section("vision_config"), in_channels=3), deepstack=True))


READERS: dict[str, Reader] = {"qwen3_vl": read_qwen3_vl}
