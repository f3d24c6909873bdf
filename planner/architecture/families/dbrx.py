"""DBRX: fused query, key and value, LayerNorms without biases, experts stored as three two-dimensional stacks.

Source: transformers models/dbrx (modeling and configuration files); Databricks, "Introducing DBRX" (2024).
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import clamps, fused_projections, runs_of, stored_dtype
from planner.architecture.config import MAXIMUM_HEADS, MAXIMUM_VOCABULARY, Config
from planner.architecture.experts import chosen_experts, expert_count
from planner.architecture.reader import Reader
from planner.architecture.spec import (
    Attention,
    Layer,
    ModelSpec,
    Module,
    Moe,
    Stack,
    Sublayer,
    embedding,
    layer_norm,
    linear,
)


def dbrx_attention(config: Config, hidden: int) -> Attention:
    """`n_heads` query heads of hidden / n_heads, `attn_config.kv_n_heads` key/value heads, one fused projection."""
    heads = config.integer("n_heads", maximum=MAXIMUM_HEADS)
    if hidden % heads:
        raise config.error("n_heads", f"a divisor of d_model {hidden}")
    attention = config.section("attn_config")
    key_value_heads = attention.integer("kv_n_heads", maximum=MAXIMUM_HEADS)
    if heads % key_value_heads:
        raise attention.error("kv_n_heads", f"a divisor of n_heads {heads}")
    projected = fused_projections(hidden, heads, key_value_heads, hidden // heads, names=("Wqkv", "out_proj"))
    return replace(projected, clamped=clamps(attention, "clip_qkv"))


def dbrx_experts(config: Config, hidden: int) -> Moe:
    """Gated experts as stacks w1, v1 and w2 of [experts x width, hidden]; the router is an nn.Linear."""
    section = config.section("ffn_config")
    width, count = section.integer("ffn_hidden_size"), expert_count(section, "moe_num_experts")
    return Moe(
        hidden=hidden,
        intermediate=width,
        expert_count=count,
        top_k=chosen_experts(section, "moe_top_k", count),
        router=linear("router.layer", hidden, count, "router"),
        experts=tuple(Module(name, "experts", "experts", (count * width, hidden)) for name in ("w1", "v1", "w2")),
    )


def read_dbrx(config: Config) -> ModelSpec:
    """model_type dbrx; the library refuses tied embeddings here."""
    hidden = config.integer("d_model")
    vocabulary = config.integer("vocab_size", maximum=MAXIMUM_VOCABULARY)
    if config.flag("tie_word_embeddings", False):
        raise config.error("tie_word_embeddings", "false")
    layer = Layer(
        (
            Sublayer(dbrx_attention(config, hidden), layer_norm("norm_1", hidden, bias=False)),
            Sublayer(dbrx_experts(config, hidden), layer_norm("norm_2", hidden, bias=False)),
        )
    )
    runs = runs_of([layer] * config.layers("n_layers"))
    return ModelSpec(
        model_type=config.text("model_type"),
        text=Stack("text", hidden, runs, after=(layer_norm("norm_f", hidden, bias=False),)),
        embeddings=(embedding("wte", vocabulary, hidden),),
        vocabulary=vocabulary,
        max_positions=config.optional_integer("max_seq_len"),
        lm_head=linear("lm_head", hidden, vocabulary, "lm_head"),
        tied=False,
        stored_dtype=stored_dtype(config),
        assumed=config.assumed,
    )


READERS: dict[str, Reader] = {"dbrx": read_dbrx}
