"""Falcon 7B, 40B and 180B: attention and MLP side by side, few key/value heads, RoPE or ALiBi.

Source: transformers models/falcon; arXiv 2311.16867.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TypeVar

from planner.architecture.blocks import (
    activation_of,
    even_head_dim,
    fused_projections,
    language_model,
    parallel_layer,
    parallel_layer_two_norms,
    plain_mlp,
    runs_of,
    sequential_layer,
    token_embedding,
)
from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.reader import Reader
from planner.architecture.spec import Attention, Layer, Mlp, ModelSpec, Module, Stack, layer_norm

Block = TypeVar("Block", Attention, Mlp)


def _key_value_heads(config: Config, heads: int, new: bool) -> int:
    """`num_kv_heads` counts in the new decoder only; the old one has one key/value head, or as many as query heads."""
    if not new:
        return 1 if config.flag("multi_query", True) else heads
    key_value_heads = config.optional_integer("num_kv_heads", maximum=MAXIMUM_HEADS) or heads
    if heads % key_value_heads:
        raise config.error("num_kv_heads", f"a divisor of num_attention_heads {heads}")
    return key_value_heads


def _attention(config: Config, hidden: int, new: bool, bias: bool) -> Attention:
    heads = config.integer("num_attention_heads", maximum=MAXIMUM_HEADS)
    attention = fused_projections(
        hidden,
        heads,
        _key_value_heads(config, heads, new),
        even_head_dim(config, hidden, heads, "num_attention_heads"),
        qkv_bias=bias,
        output_bias=bias,
        names=("query_key_value", "dense"),
    )
    return replace(attention, position="alibi" if config.flag("alibi", False) else "rope")


def _joined(config: Config, hidden: int, new: bool, attention: Attention, mlp: Mlp) -> Layer:
    """Sequential, parallel behind one norm, or parallel behind two (the new decoder's default)."""
    if not config.flag("parallel_attn", True):
        norms = (layer_norm("input_layernorm", hidden), layer_norm("post_attention_layernorm", hidden))
        return sequential_layer(attention, mlp, norms)
    norms_given = config.optional_integer("num_ln_in_parallel_attn", maximum=2)
    if (norms_given or (2 if new else 1)) == 2:
        return parallel_layer_two_norms(attention, mlp, (layer_norm("ln_attn", hidden), layer_norm("ln_mlp", hidden)))
    return parallel_layer(attention, mlp, layer_norm("input_layernorm", hidden))


def _own_class(block: Block) -> Block:
    """The block with its projections as FalconLinear, a class over nn.Linear."""
    held = {field.name: getattr(block, field.name) for field in fields(block)}
    own = {name: replace(value, subclassed=True) for name, value in held.items() if isinstance(value, Module)}
    return replace(block, **own)


def read_falcon(config: Config) -> ModelSpec:
    """model_type falcon: `new_decoder_architecture` tells 40B and 180B from 7B."""
    hidden = config.integer("hidden_size")
    new, bias = config.flag("new_decoder_architecture", False), config.flag("bias", False)
    intermediate = config.optional_integer("ffn_hidden_size") or 4 * hidden
    names = ("dense_h_to_4h", "dense_4h_to_h")
    mlp = plain_mlp(
        hidden, intermediate, bias=bias, activation=activation_of(config, "gelu", "activation"), names=names
    )
    layer = _joined(config, hidden, new, _own_class(_attention(config, hidden, new, bias)), _own_class(mlp))
    return language_model(
        config,
        Stack("text", hidden, runs_of([layer] * config.layers()), after=(layer_norm("ln_f", hidden),)),
        embeddings=(token_embedding(config),),
        max_positions=config.optional_integer("max_position_embeddings"),
        tied_by_default=True,
    )


READERS: dict[str, Reader] = {"falcon": read_falcon}
