"""Llama-Nemotron (49B, 51B, 253B): Llama pruned layer by layer, so that each layer has a shape of its own.

Source: the checkpoints' own modeling_decilm.py (not in transformers); arXiv 2411.19146.
"""

from __future__ import annotations

import math

from planner.architecture.blocks import decoder, even_head_dim, gated_mlp, projections
from planner.architecture.config import MAXIMUM_HEADS, MAXIMUM_WIDTH, Config
from planner.architecture.reader import Reader
from planner.architecture.spec import Attention, Layer, Mlp, ModelSpec, Sublayer, rms_norm

WIDTH_MULTIPLE = 256


def ffn_width(hidden: int, multiplier: float) -> int:
    """int(2 x multiplier x hidden / 3), rounded up to a multiple of 256."""
    return math.ceil(int(2 * multiplier * hidden / 3) / WIDTH_MULTIPLE) * WIDTH_MULTIPLE


def _attention(config: Config, block: Config) -> Attention | None:
    if block.flag("no_op", False):
        return None
    _refuse_linear(block)
    hidden = config.integer("hidden_size")
    heads = config.integer("num_attention_heads", maximum=MAXIMUM_HEADS)
    group = block.integer("n_heads_in_group", maximum=heads)
    if heads % group:
        raise block.error("n_heads_in_group", f"a divisor of num_attention_heads {heads}")
    bias = config.flag("attention_bias", False)
    head_dim = even_head_dim(config, hidden, heads, "num_attention_heads")
    return projections(hidden, heads, heads // group, head_dim, qkv_bias=bias, output_bias=bias)


def _mlp(config: Config, block: Config) -> Mlp | None:
    if block.flag("no_op", False):
        return None
    _refuse_linear(block)
    hidden = config.integer("hidden_size")
    width = ffn_width(hidden, block.number("ffn_mult", maximum=MAXIMUM_WIDTH / hidden))
    if width < 1:
        raise block.error("ffn_mult", "a number that leaves a width of at least 1")
    activation = config.text("hidden_act", "silu")
    return gated_mlp(hidden, width, bias=config.flag("mlp_bias", False), activation=activation)


def _refuse_linear(block: Config) -> None:
    if block.flag("replace_with_linear", False):
        raise block.error("replace_with_linear", "false: single linear layers in place of a block are not modelled")


def _layer(config: Config, block: Config) -> Layer:
    """A layer without the sublayers that the search removed; their norms are gone as well."""
    hidden = config.integer("hidden_size")
    attention, mlp = _attention(config, block.section("attention")), _mlp(config, block.section("ffn"))
    first = () if attention is None else (Sublayer(attention, rms_norm("input_layernorm", hidden)),)
    second = () if mlp is None else (Sublayer(mlp, rms_norm("post_attention_layernorm", hidden)),)
    return Layer((*first, *second))


def read_nemotron_nas(config: Config) -> ModelSpec:
    """model_type nemotron-nas: one entry of `block_configs` per layer."""
    blocks = config.sections("block_configs", config.layers())
    return decoder(config, [_layer(config, block) for block in blocks])


READERS: dict[str, Reader] = {"nemotron-nas": read_nemotron_nas}
