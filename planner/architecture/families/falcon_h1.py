"""Falcon-H1: attention and a Mamba-2 mixer side by side in every layer, then an MLP.

Source: transformers models/falcon_h1 (modeling and configuration files); arXiv 2507.22448.
"""

from __future__ import annotations

from planner.architecture.blocks import decoder, gated_mlp, grouped_attention
from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.reader import Reader
from planner.architecture.recurrent import Mamba2Widths, mamba2
from planner.architecture.spec import Layer, ModelSpec, Parallel, StateSpace, Sublayer, rms_norm


def hybrid_widths(config: Config) -> Mamba2Widths:
    """`mamba_d_ssm` channels (null: mamba_expand x hidden_size) in `mamba_n_heads` heads."""
    hidden = config.integer("hidden_size")
    if "mamba_d_ssm" in config:
        inner = config.integer("mamba_d_ssm")
    else:
        inner = config.integer("mamba_expand", 2, maximum=64) * hidden
    heads = config.integer("mamba_n_heads", maximum=MAXIMUM_HEADS)
    if inner % heads:
        raise config.error("mamba_n_heads", f"a divisor of the {inner} channels of the recurrence")
    if config.values.get("mamba_d_head") not in (None, "auto", inner // heads):
        raise config.error("mamba_d_head", f"{inner // heads}, or auto")
    return Mamba2Widths(
        hidden=hidden,
        heads=heads,
        head_dim=inner // heads,
        groups=config.integer("mamba_n_groups", maximum=MAXIMUM_HEADS),
        state=config.integer("mamba_d_state"),
        kernel=config.integer("mamba_d_conv", 4),
        chunk=config.integer("mamba_chunk_size", 256),
    )


def hybrid_mixer(config: Config) -> StateSpace:
    """The Mamba-2 branch; its gated norm exists only if `mamba_rms_norm`."""
    return mamba2(
        hybrid_widths(config),
        conv_bias=config.flag("mamba_conv_bias", True),
        input_bias=config.flag("mamba_proj_bias", False),
        output_bias=config.flag("projectors_bias", False),
        gated_norm=config.flag("mamba_rms_norm", False),
    )


def read_falcon_h1(config: Config) -> ModelSpec:
    """model_type falcon_h1: one norm in front of both branches."""
    hidden = config.integer("hidden_size")
    bias = config.flag("attention_bias", False)
    attention = grouped_attention(config, qkv_bias=bias, output_bias=bias)
    both = Parallel((Sublayer(hybrid_mixer(config)), Sublayer(attention)))
    mlp = gated_mlp(
        hidden,
        config.integer("intermediate_size"),
        bias=config.flag("mlp_bias", False),
        activation=config.text("hidden_act", "silu"),
    )
    layer = Layer(
        (Sublayer(both, rms_norm("input_layernorm", hidden)), Sublayer(mlp, rms_norm("pre_ff_layernorm", hidden)))
    )
    return decoder(config, [layer] * config.layers())


READERS: dict[str, Reader] = {"falcon_h1": read_falcon_h1}
