"""Jamba: Mamba layers, an attention layer without positions in every eighth, experts in every second.

Source: transformers models/jamba (modeling and configuration files); arXiv 2403.19887, 2408.12570.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, gated_mlp, grouped_attention, pre_norm_layer
from planner.architecture.config import MAXIMUM_EXPERTS, MAXIMUM_LAYERS, Config
from planner.architecture.experts import routed
from planner.architecture.reader import Reader
from planner.architecture.recurrent import mamba, time_step_rank
from planner.architecture.spec import Mlp, ModelSpec, Moe, StateSpace, rms_norm


def periodic(config: Config, name: str, period: int, offset: int) -> list[bool]:
    """Which layers i have i % `name`_period = `name`_offset."""
    every = config.integer(f"{name}_layer_period", period, maximum=MAXIMUM_LAYERS)
    start = config.integer(f"{name}_layer_offset", offset, minimum=0, maximum=every - 1)
    return [index % every == start for index in range(config.layers())]


def normed_mamba(config: Config) -> StateSpace:
    """Mamba's mixer with RMSNorms over the time steps, B and C."""
    hidden = config.integer("hidden_size")
    state, rank = config.integer("mamba_d_state", 16), time_step_rank(config, "mamba_dt_rank")
    return mamba(
        hidden,
        inner=config.integer("mamba_expand", 2, maximum=64) * hidden,
        state=state,
        kernel=config.integer("mamba_d_conv", 4),
        rank=rank,
        conv_bias=config.flag("mamba_conv_bias", True),
        bias=config.flag("mamba_proj_bias", False),
        norms=(rms_norm("dt_layernorm", rank), rms_norm("b_layernorm", state), rms_norm("c_layernorm", state)),
    )


def feed_forwards(config: Config) -> tuple[Mlp, Mlp | Moe]:
    """(dense, sparse) blocks, both of `intermediate_size` columns; with one expert both are dense."""
    hidden, width = config.integer("hidden_size"), config.integer("intermediate_size")
    activation = config.text("hidden_act", "silu")
    dense = gated_mlp(hidden, width, activation=activation)
    count = config.integer("num_experts", maximum=MAXIMUM_EXPERTS)
    return dense, routed(config, count=count, intermediate=width, activation=activation) if count > 1 else dense


def read_jamba(config: Config) -> ModelSpec:
    """model_type jamba."""
    hidden = config.integer("hidden_size")
    attention, recurrent = replace(grouped_attention(config), position="none"), normed_mamba(config)
    dense, sparse = feed_forwards(config)
    cells = {
        (attends, routes): pre_norm_layer(hidden, attention if attends else recurrent, sparse if routes else dense)
        for attends in (True, False)
        for routes in (True, False)
    }
    kinds = zip(periodic(config, "attn", 8, 4), periodic(config, "expert", 2, 1), strict=True)
    return decoder(config, [cells[kind] for kind in kinds])


READERS: dict[str, Reader] = {"jamba": read_jamba}
