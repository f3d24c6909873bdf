"""ERNIE 4.5, dense: Llama's block with a head width of its own and a tied head.

Source: transformers models/ernie4_5.
"""

from __future__ import annotations

from planner.architecture.blocks import decoder, filled, grouped_attention, llama_layer
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec


def read_ernie4_5(config: Config) -> ModelSpec:
    """model_type ernie4_5: `use_bias` gives every projection a bias."""
    config = filled(config, num_key_value_heads=2, head_dim=128)
    bias = config.flag("use_bias", False)
    layer = llama_layer(config, grouped_attention(config, qkv_bias=bias, output_bias=bias), mlp_bias=bias)
    return decoder(config, [layer] * config.layers(), tied_by_default=True)


READERS: dict[str, Reader] = {"ernie4_5": read_ernie4_5}
