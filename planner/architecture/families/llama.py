"""LLaMA 1 to 3 and the families that kept its block: Mistral, Qwen 2 and 3 (dense), SmolLM, ...

Source: transformers models/llama, mistral, qwen2, qwen3 (modeling files); arXiv 2302.13971, 2310.06825, 2407.10671.
"""

from __future__ import annotations

from planner.architecture.blocks import gated_mlp, grouped_attention, lm_head, pre_norm_layer, runs_of, token_embedding
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import Layer, ModelSpec, Stack, rms_norm


def assemble(config: Config, layers: list[Layer], *, tied_by_default: bool = False) -> ModelSpec:
    """A decoder of Llama's outline (token table, layers, final RMSNorm, head) around the given layers."""
    hidden = config.integer("hidden_size")
    tied = config.flag("tie_word_embeddings", tied_by_default)
    return ModelSpec(
        model_type=config.text("model_type"),
        text=Stack("text", hidden, runs_of(layers), after=(rms_norm("norm", hidden),)),
        embeddings=(token_embedding(config),),
        vocabulary=config.integer("vocab_size"),
        max_positions=config.optional_integer("max_position_embeddings"),
        lm_head=lm_head(config),
        tied=tied,
        stored_dtype=stored_dtype(config),
        assumed=config.assumed,
    )


def stored_dtype(config: Config) -> str | None:
    """The checkpoint's dtype: `dtype`, or the older `torch_dtype`; None when neither is there."""
    for name in ("dtype", "torch_dtype"):
        if name in config:
            return config.text(name)
    return None


def window_of(config: Config) -> int | None:
    """Mistral's sliding window: null or missing means full attention."""
    return config.optional_integer("sliding_window")


def read_llama(config: Config) -> ModelSpec:
    """model_type llama: optional biases on all four projections (`attention_bias`) and on the MLP (`mlp_bias`)."""
    bias = config.flag("attention_bias", False)
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias)
    hidden = config.integer("hidden_size")
    mlp = gated_mlp(hidden, config.integer("intermediate_size"), bias=config.flag("mlp_bias", False))
    layer = pre_norm_layer(hidden, attention, mlp)
    return assemble(config, [layer] * config.layers())


READERS: dict[str, Reader] = {"llama": read_llama}
