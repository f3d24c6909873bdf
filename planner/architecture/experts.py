"""Mixture-of-experts and latent-attention blocks that many families share, and their multi-token-prediction layers.

Source: transformers models/mixtral, qwen2_moe, deepseek_v3 (modeling files); arXiv 2401.04088, 2405.04434, 2412.19437.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import gated_mlp, pre_norm_layer
from planner.architecture.config import MAXIMUM_EXPERTS, MAXIMUM_HEADS, MAXIMUM_LAYERS, Config
from planner.architecture.spec import (
    LatentAttention,
    Layer,
    Mixer,
    Mlp,
    ModelSpec,
    Module,
    Moe,
    Note,
    layer_modules,
    linear,
    rms_norm,
)


def fused_experts(hidden: int, intermediate: int, count: int) -> tuple[Module, ...]:
    """The routed experts of a layer as transformers 5 holds them: gate_up [E, 2i, h] and down [E, h, i]."""
    return (
        Module("experts.gate_up_proj", "experts", "experts", (count, 2 * intermediate, hidden)),
        Module("experts.down_proj", "experts", "experts", (count, hidden, intermediate)),
    )


def router_parameter(hidden: int, slots: int, bias: bool = False) -> Module:
    """A router held as a bare weight [slots, hidden], as most classes of transformers 5 do: no nn.Linear."""
    return Module("gate.weight", "parameter", "router", (slots, hidden), slots if bias else 0)


def expert_count(config: Config, name: str) -> int:
    """The number of routed experts."""
    return config.integer(name, maximum=MAXIMUM_EXPERTS)


def chosen_experts(config: Config, name: str, slots: int) -> int:
    """Experts per token, at most as many as the router has slots."""
    return config.integer(name, maximum=slots)


def routed(
    config: Config,
    *,
    count: int,
    intermediate: int,
    top_k: str = "num_experts_per_tok",
    shared: Mlp | None = None,
    shared_gate: Module | None = None,
    activation: str = "silu",
) -> Moe:
    """A block of `count` gated experts behind a router [count, hidden], with an optional shared MLP."""
    hidden = config.integer("hidden_size")
    return Moe(
        hidden=hidden,
        intermediate=intermediate,
        expert_count=count,
        top_k=chosen_experts(config, top_k, count),
        router=router_parameter(hidden, count),
        experts=fused_experts(hidden, intermediate, count),
        shared=shared,
        shared_gate=shared_gate,
        activation=activation,
    )


def shared_mlp(hidden: int, intermediate: int, activation: str = "silu") -> Mlp | None:
    """Shared experts as one gated MLP of `intermediate` columns; None when there are none."""
    if not intermediate:
        return None
    return gated_mlp(hidden, intermediate, activation=activation, component="shared_experts")


def sparse_by_step(config: Config, count: int) -> list[bool]:
    """Qwen's rule: layer i is sparse unless listed in `mlp_only_layers`, and when (i + 1) % decoder_sparse_step = 0."""
    step = config.integer("decoder_sparse_step", 1)
    dense = config.items("mlp_only_layers") or []
    if not all(isinstance(index, int) and not isinstance(index, bool) for index in dense):
        raise config.error("mlp_only_layers", "a list of layer indices")
    dense_indices: set[object] = set(dense)
    return [index not in dense_indices and (index + 1) % step == 0 for index in range(count)]


def sparse_after_first(config: Config, count: int) -> list[bool]:
    """DeepSeek's rule: the first `first_k_dense_replace` layers are dense, the others sparse."""
    first = config.integer("first_k_dense_replace", minimum=0, maximum=MAXIMUM_LAYERS)
    return [index >= first for index in range(count)]


def sparse_by_type(config: Config, count: int, first: int) -> list[bool]:
    """`mlp_layer_types` ("dense" or "sparse" per layer), or `first` dense layers and then sparse ones."""
    names = config.items("mlp_layer_types", count)
    if names is None:
        return [index >= first for index in range(count)]
    if any(name not in ("dense", "sparse") for name in names):
        raise config.error("mlp_layer_types", "a list of dense and sparse")
    return [name == "sparse" for name in names]


def first_dense(config: Config, default: int) -> int:
    """`first_k_dense_replace`, or the library's default for the class."""
    return config.integer("first_k_dense_replace", default, minimum=0, maximum=MAXIMUM_LAYERS)


def latent_attention(config: Config, extra: tuple[Module, ...] = ()) -> LatentAttention:
    """DeepSeek's multi-head latent attention; `q_lora_rank: null` means one full query projection.

    q: h -> rank -> heads x (nope + rope); kv: h -> kv_rank + rope, kv_rank -> heads x (nope + v); o: heads x v -> h.
    `attention_bias` adds biases to the two down projections and to o only.
    """
    hidden = config.integer("hidden_size")
    heads = config.integer("num_attention_heads", maximum=MAXIMUM_HEADS)
    nope, rope = config.integer("qk_nope_head_dim"), config.integer("qk_rope_head_dim")
    value, rank = config.integer("v_head_dim"), config.integer("kv_lora_rank")
    query_rank = config.optional_integer("q_lora_rank")
    bias = config.flag("attention_bias", False)
    queries = heads * (nope + rope)
    low_rank = query_rank is not None
    return LatentAttention(
        heads=heads,
        query_nope_dim=nope,
        rope_dim=rope,
        value_head_dim=value,
        kv_rank=rank,
        kv_a=linear("kv_a_proj_with_mqa", hidden, rank + rope, "attention", bias),
        kv_a_norm=rms_norm("kv_a_layernorm", rank),
        kv_b=linear("kv_b_proj", rank, heads * (nope + value), "attention"),
        o=linear("o_proj", heads * value, hidden, "attention", bias),
        q=None if low_rank else linear("q_proj", hidden, queries, "attention"),
        q_a=linear("q_a_proj", hidden, query_rank, "attention", bias) if low_rank else None,
        q_a_norm=rms_norm("q_a_layernorm", query_rank) if low_rank else None,
        q_b=linear("q_b_proj", query_rank, queries, "attention") if low_rank else None,
        extra=extra,
    )


def interleaved(hidden: int, attention: Mixer, dense: Mlp, sparse: Moe, pattern: list[bool]) -> list[Layer]:
    """One pre-norm layer per entry of `pattern`: its feed-forward block is `sparse` where True, else `dense`."""
    layers = {False: pre_norm_layer(hidden, attention, dense), True: pre_norm_layer(hidden, attention, sparse)}
    return [layers[is_sparse] for is_sparse in pattern]


def layer_elements(layer: Layer) -> int:
    """Parameters of one layer."""
    return sum(module.elements for module in layer_modules(layer))


def prediction_depth(config: Config, name: str = "num_nextn_predict_layers") -> int:
    """How many multi-token-prediction layers the checkpoint has; the field's absence means none."""
    return config.integer(name, minimum=0, maximum=MAXIMUM_LAYERS) if name in config else 0


def mtp_elements(layer: Layer, hidden: int, *, norms: int = 3, vocabulary_copies: int = 0, vocabulary: int = 0) -> int:
    """Stored parameters of one multi-token-prediction layer (DeepSeek-V3, arXiv 2412.19437, section 2.2).

    A decoder layer, a projection [h, 2h] of (hidden state, next embedding), `norms` RMSNorms of h, and as many copies
    of the vocabulary matrix as the checkpoint stores beside the model's own.
    """
    return layer_elements(layer) + 2 * hidden**2 + norms * hidden + vocabulary_copies * vocabulary * hidden


def mtp_note(elements: int) -> tuple[Note, ...]:
    """The note that says why a checkpoint holds more than is trained."""
    if not elements:
        return ()
    message = (
        f"The checkpoint also holds {elements:,} parameters for multi-token prediction. "
        "transformers does not build them, so they are neither loaded nor trained."
    )
    return (Note("mtp_not_trained", message, elements),)


def never_tied(spec: ModelSpec) -> ModelSpec:
    """The model with a head of its own: some classes have no tied weights, whatever `tie_word_embeddings` says."""
    if not spec.tied:
        return spec
    message = "The config ties head and embedding, but the library's class does not: the head is counted by itself."
    return replace(spec, tied=False, notes=(*spec.notes, Note("library_does_not_tie", message)))
