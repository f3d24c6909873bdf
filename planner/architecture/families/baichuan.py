"""Baichuan and Baichuan 2: Llama's block with one fused `W_pack`.

Source: the checkpoints' modeling_baichuan.py (not in transformers); arXiv 2309.10305.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, even_head_dim, fused_projections, heads_of, llama_layer
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec


def read_baichuan(config: Config) -> ModelSpec:
    """model_type baichuan: 7B turns its heads by RoPE, 13B adds ALiBi.

    No field says which; the 13B configs have `model_max_length` only and no `max_position_embeddings`.
    """
    hidden = config.integer("hidden_size")
    heads, key_value_heads = heads_of(config)
    head_dim = even_head_dim(config, hidden, heads, "num_attention_heads")
    attention = fused_projections(hidden, heads, key_value_heads, head_dim, names=("W_pack", "o_proj"))
    attention = replace(attention, position="rope" if "max_position_embeddings" in config else "alibi")
    spec = decoder(config, [llama_layer(config, attention)] * config.layers())
    return replace(spec, max_positions=spec.max_positions or config.optional_integer("model_max_length"))


READERS: dict[str, Reader] = {"baichuan": read_baichuan}
