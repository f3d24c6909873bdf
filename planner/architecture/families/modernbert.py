"""ModernBERT as a masked language model.

Source: transformers models/modernbert; arXiv 2412.13663.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import (
    activation_of,
    even_head_dim,
    fused_gated_mlp,
    fused_projections,
    layer_types_of,
    layers_by,
    runs_of,
    stored_dtype,
    token_embedding,
    vocabulary_of,
)
from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.reader import Reader
from planner.architecture.spec import Attention, Layer, ModelSpec, Module, Stack, Sublayer, layer_norm, linear


def _norm(config: Config, name: str) -> Module:
    return layer_norm(name, config.integer("hidden_size"), config.flag("norm_bias", False))


def _attention(config: Config, hidden: int, window: int | None) -> Attention:
    heads = config.integer("num_attention_heads", maximum=MAXIMUM_HEADS)
    head_dim = even_head_dim(config, hidden, heads, "num_attention_heads")
    bias = config.flag("attention_bias", False)
    attention = fused_projections(hidden, heads, heads, head_dim, qkv_bias=bias, output_bias=bias, names=("Wqkv", "Wo"))
    return replace(attention, causal=False, window=window)


def _layers(config: Config) -> list[Layer]:
    """Every third layer attends to everything; the first has no norm of its own behind the embedding's.

    `local_attention` is the whole window, half of it to each side.
    """
    hidden = config.integer("hidden_size")
    every, window = config.integer("global_attn_every_n_layers", 3), config.integer("local_attention", 128)
    activation = activation_of(config, "gelu", "hidden_activation")
    mlp_bias = config.flag("mlp_bias", False)
    mlp = fused_gated_mlp(hidden, config.integer("intermediate_size"), bias=mlp_bias, activation=activation)

    def rule(index: int) -> str:
        return "sliding_attention" if index % every else "full_attention"

    def build(key: tuple[bool, str]) -> Layer:
        first, kind = key
        attention = _attention(config, hidden, window if kind == "sliding_attention" else None)
        norm = None if first else _norm(config, "attn_norm")
        return Layer((Sublayer(attention, norm), Sublayer(mlp, _norm(config, "mlp_norm"))))

    types = layer_types_of(config, ("full_attention", "sliding_attention"), rule)
    return layers_by([(index == 0, kind) for index, kind in enumerate(types)], build)


def read_modernbert(config: Config) -> ModelSpec:
    """model_type modernbert: RoPE, gated MLPs, a dense transform with a norm before the tied decoder."""
    hidden, vocabulary = config.integer("hidden_size"), vocabulary_of(config)
    return ModelSpec(
        model_type=config.text("model_type"),
        text=Stack(
            "text",
            hidden,
            runs_of(_layers(config)),
            before=(_norm(config, "embeddings.norm"),),
            after=(_norm(config, "final_norm"),),
        ),
        embeddings=(token_embedding(config),),
        vocabulary=vocabulary,
        max_positions=config.optional_integer("max_position_embeddings"),
        lm_head=linear("decoder", hidden, vocabulary, "lm_head", config.flag("decoder_bias", True)),
        tied=config.flag("tie_word_embeddings", True),
        task="masked_lm",
        head_extra=(
            linear("head.dense", hidden, hidden, "lm_head", config.flag("classifier_bias", False)),
            _norm(config, "head.norm"),
        ),
        stored_dtype=stored_dtype(config),
        assumed=config.assumed,
    )


READERS: dict[str, Reader] = {"modernbert": read_modernbert}
