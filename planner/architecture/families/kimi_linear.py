"""Kimi Linear: three Kimi delta attentions to one latent attention, DeepSeek's experts.

Source: transformers models/kimi_linear (modeling and configuration files); arXiv 2510.26692.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.architecture.blocks import decoder, layers_by
from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.experts import first_dense, latent_attention, never_tied, sparse_by_type
from planner.architecture.families.deepseek_v3 import deepseek_layers
from planner.architecture.reader import Reader
from planner.architecture.recurrent import causal_convolution
from planner.architecture.spec import (
    LatentAttention,
    Layer,
    ModelSpec,
    StateSpace,
    linear,
    parameter,
    rms_norm,
)

# The library's names for the fields of the published configuration (attribute_map of KimiLinearConfig).
ALIASES = {
    "n_routed_experts": ("num_local_experts", "num_experts"),
    "num_experts_per_tok": ("num_experts_per_token",),
    "n_shared_experts": ("num_shared_experts",),
}


def unified(config: Config) -> Config:
    """The config with one name per field, and the sizes of `linear_attn_config` lifted to the top."""
    values: dict[str, Any] = dict(config.values)
    for name, others in ALIASES.items():
        values[name] = next((values[other] for other in (name, *others) if values.get(other) is not None), None)
    if "linear_attn_config" in config:
        nested = config.section("linear_attn_config").values
        sizes = {
            "linear_head_dim": "head_dim",
            "linear_num_heads": "num_heads",
            "linear_conv_kernel_dim": "short_conv_kernel_size",
        }
        values.update({name: nested[other] for name, other in sizes.items() if nested.get(other) is not None})
    return replace(config, values=values)


def delta_attention(config: Config) -> StateSpace:
    """Kimi delta attention: q, k, v, a convolution over all three, low-rank forget and output gates."""
    hidden = config.integer("hidden_size")
    heads = config.integer("linear_num_heads", maximum=MAXIMUM_HEADS)
    head_dim, kernel = config.integer("linear_head_dim"), config.integer("linear_conv_kernel_dim")
    inner = heads * head_dim
    modules = (
        *(linear(name, hidden, inner, "state_space") for name in ("q_proj", "k_proj", "v_proj")),
        causal_convolution(3 * inner, kernel, bias=False),
        linear("forget_gate.f_a_proj", hidden, head_dim, "state_space"),
        linear("forget_gate.f_b_proj", head_dim, inner, "state_space"),
        parameter("forget_gate.dt_bias", (inner,), "state_space"),
        parameter("forget_gate.A_log", (heads,), "state_space"),
        linear("b_proj", hidden, heads, "state_space"),
        linear("g_a_proj", hidden, head_dim, "state_space"),
        linear("g_b_proj", head_dim, inner, "state_space"),
        rms_norm("o_norm", head_dim),
        linear("o_proj", inner, hidden, "state_space"),
    )
    return StateSpace("kimi_delta", modules, inner, head_dim, heads, heads, kernel, chunk=64)


def mixer_names(config: Config) -> list[str]:
    """`layer_types`, or the one-based `full_attn_layers` of `linear_attn_config`; the class default names no model."""
    count = config.layers()
    names = config.items("layer_types", count)
    if names is None:
        full = config.section("linear_attn_config").items("full_attn_layers")
        if full is None:
            raise config.error("layer_types", f"a list of {count} layer types")
        names = ["full_attention" if index + 1 in full else "linear_attention" for index in range(count)]
    if any(name not in ("full_attention", "linear_attention") for name in names):
        raise config.error("layer_types", "a list of linear_attention and full_attention")
    return names


def read_kimi_linear(original: Config) -> ModelSpec:
    """model_type kimi_linear; its attention layers see no positions, although they keep the RoPE part's width."""
    config = unified(original)
    names = mixer_names(config)
    sparse = sparse_by_type(config, len(names), first_dense(config, 1) if "mlp_layer_types" not in config else 0)
    mixers: dict[str, LatentAttention | StateSpace] = {
        "full_attention": latent_attention(config),
        "linear_attention": delta_attention(config),
    }

    def layer(kind: tuple[str, bool]) -> Layer:
        return deepseek_layers(config, mixers[kind[0]], [kind[1]])[0]

    return never_tied(decoder(config, layers_by(list(zip(names, sparse, strict=True)), layer)))


READERS: dict[str, Reader] = {"kimi_linear": read_kimi_linear}
