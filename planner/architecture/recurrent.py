"""Recurrent mixers that several families share: Mamba, Mamba-2, gated delta net.

Source: transformers models/mamba, mamba2, qwen3_next (modeling files); arXiv 2312.00752, 2405.21060, 2412.06464.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.spec import Module, StateSpace, linear, parameter, rms_norm


def causal_convolution(channels: int, kernel: int, bias: bool) -> Module:
    """A depthwise nn.Conv1d over time: weight [channels, 1, kernel]."""
    return Module("conv1d", "conv", "state_space", (channels, 1, kernel), channels if bias else 0)


def time_step_rank(config: Config, name: str) -> int:
    """`name` as an integer; "auto" or missing means hidden_size / 16, rounded up."""
    if name not in config or config.values[name] == "auto":
        return math.ceil(config.integer("hidden_size") / 16)
    return config.integer(name)


def mamba(
    hidden: int,
    *,
    inner: int,
    state: int,
    kernel: int,
    rank: int,
    conv_bias: bool,
    bias: bool,
    norms: tuple[Module, ...] = (),
) -> StateSpace:
    """Mamba's mixer (arXiv 2312.00752): in_proj h -> 2 inner, convolution, x_proj inner -> rank + 2 state, dt_proj."""
    modules = (
        linear("in_proj", hidden, 2 * inner, "state_space", bias),
        causal_convolution(inner, kernel, conv_bias),
        linear("x_proj", inner, rank + 2 * state, "state_space"),
        linear("dt_proj", rank, inner, "state_space", True),
        parameter("A_log", (inner, state), "state_space"),
        parameter("D", (inner,), "state_space"),
        linear("out_proj", inner, hidden, "state_space", bias),
        *norms,
    )
    return StateSpace("mamba", modules, inner=inner, state=state, kernel=kernel)


@dataclass(frozen=True, slots=True)
class Mamba2Widths:
    """Sizes of a Mamba-2 mixer: inner = heads x head_dim channels, B and C of groups x state."""

    hidden: int
    heads: int
    head_dim: int
    groups: int
    state: int
    kernel: int
    chunk: int

    @property
    def inner(self) -> int:
        """Channels of the recurrence."""
        return self.heads * self.head_dim


def mamba2(
    widths: Mamba2Widths, *, conv_bias: bool, input_bias: bool, output_bias: bool, gated_norm: bool = True
) -> StateSpace:
    """Mamba-2's mixer (arXiv 2405.21060): one projection to gate, x, B, C and time steps; convolution over x, B, C.

    in_proj: h -> 2 inner + 2 groups x state + heads.
    """
    inner, heads = widths.inner, widths.heads
    channels = inner + 2 * widths.groups * widths.state
    modules = (
        linear("in_proj", widths.hidden, inner + channels + heads, "state_space", input_bias),
        causal_convolution(channels, widths.kernel, conv_bias),
        parameter("dt_bias", (heads,), "state_space"),
        parameter("A_log", (heads,), "state_space"),
        parameter("D", (heads,), "state_space"),
        *((rms_norm("norm", inner),) if gated_norm else ()),
        linear("out_proj", inner, widths.hidden, "state_space", output_bias),
    )
    return StateSpace("mamba2", modules, inner, widths.state, heads, widths.groups, widths.kernel, widths.chunk)


def delta_widths(config: Config) -> tuple[int, int, int, int, int]:
    """(key heads, value heads, key head dim, value head dim, kernel); key heads must divide value heads."""
    key_heads = config.integer("linear_num_key_heads", maximum=MAXIMUM_HEADS)
    value_heads = config.integer("linear_num_value_heads", maximum=MAXIMUM_HEADS)
    if value_heads % key_heads:
        raise config.error("linear_num_value_heads", f"a multiple of linear_num_key_heads {key_heads}")
    key_dim, value_dim = config.integer("linear_key_head_dim"), config.integer("linear_value_head_dim")
    return key_heads, value_heads, key_dim, value_dim, config.integer("linear_conv_kernel_dim")


def gated_delta(config: Config, *, fused: bool) -> StateSpace:
    """The gated delta net of Qwen3-Next (arXiv 2412.06464); `state` is the key dimension of a head.

    `fused` is Qwen3-Next's pair of projections (q, k, v, z and b, a); Qwen3.5 has four (q, k, v; z; b; a).
    The chunk length 64 is the default of the library's torch_chunk_gated_delta_rule.
    """
    hidden = config.integer("hidden_size")
    key_heads, heads, key_dim, value_dim, kernel = delta_widths(config)
    keys, values = key_heads * key_dim, heads * value_dim
    widths = (
        {"in_proj_qkvz": 2 * keys + 2 * values, "in_proj_ba": 2 * heads}
        if fused
        else {"in_proj_qkv": 2 * keys + values, "in_proj_z": values, "in_proj_b": heads, "in_proj_a": heads}
    )
    modules = (
        *(linear(name, hidden, width, "state_space") for name, width in widths.items()),
        causal_convolution(2 * keys + values, kernel, bias=False),
        parameter("dt_bias", (heads,), "state_space"),
        parameter("A_log", (heads,), "state_space"),
        rms_norm("norm", value_dim),
        linear("out_proj", values, hidden, "state_space"),
    )
    return StateSpace("gated_delta", modules, values, key_dim, heads, key_heads, kernel, chunk=64)
