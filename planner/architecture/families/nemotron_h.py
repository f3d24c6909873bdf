"""Nemotron-H and Nemotron 3: one mixer per layer (Mamba-2, attention, MLP or experts), squared ReLU, no gates.

Source: transformers models/nemotron_h (modeling and configuration files); arXiv 2504.03624.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, filled, grouped_attention, plain_mlp
from planner.architecture.config import MAXIMUM_HEADS, MAXIMUM_LAYERS, Config
from planner.architecture.experts import (
    chosen_experts,
    expert_count,
    mtp_note,
    never_tied,
    prediction_depth,
    router_parameter,
)
from planner.architecture.reader import Reader
from planner.architecture.recurrent import Mamba2Widths, mamba2
from planner.architecture.spec import (
    Attention,
    Layer,
    Mixer,
    Mlp,
    ModelSpec,
    Module,
    Moe,
    StateSpace,
    Sublayer,
    layer_modules,
    linear,
    rms_norm,
)

PATTERN = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
OTHER_NAMES = {"linear_attention": "mamba", "full_attention": "attention"}


def kinds_of(config: Config, listed: str, pattern: str) -> list[str]:
    """Kinds of mixers from the list `listed` or, where that is missing, from the string `pattern` (M, *, -, E)."""
    accepted = "mamba, attention, mlp and moe"
    names = config.items(listed)
    if names is not None:
        kinds = [OTHER_NAMES.get(name, name) if isinstance(name, str) else "" for name in names]
        if len(kinds) > MAXIMUM_LAYERS or not set(kinds) <= set(PATTERN.values()):
            raise config.error(listed, f"a list of {accepted}")
        return kinds
    letters = config.values.get(pattern)
    if not isinstance(letters, str) or len(letters) > MAXIMUM_LAYERS or not set(letters) <= set(PATTERN):
        raise config.error(pattern, f"a string of M, *, - and E, or {listed}: a list of {accepted}")
    return [PATTERN[letter] for letter in letters]


def recurrent_mixer(config: Config) -> StateSpace:
    """The Mamba-2 mixer; its width is mamba_num_heads x mamba_head_dim, `expand` plays no part."""
    widths = Mamba2Widths(
        hidden=config.integer("hidden_size"),
        heads=config.integer("mamba_num_heads", maximum=MAXIMUM_HEADS),
        head_dim=config.integer("mamba_head_dim"),
        groups=config.integer("n_groups", maximum=MAXIMUM_HEADS),
        state=config.integer("ssm_state_size"),
        kernel=config.integer("conv_kernel", 4),
        chunk=config.integer("chunk_size", 128),
    )
    bias = config.flag("use_bias", False)
    return mamba2(widths, conv_bias=config.flag("use_conv_bias", True), input_bias=bias, output_bias=bias)


def attention_mixer(config: Config) -> Attention:
    """Grouped attention without biases and without positions; head_dim is 128 unless given, as in the library."""
    return replace(grouped_attention(filled(config, head_dim=128)), position="none")


def plain(config: Config, width: str, shared: bool = False) -> Mlp:
    """An MLP without a gate, of `width` columns."""
    return plain_mlp(
        config.integer("hidden_size"),
        config.integer(width),
        bias=config.flag("mlp_bias", False),
        activation=config.text("mlp_hidden_act", "relu2"),
        component="shared_experts" if shared else "mlp",
        names=("up_proj", "down_proj"),
    )


def expert_mixer(config: Config) -> Moe:
    """Experts without gates (up [E, i, w], down [E, w, i]); w is h, or `moe_latent_size` behind two projections."""
    hidden, columns = config.integer("hidden_size"), config.integer("moe_intermediate_size")
    latent = config.optional_integer("moe_latent_size")
    width, bias = latent or hidden, config.flag("mlp_bias", False)
    count = expert_count(config, "n_routed_experts")
    latent_projections = (
        linear("fc1_latent_proj", hidden, width, "mlp", bias),
        linear("fc2_latent_proj", width, hidden, "mlp", bias),
    )
    return Moe(
        hidden=hidden,
        intermediate=columns,
        expert_count=count,
        top_k=chosen_experts(config, "num_experts_per_tok", count),
        router=router_parameter(hidden, count),
        experts=(
            Module("experts.up_proj", "experts", "experts", (count, columns, width)),
            Module("experts.down_proj", "experts", "experts", (count, width, columns)),
        ),
        gated=False,
        activation=config.text("mlp_hidden_act", "relu2"),
        shared=plain(config, "moe_shared_expert_intermediate_size", shared=True),
        extra=latent_projections if latent else (),
    )


def mixer(config: Config, kind: str) -> Mixer:
    """The mixer of one kind."""
    if kind == "mamba":
        return recurrent_mixer(config)
    if kind == "attention":
        return attention_mixer(config)
    return expert_mixer(config) if kind == "moe" else plain(config, "intermediate_size")


def read_nemotron_h(config: Config) -> ModelSpec:
    """model_type nemotron_h: the list of mixers, not `num_hidden_layers`, says how many layers there are."""
    hidden = config.integer("hidden_size")
    depth = prediction_depth(config)
    extra = kinds_of(config, "mtp_layers_block_type", "mtp_hybrid_override_pattern") if depth else []
    kinds = kinds_of(config, "layers_block_type", "hybrid_override_pattern")
    layers = {kind: Layer((Sublayer(mixer(config, kind), rms_norm("norm", hidden)),)) for kind in {*kinds, *extra}}
    elements = sum(module.elements for kind in extra for module in layer_modules(layers[kind]))
    predicted = depth * (elements + 2 * hidden**2 + 3 * hidden)
    spec = never_tied(decoder(config, [layers[kind] for kind in kinds]))
    return replace(spec, mtp_parameters=predicted, notes=(*spec.notes, *mtp_note(predicted)))


READERS: dict[str, Reader] = {"nemotron_h": read_nemotron_h}
