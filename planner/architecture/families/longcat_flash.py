"""LongCat-Flash: two latent attentions and two dense MLPs per layer, experts on a shortcut, zero experts.

Source: transformers models/longcat_flash (modeling and configuration files); arXiv 2509.01322.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, gated_mlp
from planner.architecture.config import MAXIMUM_EXPERTS, Config
from planner.architecture.experts import (
    chosen_experts,
    expert_count,
    fused_experts,
    latent_attention,
    layer_elements,
    mtp_note,
)
from planner.architecture.reader import Reader
from planner.architecture.spec import Layer, ModelSpec, Moe, Note, Parallel, Sublayer, linear, rms_norm


def zero_expert_block(config: Config) -> Moe:
    """Experts with weights and `zero_expert_num` identity experts; the router, an nn.Linear, has a row for each."""
    hidden = config.integer("hidden_size")
    count = expert_count(config, "n_routed_experts")
    zero_experts = config.integer("zero_expert_num", 256, minimum=0, maximum=MAXIMUM_EXPERTS)
    intermediate = config.integer("expert_ffn_hidden_size")
    router_bias = "router_bias" in config and config.flag("router_bias")
    return Moe(
        hidden=hidden,
        intermediate=intermediate,
        expert_count=count,
        top_k=chosen_experts(config, "moe_topk", count + zero_experts),
        router=linear("router.classifier", hidden, count + zero_experts, "router", router_bias),
        experts=fused_experts(hidden, intermediate, count),
        zero_experts=zero_experts,
        activation=config.text("hidden_act", "silu"),
    )


def shortcut_layer(config: Config, experts: Moe) -> Layer:
    """attention, (MLP + experts), attention, MLP: the experts' output joins the residual only at the layer's end.

    Addition commutes, so the experts stand beside the first MLP here; the library keeps their output for longer.
    """
    hidden = config.integer("hidden_size")
    attention = latent_attention(config)
    mlp = gated_mlp(hidden, config.integer("ffn_hidden_size"), activation=config.text("hidden_act", "silu"))
    both = Parallel((Sublayer(mlp), Sublayer(experts)))
    return Layer(
        (
            Sublayer(attention, rms_norm("input_layernorm.0", hidden)),
            Sublayer(both, rms_norm("post_attention_layernorm.0", hidden)),
            Sublayer(attention, rms_norm("input_layernorm.1", hidden)),
            Sublayer(mlp, rms_norm("post_attention_layernorm.1", hidden)),
        )
    )


def phantom_note(elements: int, zero_experts: int) -> tuple[Note, ...]:
    """The note that says why the library's own class counts more."""
    if not elements:
        return ()
    message = (
        f"transformers allocates gate_up_proj for the {zero_experts} zero experts too, although no checkpoint has "
        f"weights for them: its class counts {elements:,} parameters more than the model has. The memory given here is "
        "that of the model, without them."
    )
    return (Note("library_allocates_phantom_experts", message, elements),)


def layer_count(config: Config) -> int:
    """`num_layers` counts modules of two attentions; `num_hidden_layers`, which the library answers, counts both."""
    if "num_layers" in config:
        return config.layers("num_layers")
    doubled = config.layers()
    if doubled % 2:
        raise config.error("num_hidden_layers", "an even number (two attentions per layer), or give num_layers")
    return doubled // 2


def prediction_elements(config: Config) -> int:
    """The MTP layer of the checkpoint: one attention, one dense MLP, a token table, a projection and five norms.

    The published configuration does not mention the layer; each published checkpoint of this model has one.
    """
    hidden = config.integer("hidden_size")
    layer = Layer(
        (
            Sublayer(latent_attention(config)),
            Sublayer(gated_mlp(hidden, config.integer("ffn_hidden_size"))),
        )
    )
    return layer_elements(layer) + 2 * hidden**2 + 5 * hidden + config.integer("vocab_size") * hidden


def read_longcat_flash(config: Config) -> ModelSpec:
    """model_type longcat_flash."""
    experts = zero_expert_block(config)
    count = layer_count(config)
    spec = decoder(config, [shortcut_layer(config, experts)] * count)
    phantoms = count * experts.zero_experts * 2 * experts.intermediate * experts.hidden
    mtp = prediction_elements(config)
    notes = (*phantom_note(phantoms, experts.zero_experts), *mtp_note(mtp))
    return replace(spec, phantoms=phantoms, mtp_parameters=mtp, notes=notes)


READERS: dict[str, Reader] = {"longcat_flash": read_longcat_flash}
