"""Qwen (the first generation): Llama's block with a fused projection that has a bias.

Source: the checkpoints' modeling_qwen.py (not in transformers); arXiv 2309.16609.
"""

from __future__ import annotations

from planner.architecture.blocks import decoder, fused_projections, gated_mlp, pre_norm_layer
from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec


def read_qwen(config: Config) -> ModelSpec:
    """model_type qwen: `intermediate_size` counts gate and up together; `kv_channels` is the head width."""
    hidden = config.integer("hidden_size")
    heads = config.integer("num_attention_heads", maximum=MAXIMUM_HEADS)
    bias = not config.flag("no_bias", True)
    intermediate = config.integer("intermediate_size", minimum=2) // 2
    attention = fused_projections(
        hidden,
        heads,
        heads,
        config.integer("kv_channels", 128),
        qkv_bias=True,
        output_bias=bias,
        names=("c_attn", "c_proj"),
    )
    layer = pre_norm_layer(hidden, attention, gated_mlp(hidden, intermediate, bias=bias))
    return decoder(config, [layer] * config.layers())


READERS: dict[str, Reader] = {"qwen": read_qwen}
