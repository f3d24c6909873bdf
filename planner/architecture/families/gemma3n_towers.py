"""The vision and audio towers of Gemma 3n.

Source: transformers models/gemma3n (Gemma3nAudioEncoder, Gemma3nMultimodalEmbedder); the vision tower is MobileNetV5
of the timm library (timm 1.0.31, models/mobilenetv5.py), counted on the meta device.
"""

from __future__ import annotations

from planner.architecture.blocks import bare_rms_norm, runs_of
from planner.architecture.config import MAXIMUM_VOCABULARY, Config
from planner.architecture.families.gemma4_towers import conformer_layer, local_attention
from planner.architecture.spec import Module, Stack, embedding, linear, parameter, rms_norm
from planner.architecture.vision import tower_heads

BACKBONES = {"mobilenetv5_300m_enc": 294_126_912}
CLASS_CHANNELS = [128, 32]
CLASS_PAIRS = {"sscp_conv_kernel_size": 3, "sscp_conv_stride_size": 2}


def embedder(name: str, rows: int, width: int, text_hidden: int) -> tuple[Module, ...]:
    """Tokens of a modality: a small table, two norms, a projection to the text model's width."""
    return (
        embedding(f"{name}.embedding", rows, width),
        rms_norm(f"{name}.hard_embedding_norm", width),
        rms_norm(f"{name}.soft_embedding_norm", width),
        linear(f"{name}.embedding_projection", width, text_hidden, "other"),
        bare_rms_norm(f"{name}.embedding_post_projection_norm"),
    )


def _table_rows(config: Config) -> int:
    return config.integer("vocab_size", 128, maximum=MAXIMUM_VOCABULARY)


def vision_tower(config: Config, text_hidden: int) -> Stack:
    """The convolutional backbone as one block of parameters: its layers are not described, only counted."""
    name = config.text("architecture", "mobilenetv5_300m_enc")
    if name not in BACKBONES:
        raise config.error("architecture", f"one of {', '.join(BACKBONES)}")
    width = config.integer("hidden_size", 2048)
    return Stack(
        "vision",
        width,
        (),
        before=(parameter(f"timm.{name}", (BACKBONES[name],), "vision"),),
        after=embedder("embed_vision", _table_rows(config), width, text_hidden),
    )


def _uniform(config: Config, name: str) -> int:
    """The side of the two square kernels or strides; the class would take others, the published models have none."""
    side = CLASS_PAIRS[name]
    given = config.items(name)
    if given is not None and given != [[side, side], [side, side]]:
        raise config.error(name, f"[[{side}, {side}], [{side}, {side}]]: other shapes are not modelled")
    return side


def _subsampling(config: Config, hidden: int) -> tuple[Module, ...]:
    """Two convolutions over time and frequency (one frequency of padding on each side) and a projection."""
    channels = config.items("sscp_conv_channel_size", 2) or CLASS_CHANNELS
    if any(type(entry) is not int or not 1 <= entry <= 2**16 for entry in channels):
        raise config.error("sscp_conv_channel_size", "two channel counts from 1 to 65536")
    first, second = channels
    kernel, stride = _uniform(config, "sscp_conv_kernel_size"), _uniform(config, "sscp_conv_stride_size")
    frequencies = config.integer("input_feat_size", 128)
    for _ in range(2):
        frequencies = (frequencies + 2 - kernel) // stride + 1
    return (
        Module("conv_0.conv", "conv", "audio", (first, 1, kernel, kernel)),
        rms_norm("conv_0.norm", first),
        Module("conv_1.conv", "conv", "audio", (second, first, kernel, kernel)),
        rms_norm("conv_1.norm", second),
        linear("input_proj_linear", second * frequencies, hidden, "audio"),
    )


def audio_tower(config: Config, text_hidden: int) -> Stack:
    """A conformer behind two strided convolutions."""
    hidden = config.integer("hidden_size", 1536)
    chunk, left = config.integer("conf_attention_chunk_size", 12), config.integer("conf_attention_context_left", 13)
    window = chunk + left - 1 + config.integer("conf_attention_context_right", 0, minimum=0)
    heads = tower_heads(config, hidden, "conf_num_attention_heads")
    attention = local_attention(hidden, heads, window, "relative_position_embedding.pos_proj")
    kernel = config.integer("conf_conv_kernel_size", 5, maximum=4096)
    layer = conformer_layer(hidden, attention, kernel, "silu")
    return Stack(
        "audio",
        hidden,
        runs_of([layer] * config.layers("conf_num_hidden_layers", 12)),
        before=_subsampling(config, hidden),
        after=embedder("embed_audio", _table_rows(config), hidden, text_hidden),
    )
