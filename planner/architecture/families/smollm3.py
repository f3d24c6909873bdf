"""SmolLM3: Llama's block in which every fourth layer has no position embedding.

Source: transformers models/smollm3; NoPE: arXiv 2501.18795.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, filled, grouped_attention, layer_types_of, layers_by, llama_layer
from planner.architecture.config import Config
from planner.architecture.reader import Reader
from planner.architecture.spec import Layer, ModelSpec


def rope_layers(config: Config) -> list[bool]:
    """Which layers turn their heads by RoPE: `no_rope_layers` holds 1 for those that do, in spite of its name."""
    layers = config.layers()
    flags = config.items("no_rope_layers", layers)
    if flags is None:
        interval = config.integer("no_rope_layer_interval", 4)
        return [(index + 1) % interval != 0 for index in range(layers)]
    if any(flag not in (0, 1) for flag in flags):
        raise config.error("no_rope_layers", "a list of 0 and 1")
    return [bool(flag) for flag in flags]


def read_smollm3(config: Config) -> ModelSpec:
    """model_type smollm3: windows only with `use_sliding_window`, and then on the layers without RoPE."""
    config = filled(config, num_key_value_heads=4)
    bias, mlp_bias = config.flag("attention_bias", False), config.flag("mlp_bias", False)
    ropes = rope_layers(config)
    window = config.optional_integer("sliding_window") if config.flag("use_sliding_window", False) else None

    def rule(index: int) -> str:
        return "sliding_attention" if window is not None and not ropes[index] else "full_attention"

    types = layer_types_of(config, ("full_attention", "sliding_attention"), rule)

    def build(key: tuple[bool, str]) -> Layer:
        rope, layer_type = key
        attention = replace(
            grouped_attention(config, qkv_bias=bias, output_bias=bias),
            position="rope" if rope else "none",
            window=window if layer_type == "sliding_attention" else None,
        )
        return llama_layer(config, attention, mlp_bias=mlp_bias)

    return decoder(config, layers_by(list(zip(ropes, types, strict=True)), build), tied_by_default=True)


READERS: dict[str, Reader] = {"smollm3": read_smollm3}
