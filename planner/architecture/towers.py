"""Vision towers that several families share: Qwen3-VL's, GLM-4V's and Llama 4's.

Source: transformers models/qwen3_vl, glm4v, llama4 (modeling files). Every weight counts as component "vision".
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import fused_projections, gated_mlp, plain_mlp, projections
from planner.architecture.config import MAXIMUM_HEADS, MAXIMUM_LAYERS, Config
from planner.architecture.spec import Attention, Layer, LayerRun, Module, Stack, Sublayer, embedding, linear, parameter


def vision_norm(name: str, width: int, bias: bool = True) -> Module:
    """A LayerNorm (or an RMSNorm without bias) of a tower."""
    return Module(name, "layer_norm" if bias else "rms_norm", "vision", (width,), width if bias else 0)


def tower_heads(config: Config, name: str = "num_heads") -> tuple[int, int]:
    """(heads, head dim) of a tower; the heads must divide its hidden size."""
    hidden, heads = config.integer("hidden_size"), config.integer(name, maximum=MAXIMUM_HEADS)
    if hidden % heads:
        raise config.error(name, f"a divisor of hidden_size {hidden}")
    return heads, hidden // heads


def patch_convolution(config: Config) -> Module:
    """A Conv3d over `temporal_patch_size` x `patch_size` x `patch_size` voxels, with bias."""
    hidden, patch = config.integer("hidden_size"), config.integer("patch_size", maximum=4096)
    frames = config.integer("temporal_patch_size", maximum=4096)
    return Module(
        "patch_embed.proj", "conv", "vision", (hidden, config.integer("in_channels"), frames, patch, patch), hidden
    )


def fused_tower_attention(config: Config, bias: bool, output_bias: bool) -> Attention:
    """Bidirectional attention with a fused projection and two-dimensional RoPE."""
    heads, head_dim = tower_heads(config)
    attention = fused_projections(
        config.integer("hidden_size"),
        heads,
        heads,
        head_dim,
        qkv_bias=bias,
        output_bias=output_bias,
        component="vision",
        names=("qkv", "proj"),
    )
    return replace(attention, causal=False)


def qwen_merger(config: Config, name: str, shuffles_first: bool) -> tuple[Module, ...]:
    """Four patches (spatial_merge_size squared) to one token: norm, linear, linear to `out_hidden_size`."""
    hidden = config.integer("hidden_size")
    merged = hidden * config.integer("spatial_merge_size", maximum=64) ** 2
    return (
        vision_norm(f"{name}.norm", merged if shuffles_first else hidden),
        linear(f"{name}.linear_fc1", merged, merged, "vision", True),
        linear(f"{name}.linear_fc2", merged, config.integer("out_hidden_size"), "vision", True),
    )


def qwen3_tower(config: Config, deepstack: bool) -> Stack:
    """Qwen3-VL's and Qwen3.5's tower; `deepstack` adds a merger per entry of `deepstack_visual_indexes`.

    Images have any size; `positions_per_sample` is the learned grid's, which is resampled to the image.
    """
    hidden, positions = config.integer("hidden_size"), config.integer("num_position_embeddings")
    attention = fused_tower_attention(config, bias=True, output_bias=True)
    mlp = plain_mlp(
        hidden,
        config.integer("intermediate_size"),
        activation=config.text("hidden_act", "gelu_pytorch_tanh"),
        component="vision",
        names=("linear_fc1", "linear_fc2"),
    )
    layer = Layer((Sublayer(attention, vision_norm("norm1", hidden)), Sublayer(mlp, vision_norm("norm2", hidden))))
    indexes = config.items("deepstack_visual_indexes") or []
    extra = tuple(
        module
        for index in range(len(indexes) if deepstack else 0)
        for module in qwen_merger(config, f"deepstack_merger_list.{index}", shuffles_first=True)
    )
    return Stack(
        "vision",
        hidden,
        (LayerRun(layer, config.layers("depth")),),
        before=(patch_convolution(config), embedding("pos_embed", positions, hidden, "vision")),
        after=(*qwen_merger(config, "merger", shuffles_first=False), *extra),
        positions_per_sample=positions,
    )


def grid_positions(config: Config) -> int:
    """Patches of an image of `image_size` cut into squares of `patch_size`."""
    side, patch = config.integer("image_size", maximum=2**16), config.integer("patch_size", maximum=2**16)
    if side < patch:
        raise config.error("image_size", f"at least patch_size {patch}")
    return (side // patch) ** 2


def glm4v_tower(config: Config) -> Stack:
    """GLM-4V's tower: RMSNorms, gated MLPs of `out_hidden_size` columns, a downsampling convolution, a merger."""
    hidden, width, merge = config.integer("hidden_size"), config.integer("out_hidden_size"), "spatial_merge_size"
    attention = fused_tower_attention(config, bias=config.flag("attention_bias", False), output_bias=False)
    mlp = gated_mlp(hidden, width, activation=config.text("hidden_act", "silu"), component="vision")
    layer = Layer(
        (Sublayer(attention, vision_norm("norm1", hidden, False)), Sublayer(mlp, vision_norm("norm2", hidden, False)))
    )
    square, context = config.integer(merge, maximum=64), config.integer("intermediate_size")
    positions = grid_positions(config)
    return Stack(
        "vision",
        hidden,
        (LayerRun(layer, config.layers("depth")),),
        before=(
            patch_convolution(config),
            vision_norm("post_conv_layernorm", hidden, False),
            embedding("embeddings.position_embedding", positions, hidden, "vision"),
        ),
        after=(
            vision_norm("post_layernorm", hidden, False),
            Module("downsample", "conv", "vision", (width, hidden, square, square), width),
            linear("merger.proj", width, width, "vision"),
            vision_norm("merger.post_projection_norm", width),
            linear("merger.gate_proj", width, context, "vision"),
            linear("merger.up_proj", width, context, "vision"),
            linear("merger.down_proj", context, width, "vision"),
        ),
        positions_per_sample=positions,
    )


def llama4_tower(config: Config, text_hidden: int) -> Stack:
    """Llama 4's tower: unfolded patches, one class token, pixel shuffle, adapter and projector without biases."""
    hidden, width = config.integer("hidden_size"), config.integer("intermediate_size")
    heads, head_dim = tower_heads(config, "num_attention_heads")
    attention = projections(hidden, heads, heads, head_dim, qkv_bias=True, output_bias=True, component="vision")
    mlp = plain_mlp(hidden, width, activation="gelu", component="vision")
    layer = Layer(
        (
            Sublayer(replace(attention, causal=False), vision_norm("input_layernorm", hidden)),
            Sublayer(mlp, vision_norm("post_attention_layernorm", hidden)),
        )
    )
    patch_width = config.integer("num_channels", maximum=4096) * config.integer("patch_size", maximum=4096) ** 2
    positions, adapted = grid_positions(config) + 1, config.integer("projector_output_dim")
    return Stack(
        "vision",
        hidden,
        (LayerRun(layer, config.integer("num_hidden_layers", minimum=0, maximum=MAXIMUM_LAYERS)),),
        before=(
            linear("patch_embedding.linear", patch_width, hidden, "vision"),
            parameter("class_embedding", (hidden,), "vision"),
            parameter("positional_embedding_vlm", (positions, hidden), "vision"),
            vision_norm("layernorm_pre", hidden),
        ),
        after=(
            vision_norm("layernorm_post", hidden),
            linear("vision_adapter.mlp.fc1", width, config.integer("projector_input_dim"), "vision"),
            linear("vision_adapter.mlp.fc2", adapted, adapted, "vision"),
            linear("multi_modal_projector.linear_1", config.integer("vision_output_dim"), text_hidden, "vision"),
        ),
        positions_per_sample=positions,
    )
