"""LFM2 and LFM2-MoE: gated short convolutions between attention layers.

Source: transformers models/lfm2 and lfm2_moe (modeling and configuration files); arXiv 2511.23404.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, gated_mlp, grouped_attention, layer_types_of, layers_by, pre_norm_layer
from planner.architecture.config import MAXIMUM_LAYERS, Config
from planner.architecture.experts import expert_count, routed
from planner.architecture.reader import Reader
from planner.architecture.recurrent import causal_convolution
from planner.architecture.spec import Attention, Layer, ModelSpec, StateSpace, linear


def short_convolution(config: Config) -> StateSpace:
    """in_proj h -> 3h (two gates and a value), a depthwise convolution over h channels, out_proj h -> h."""
    hidden, kernel = config.integer("hidden_size"), config.integer("conv_L_cache", 3)
    bias = config.flag("conv_bias", False)
    modules = (
        linear("in_proj", hidden, 3 * hidden, "state_space", bias),
        causal_convolution(hidden, kernel, bias),
        linear("out_proj", hidden, hidden, "state_space", bias),
    )
    return StateSpace("short_conv", modules, inner=hidden, kernel=kernel)


def adjusted_width(config: Config) -> int:
    """Two thirds of `block_ff_dim` (or `intermediate_size`), times a factor, rounded up to a multiple."""
    width = config.integer("block_ff_dim" if "block_ff_dim" in config else "intermediate_size")
    if not config.flag("block_auto_adjust_ff_dim", True):
        return width
    width = int(2 * width / 3)
    multiple = config.integer("block_multiple_of", 256)
    width = int(config.number("block_ffn_dim_multiplier", 1.0, maximum=1024.0) * width)
    return multiple * ((width + multiple - 1) // multiple)


def mixer_names(config: Config) -> list[str]:
    """`layer_types`, or attention in the layers of `full_attn_idxs`; one of them must be there."""
    if "layer_types" not in config and "full_attn_idxs" not in config:
        raise config.error("layer_types", "a list of conv and full_attention, or give full_attn_idxs")
    indices = config.items("full_attn_idxs") or []
    return layer_types_of(
        config, ("conv", "full_attention"), lambda index: "full_attention" if index in indices else "conv"
    )


def with_tie(config: Config) -> Config:
    """The original configuration calls `tie_word_embeddings` `tie_embedding`."""
    if "tie_embedding" not in config:
        return config
    return replace(config, values={**config.values, "tie_word_embeddings": config.flag("tie_embedding")})


def mixers(config: Config) -> dict[str, Attention | StateSpace]:
    """The two mixers by name; attention has per-head QK norms."""
    return {"full_attention": grouped_attention(config, qk_norm=True), "conv": short_convolution(config)}


def read_lfm2(config: Config) -> ModelSpec:
    """model_type lfm2."""
    hidden, by_name = config.integer("hidden_size"), mixers(config)
    mlp = gated_mlp(hidden, adjusted_width(config))

    def layer(name: str) -> Layer:
        return pre_norm_layer(hidden, by_name[name], mlp)

    return decoder(with_tie(config), layers_by(mixer_names(config), layer), tied_by_default=True)


def read_lfm2_moe(config: Config) -> ModelSpec:
    """model_type lfm2_moe: `num_dense_layers` dense layers, then experts."""
    hidden, by_name = config.integer("hidden_size"), mixers(config)
    dense = gated_mlp(hidden, config.integer("intermediate_size"))
    count, width = expert_count(config, "num_experts"), config.integer("moe_intermediate_size")
    sparse = routed(config, count=count, intermediate=width)
    first = config.integer("num_dense_layers", minimum=0, maximum=MAXIMUM_LAYERS)

    def layer(kind: tuple[str, bool]) -> Layer:
        return pre_norm_layer(hidden, by_name[kind[0]], sparse if kind[1] else dense)

    kinds = [(name, index >= first) for index, name in enumerate(mixer_names(config))]
    return decoder(with_tie(config), layers_by(kinds, layer), tied_by_default=True)


READERS: dict[str, Reader] = {"lfm2": read_lfm2, "lfm2_moe": read_lfm2_moe}
