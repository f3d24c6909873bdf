"""Mamba-2 and Codestral Mamba: no attention, one Mamba-2 mixer per layer.

Source: transformers models/mamba2 (modeling and configuration files); arXiv 2405.21060.
"""

from __future__ import annotations

from planner.architecture.blocks import decoder
from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.reader import Reader
from planner.architecture.recurrent import Mamba2Widths, mamba2
from planner.architecture.spec import Layer, ModelSpec, Sublayer, rms_norm


def mixer_widths(config: Config) -> Mamba2Widths:
    """The mixer's sizes; num_heads x head_dim must equal expand x hidden_size, as the library demands."""
    widths = Mamba2Widths(
        hidden=config.integer("hidden_size"),
        heads=config.integer("num_heads", maximum=MAXIMUM_HEADS),
        head_dim=config.integer("head_dim"),
        groups=config.integer("n_groups", maximum=MAXIMUM_HEADS),
        state=config.integer("state_size"),
        kernel=config.integer("conv_kernel", 4),
        chunk=config.integer("chunk_size", 256),
    )
    expected = config.integer("expand", 2, maximum=64) * widths.hidden
    if widths.inner != expected:
        raise config.error("num_heads", f"a value with num_heads x head_dim = expand x hidden_size = {expected}")
    return widths


def read_mamba2(config: Config) -> ModelSpec:
    """model_type mamba2."""
    widths = mixer_widths(config)
    bias = config.flag("use_bias", False)
    mixer = mamba2(widths, conv_bias=config.flag("use_conv_bias", True), input_bias=bias, output_bias=bias)
    layer = Layer((Sublayer(mixer, rms_norm("norm", widths.hidden)),))
    return decoder(config, [layer] * config.layers())


READERS: dict[str, Reader] = {"mamba2": read_mamba2}
