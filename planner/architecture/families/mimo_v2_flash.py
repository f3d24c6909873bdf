"""MiMo-V2-Flash: narrow values, windowed layers with twice the key/value heads and sinks, experts without shared ones.

Source: transformers models/mimo_v2_flash (modeling and configuration files).
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, heads_of, layer_types_of, layers_by, projections
from planner.architecture.config import Config
from planner.architecture.experts import sparse_by_type
from planner.architecture.families.deepseek_v3 import deepseek_layers
from planner.architecture.reader import Reader
from planner.architecture.rotary import rotary_dim_of
from planner.architecture.spec import Attention, Layer, ModelSpec, linear, parameter


def window_of(config: Config) -> int:
    """`sliding_window_size` + 1 where the original configuration has it, else `sliding_window`."""
    if "sliding_window_size" in config:
        return config.integer("sliding_window_size") + 1
    return config.integer("sliding_window")


def mimo_attention(config: Config, slides: bool) -> Attention:
    """Q and k of `head_dim`, v of `v_head_dim`; o has no bias; windowed layers double the key/value heads."""
    hidden, (heads, key_value_heads) = config.integer("hidden_size"), heads_of(config)
    head_dim, value_dim = config.integer("head_dim"), config.integer("v_head_dim")
    bias, groups = config.flag("attention_bias", False), key_value_heads * (2 if slides else 1)
    if heads % groups:
        raise config.error("num_key_value_heads", f"a divisor of {heads // 2}: windowed layers have twice as many")
    return replace(
        projections(hidden, heads, groups, head_dim, qkv_bias=bias),
        v=linear("v_proj", hidden, groups * value_dim, "attention", bias),
        o=linear("o_proj", heads * value_dim, hidden, "attention"),
        value_head_dim=value_dim,
        rotary_dim=rotary_dim_of(config, head_dim, 0.334),
        window=window_of(config) if slides else None,
        extra=(parameter("sinks", (heads,), "attention"),) if slides else (),
    )


def read_mimo_v2_flash(config: Config) -> ModelSpec:
    """model_type mimo_v2_flash: layer 0 and every sixth see everything; layer 0 is dense.

    The checkpoint's three MTP layers are not in the configuration and are not counted.
    """
    config = replace(config, values={**config.values, "n_shared_experts": 0})

    def by_index(index: int) -> str:
        return "full_attention" if index == 0 or (index + 1) % 6 == 0 else "sliding_attention"

    def layer(kind: tuple[str, bool]) -> Layer:
        return deepseek_layers(config, mimo_attention(config, kind[0] == "sliding_attention"), [kind[1]])[0]

    names = layer_types_of(config, ("full_attention", "sliding_attention"), by_index)
    sparse = sparse_by_type(config, len(names), 1)
    return decoder(config, layers_by(list(zip(names, sparse, strict=True)), layer))


READERS: dict[str, Reader] = {"mimo_v2_flash": read_mimo_v2_flash}
