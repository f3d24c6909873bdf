"""Qwen3-Next: three gated delta nets to one gated attention, all with experts and a gated shared expert.

Source: transformers models/qwen3_next (modeling and configuration files); Qwen3-Next technical notes, arXiv 2412.06464.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, gated_mlp, grouped_attention, layer_types_of, pre_norm_layer
from planner.architecture.config import Config
from planner.architecture.experts import expert_count, mtp_elements, mtp_note, routed, shared_mlp, sparse_by_step
from planner.architecture.reader import Reader
from planner.architecture.recurrent import gated_delta
from planner.architecture.rotary import rotary_dim_of
from planner.architecture.spec import Attention, Layer, ModelSpec, Moe, linear


def gated_attention(config: Config) -> Attention:
    """Grouped attention whose q_proj also makes a gate of the output's width: [2 x heads x head_dim, h]."""
    bias = config.flag("attention_bias", False)
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias, qk_norm=True)
    width = 2 * attention.query_heads * attention.head_dim
    return replace(
        attention,
        q=linear("q_proj", config.integer("hidden_size"), width, "attention", bias),
        output_gate=True,
        rotary_dim=rotary_dim_of(config, attention.head_dim, 0.25),
    )


def gated_shared_experts(config: Config) -> Moe:
    """`num_experts` experts and a shared one of `shared_expert_intermediate_size` behind a gate of one row."""
    hidden, activation = config.integer("hidden_size"), config.text("hidden_act", "silu")
    return routed(
        config,
        count=expert_count(config, "num_experts"),
        intermediate=config.integer("moe_intermediate_size"),
        shared=shared_mlp(hidden, config.integer("shared_expert_intermediate_size"), activation),
        shared_gate=linear("shared_expert_gate", hidden, 1, "router"),
        activation=activation,
    )


def mixer_kinds(config: Config) -> list[str]:
    """`layer_types`, or full attention in every `full_attention_interval`-th layer (4 in the library)."""
    interval = config.integer("full_attention_interval", 4) if "layer_types" not in config else 1

    def by_interval(index: int) -> str:
        return "linear_attention" if (index + 1) % interval else "full_attention"

    return layer_types_of(config, ("linear_attention", "full_attention"), by_interval)


def read_qwen3_next(config: Config) -> ModelSpec:
    """model_type qwen3_next; its MTP layer counts only where the config says `mtp_num_hidden_layers`."""
    hidden = config.integer("hidden_size")
    mixers = {"linear_attention": gated_delta(config, fused=True), "full_attention": gated_attention(config)}
    sparse, kinds = gated_shared_experts(config), mixer_kinds(config)
    pattern = sparse_by_step(config, len(kinds))
    dense = sparse if all(pattern) else gated_mlp(hidden, config.integer("intermediate_size"))
    cells = {
        (kind, s): pre_norm_layer(hidden, mixers[kind], sparse if s else dense)
        for kind in mixers
        for s in (True, False)
    }
    layers: list[Layer] = [cells[cell] for cell in zip(kinds, pattern, strict=True)]
    spec = decoder(config, layers)
    depth = config.integer("mtp_num_hidden_layers", minimum=0, maximum=64) if "mtp_num_hidden_layers" in config else 0
    elements = depth * mtp_elements(cells["full_attention", True], hidden)
    return replace(spec, mtp_parameters=elements, notes=mtp_note(elements))


READERS: dict[str, Reader] = {"qwen3_next": read_qwen3_next}
