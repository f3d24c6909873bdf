"""DeepSeek V4: residual streams mixed by hyper-connections, compressed keys and values, layers routed by token id.

Source: transformers models/deepseek_v4 (modeling and configuration files). The weights are counted exactly; the forward
pass, whose streams, compressors and grouped output projection no other class has, is not described, so that the step
of these models is refused.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.blocks import decoder, gated_mlp, layers_by, vocabulary_of
from planner.architecture.config import MAXIMUM_HEADS, Config
from planner.architecture.experts import expert_count, mtp_elements, mtp_note, prediction_depth, routed
from planner.architecture.reader import Reader
from planner.architecture.spec import Layer, ModelSpec, Module, Moe, Opaque, Sublayer, linear, parameter, rms_norm

SLIDING, SPARSE, HEAVY = "sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"
RATES = {SPARSE: 4, HEAVY: 128}
KINDS: dict[int | str, str] = {kind: kind for kind in (SLIDING, SPARSE, HEAVY)}
BY_RATIO: dict[int | str, str] = {0: SLIDING, 4: SPARSE, 128: HEAVY}
OLDER_RATES = {SPARSE: "compress_rate_csa", HEAVY: "compress_rate_hca"}
STREAMS = 4  # hc_mult of DeepseekV4Config
STORED = {"fp8": "float8", "fp4": "mxfp4"}


def layer_kinds(config: Config) -> list[str]:
    """The attention of each layer: `layer_types`, else `compress_ratios`, else two heavy layers and an alternation.

    Either list may be longer than the model: the surplus describes multi-token-prediction layers.
    """
    count = config.layers()
    name = "layer_types" if "layer_types" in config else "compress_ratios"
    entries = config.items(name)
    if entries is None:
        return [SPARSE if index >= 2 and index % 2 else HEAVY for index in range(count)]
    names = BY_RATIO if name == "compress_ratios" else KINDS
    if len(entries) < count or any(type(entry) not in (int, str) or entry not in names for entry in entries):
        raise config.error(name, f"a list of at least {count} of {', '.join(map(str, names))}")
    return [names[entry] for entry in entries[:count]]


def window_of(config: Config, kind: str) -> int:
    """Tokens that one compressed entry stands for: `compress_rates`, which the older scalar fields override."""
    if OLDER_RATES[kind] in config:
        return config.integer(OLDER_RATES[kind])
    if "compress_rates" in config:
        return config.section("compress_rates").integer(kind)
    return RATES[kind]


def compressor(config: Config, prefix: str, width: int, window: int, series: int) -> tuple[Module, ...]:
    """Keys that are values too, a gate, a bias by position in the window, a norm; `series` overlapping ones."""
    hidden = config.integer("hidden_size")
    return (
        linear(f"{prefix}.kv_proj", hidden, series * width, "attention"),
        linear(f"{prefix}.gate_proj", hidden, series * width, "attention"),
        parameter(f"{prefix}.position_bias", (window, series * width), "attention"),
        rms_norm(f"{prefix}.kv_norm", width),
    )


def compression(config: Config, kind: str) -> tuple[Module, ...]:
    """What a layer's attention has beside the sliding window: nothing, a compressor, or one with an indexer."""
    if kind == SLIDING:
        return ()
    width, window = config.integer("head_dim"), window_of(config, kind)
    if kind == HEAVY:
        return compressor(config, "compressor", width, window, series=1)
    index = config.integer("index_head_dim", 128)
    heads = config.integer("index_n_heads", 64, maximum=MAXIMUM_HEADS)
    return (
        *compressor(config, "compressor", width, window, series=2),
        *compressor(config, "compressor.indexer", index, window, series=2),
        linear("compressor.indexer.q_b_proj", config.integer("q_lora_rank"), heads * index, "attention"),
        linear("compressor.indexer.scorer.weights_proj", config.integer("hidden_size"), heads, "attention"),
    )


def attention(config: Config) -> tuple[Module, ...]:
    """A low-rank query, one head of keys that are the values, sinks, and an output projected in groups of heads.

    o_a is an nn.Linear whose input is one group's: [groups x rank, heads x head_dim / groups].
    """
    hidden, width, rank = config.integer("hidden_size"), config.integer("head_dim"), config.integer("q_lora_rank")
    heads = config.integer("num_attention_heads", maximum=MAXIMUM_HEADS)
    groups = config.integer("o_groups", maximum=MAXIMUM_HEADS)
    mixed = groups * config.integer("o_lora_rank")
    if heads * width % groups:
        raise config.error("o_groups", f"a divisor of num_attention_heads x head_dim = {heads * width}")
    return (
        linear("q_a_proj", hidden, rank, "attention"),
        rms_norm("q_a_norm", rank),
        linear("q_b_proj", rank, heads * width, "attention"),
        linear("kv_proj", hidden, width, "attention"),
        rms_norm("kv_norm", width),
        linear("o_a_proj", heads * width // groups, mixed, "attention"),
        linear("o_b_proj", mixed, hidden, "attention"),
        parameter("sinks", (heads,), "attention"),
    )


def streams_of(config: Config) -> int:
    """Residual streams (`hc_mult`)."""
    return config.integer("hc_mult", STREAMS, maximum=1024)


def mixing(prefix: str, hidden: int, streams: int, outputs: int, scales: int) -> tuple[Module, ...]:
    """A hyper-connection: one product over all streams gives `outputs` coefficients, each with a base."""
    return (
        parameter(f"{prefix}fn", (outputs, streams * hidden), "other"),
        parameter(f"{prefix}base", (outputs,), "other"),
        parameter(f"{prefix}scale", (scales,), "other"),
    )


def experts(config: Config) -> Moe:
    """Routed experts and one shared MLP as wide as one of them, whatever `n_shared_experts` says."""
    hidden, inner = config.integer("hidden_size"), config.integer("moe_intermediate_size")
    activation = config.text("hidden_act", "silu")
    bias = config.flag("mlp_bias", False)
    return routed(
        config,
        count=expert_count(config, "n_routed_experts"),
        intermediate=inner,
        shared=gated_mlp(hidden, inner, bias=bias, activation=activation, component="shared_experts"),
        activation=activation,
    )


def layer_of(config: Config, kind: str, sparse: Moe) -> Layer:
    """Attention and experts, each between a hyper-connection that makes its input and one that takes its output."""
    hidden, streams = config.integer("hidden_size"), streams_of(config)
    outputs = (2 + streams) * streams
    what = (
        f"DeepSeek V4 ({streams} residual streams mixed by hyper-connections, compressed keys and values, output "
        "projections by groups of heads, layers routed by token id)"
    )
    modules = (
        *mixing("attn_hc.", hidden, streams, outputs, scales=3),
        *mixing("ffn_hc.", hidden, streams, outputs, scales=3),
        *attention(config),
        *compression(config, kind),
    )
    return Layer(
        (
            Sublayer(Opaque(what, modules), rms_norm("input_layernorm", hidden)),
            Sublayer(sparse, rms_norm("post_attention_layernorm", hidden)),
        )
    )


def prediction_elements(config: Config, streams: tuple[Module, ...]) -> int:
    """Multi-token-prediction layers: sliding attention, mixing of its own streams, token table and head of its own.

    With it, with the buffers (router biases, tables from token to expert) and with a float8 scale for each 128 x 128
    block, the integers on the Hub are met exactly for both published base models.
    """
    layer = layer_of(config, SLIDING, experts(config))
    hidden, vocabulary = config.integer("hidden_size"), vocabulary_of(config)
    one = mtp_elements(layer, hidden, vocabulary_copies=2, vocabulary=vocabulary)
    return prediction_depth(config) * (one + sum(module.elements for module in streams))


def read_deepseek_v4(config: Config) -> ModelSpec:
    """model_type deepseek_v4; `expert_dtype` says how the checkpoint stores nearly all of its weights."""
    sparse = experts(config)
    spec = decoder(config, layers_by(layer_kinds(config), lambda kind: layer_of(config, kind, sparse)))
    streams = streams_of(config)
    join = mixing("hc_head.hc_", spec.hidden, streams, streams, scales=1)
    mtp = prediction_elements(config, join)
    stored = STORED.get(config.text("expert_dtype")) if "expert_dtype" in config else None
    return replace(
        spec,
        extra=join,
        mtp_parameters=mtp,
        stored_dtype=stored or spec.stored_dtype,
        notes=mtp_note(mtp),
    )


READERS: dict[str, Reader] = {"deepseek_v4": read_deepseek_v4}
