"""Mamba and Falcon Mamba: no attention, one recurrent mixer per layer.

Source: transformers models/mamba and falcon_mamba (modeling and configuration files); arXiv 2312.00752, 2410.05355.
"""

from __future__ import annotations

from planner.architecture.blocks import decoder
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.recurrent import mamba, time_step_rank
from planner.architecture.spec import Layer, ModelSpec, Sublayer, rms_norm


def inner_width(config: Config) -> int:
    """`intermediate_size` where it is given (it wins in the library), else expand x hidden_size."""
    if "intermediate_size" in config:
        return config.integer("intermediate_size")
    return config.integer("expand", 2, maximum=64) * config.integer("hidden_size")


def read_mamba(config: Config) -> ModelSpec:
    """model_type mamba and falcon_mamba (which also norms time steps, B and C, without weights)."""
    hidden = config.integer("hidden_size")
    mixer = mamba(
        hidden,
        inner=inner_width(config),
        state=config.integer("state_size", 16),
        kernel=config.integer("conv_kernel", 4),
        rank=time_step_rank(config, "time_step_rank"),
        conv_bias=config.flag("use_conv_bias", True),
        bias=config.flag("use_bias", False),
    )
    layer = Layer((Sublayer(mixer, rms_norm("norm", hidden)),))
    return decoder(config, [layer] * config.layers(), tied_by_default=True)


READERS: dict[str, Reader] = {"mamba": read_mamba, "falcon_mamba": read_mamba}
