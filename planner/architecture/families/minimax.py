"""MiniMax-Text-01, MiniMax-M1 (lightning attention in seven layers of eight) and MiniMax-M2 (full attention).

Source: transformers models/minimax and minimax_m2 (modeling and configuration files); arXiv 2501.08313, 2506.13585.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, grouped_attention, head_dim_of, heads_of, layers_by, pre_norm_layer
from planner.architecture.config import Config
from planner.architecture.experts import expert_count, routed
from planner.architecture.families.olmoe import projection_norm_attention
from planner.architecture.reader import Reader
from planner.architecture.rotary import rotary_dim_of
from planner.architecture.spec import Layer, ModelSpec, Moe, StateSpace, linear, rms_norm

NAMES = {0: "linear_attention", 1: "full_attention"}


def lightning_attention(config: Config) -> StateSpace:
    """Linear attention with a decay per head: one projection to q, k and v, a norm, an output gate (all unbiased)."""
    hidden = config.integer("hidden_size")
    heads, _ = heads_of(config)
    head_dim = head_dim_of(config, heads)
    inner = heads * head_dim
    modules = (
        rms_norm("norm", inner),
        linear("qkv_proj", hidden, 3 * inner, "state_space"),
        linear("out_proj", inner, hidden, "state_space"),
        linear("output_gate", hidden, inner, "state_space"),
    )
    chunk = config.integer("block_size", 256)
    return StateSpace("lightning", modules, inner, state=head_dim, heads=heads, groups=heads, chunk=chunk)


def minimax_experts(config: Config) -> Moe:
    """`num_local_experts` experts of `intermediate_size` columns."""
    return routed(
        config,
        count=expert_count(config, "num_local_experts"),
        intermediate=config.integer("intermediate_size"),
        activation=config.text("hidden_act", "silu"),
    )


def mixer_names(config: Config) -> list[str]:
    """`layer_types`, or the original `attn_type_list` (1 full, 0 linear); the class default names no model."""
    count = config.layers()
    field = "attn_type_list" if "layer_types" not in config and "attn_type_list" in config else "layer_types"
    listed = config.items(field, count)
    if listed is None:
        raise config.error(field, f"a list of {count} layer types")
    names = [NAMES.get(item, "") if isinstance(item, int) else item for item in listed]
    if any(name not in NAMES.values() for name in names):
        raise config.error(field, "a list of linear_attention and full_attention (or of 0 and 1 in attn_type_list)")
    return names


def read_minimax(config: Config) -> ModelSpec:
    """model_type minimax and minimax_m1: `rotary_dim` of the original configuration turns a part of each head."""
    hidden, experts = config.integer("hidden_size"), minimax_experts(config)
    attention = replace(
        grouped_attention(config, window=config.optional_integer("sliding_window")),
        rotary_dim=config.optional_integer("rotary_dim"),
    )

    def layer(name: str) -> Layer:
        mixer = lightning_attention(config) if name == "linear_attention" else attention
        return pre_norm_layer(hidden, mixer, experts)

    return decoder(config, layers_by(mixer_names(config), layer))


def read_minimax_m2(config: Config) -> ModelSpec:
    """model_type minimax_m2: QK norms over the whole projection; the config's MTP modules are in no checkpoint."""
    attention = projection_norm_attention(config, bias=False)
    rotary = config.optional_integer("rotary_dim") or rotary_dim_of(config, attention.head_dim)
    layer = pre_norm_layer(
        config.integer("hidden_size"), replace(attention, rotary_dim=rotary), minimax_experts(config)
    )
    return decoder(config, [layer] * config.layers())


READERS: dict[str, Reader] = {"minimax": read_minimax, "minimax_m1": read_minimax, "minimax_m2": read_minimax_m2}
