"""Blocks that many families share, built from a config's fields."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

from planner.architecture.config import MAXIMUM_HEADS, MAXIMUM_VOCABULARY, Config
from planner.architecture.spec import (
    Attention,
    Component,
    Layer,
    LayerRun,
    Mixer,
    Mlp,
    ModelSpec,
    Module,
    Parallel,
    Stack,
    Sublayer,
    embedding,
    layer_norm,
    linear,
    rms_norm,
)

Key = TypeVar("Key", bound=Hashable)


def runs_of(layers: list[Layer]) -> tuple[LayerRun, ...]:
    """Equal neighbours joined into runs; equal layers become one object, so that later work is done once a kind."""
    seen: dict[int, Layer] = {}
    kinds: dict[Layer, Layer] = {}
    runs: list[LayerRun] = []
    for given in layers:
        layer = seen.get(id(given))
        if layer is None:
            layer = seen[id(given)] = kinds.setdefault(given, given)
        if runs and runs[-1].layer is layer:
            runs[-1] = LayerRun(layer, runs[-1].count + 1)
        else:
            runs.append(LayerRun(layer, 1))
    return tuple(runs)


def head_dim_of(config: Config, heads: int) -> int:
    """`head_dim` where the config has it, else hidden / heads (which must divide)."""
    if "head_dim" in config:
        return config.integer("head_dim")
    hidden = config.integer("hidden_size")
    if hidden % heads:
        raise config.error("num_attention_heads", f"a divisor of hidden_size {hidden}, or give head_dim")
    return hidden // heads


def heads_of(config: Config, missing: int | Literal["query_heads", "required"] = "query_heads") -> tuple[int, int]:
    """(query heads, key/value heads); the latter divide the former.

    A null `num_key_value_heads` means as many as query heads. `missing` says what an absent field means: the same, a
    class default of the library that is right for the model it names, or an error where that default names no model.
    """
    heads = config.integer("num_attention_heads", maximum=MAXIMUM_HEADS)
    if "num_key_value_heads" in config or (missing == "required" and "num_key_value_heads" not in config.values):
        key_value_heads = config.integer("num_key_value_heads", maximum=MAXIMUM_HEADS)
    elif isinstance(missing, int) and "num_key_value_heads" not in config.values:
        key_value_heads = config.integer("num_key_value_heads", missing, maximum=MAXIMUM_HEADS)
    else:
        key_value_heads = heads
    if heads % key_value_heads:
        raise config.error("num_key_value_heads", f"a divisor of num_attention_heads {heads}")
    return heads, key_value_heads


def grouped_attention(
    config: Config,
    *,
    qkv_bias: bool = False,
    output_bias: bool = False,
    qk_norm: bool = False,
    window: int | None = None,
    missing: int | Literal["query_heads", "required"] = "query_heads",
) -> Attention:
    """Llama's attention: q, k, v, o projections with grouped key/value heads, RoPE, optional per-head QK norms."""
    hidden = config.integer("hidden_size")
    heads, key_value_heads = heads_of(config, missing)
    head_dim = head_dim_of(config, heads)
    attention = projections(hidden, heads, key_value_heads, head_dim, qkv_bias=qkv_bias, output_bias=output_bias)
    norms = (rms_norm("q_norm", head_dim), rms_norm("k_norm", head_dim)) if qk_norm else (None, None)
    return replace(attention, window=window, q_norm=norms[0], k_norm=norms[1])


def projections(
    hidden: int,
    heads: int,
    key_value_heads: int,
    head_dim: int,
    *,
    qkv_bias: bool = False,
    output_bias: bool = False,
    component: Component = "attention",
) -> Attention:
    """Attention with separate projections: q [heads x head_dim, hidden], k, v [key_value_heads x head_dim, hidden]."""
    queries, keys = heads * head_dim, key_value_heads * head_dim
    return Attention(
        query_heads=heads,
        key_value_heads=key_value_heads,
        head_dim=head_dim,
        q=linear("q_proj", hidden, queries, component, qkv_bias),
        k=linear("k_proj", hidden, keys, component, qkv_bias),
        v=linear("v_proj", hidden, keys, component, qkv_bias),
        o=linear("o_proj", queries, hidden, component, output_bias),
    )


def clamps(config: Config, name: str) -> bool:
    """Whether a config names a limit that projections are clamped to; null and 0 mean none."""
    return name in config and config.number(name, 0.0) > 0


def fused_projections(
    hidden: int,
    heads: int,
    key_value_heads: int,
    head_dim: int,
    *,
    qkv_bias: bool = False,
    output_bias: bool = False,
    component: Component = "attention",
    names: tuple[str, str] = ("qkv_proj", "o_proj"),
) -> Attention:
    """Attention with one projection for query, key and value: [(heads + 2 key_value_heads) x head_dim, hidden]."""
    width = (heads + 2 * key_value_heads) * head_dim
    return Attention(
        query_heads=heads,
        key_value_heads=key_value_heads,
        head_dim=head_dim,
        qkv=linear(names[0], hidden, width, component, qkv_bias),
        o=linear(names[1], heads * head_dim, hidden, component, output_bias),
    )


def gated_mlp(
    hidden: int, intermediate: int, *, bias: bool = False, activation: str = "silu", component: Component = "mlp"
) -> Mlp:
    """Llama's MLP: down(act(gate(x)) * up(x)); shared experts count as their own component."""
    return Mlp(
        intermediate=intermediate,
        gate=linear("gate_proj", hidden, intermediate, component, bias),
        up=linear("up_proj", hidden, intermediate, component, bias),
        down=linear("down_proj", intermediate, hidden, component, bias),
        activation=activation,
    )


def plain_mlp(
    hidden: int,
    intermediate: int,
    *,
    bias: bool = True,
    activation: str,
    component: Component = "mlp",
    names: tuple[str, str] = ("fc1", "fc2"),
) -> Mlp:
    """The MLP of the first transformers: down(act(up(x)))."""
    return Mlp(
        intermediate=intermediate,
        up=linear(names[0], hidden, intermediate, component, bias),
        down=linear(names[1], intermediate, hidden, component, bias),
        activation=activation,
    )


def pre_norm_layer(hidden: int, attention: Mixer | Sublayer, feed_forward: Mixer | Sublayer) -> Layer:
    """Llama's layer: RMSNorm -> attention, RMSNorm -> MLP, each added to the residual."""
    first = attention if isinstance(attention, Sublayer) else Sublayer(attention, rms_norm("input_layernorm", hidden))
    second = (
        feed_forward
        if isinstance(feed_forward, Sublayer)
        else Sublayer(feed_forward, rms_norm("post_attention_layernorm", hidden))
    )
    return Layer((first, second))


def token_embedding(config: Config) -> Module:
    """The token table [vocab_size, hidden_size]."""
    return embedding(
        "embed_tokens", config.integer("vocab_size", maximum=MAXIMUM_VOCABULARY), config.integer("hidden_size")
    )


def lm_head(config: Config, bias: bool = False) -> Module:
    """The output projection [vocab_size, hidden_size]."""
    vocabulary = config.integer("vocab_size", maximum=MAXIMUM_VOCABULARY)
    return linear("lm_head", config.integer("hidden_size"), vocabulary, "lm_head", bias)


def layers_by(keys: Sequence[Key], build: Callable[[Key], Layer]) -> list[Layer]:
    """One layer per key; equal keys (a window, a layer type) share one layer, so that long models stay cheap."""
    built = {key: build(key) for key in dict.fromkeys(keys)}
    return [built[key] for key in keys]


def layer_types_of(config: Config, accepted: tuple[str, ...], default: Callable[[int], str]) -> list[str]:
    """`layer_types`, one name per layer, or the family's rule by layer index where the field is missing."""
    layers = config.layers()
    names = config.items("layer_types", layers)
    if names is None:
        return [default(index) for index in range(layers)]
    if any(name not in accepted for name in names):
        raise config.error("layer_types", f"a list of {', '.join(accepted)}")
    return [str(name) for name in names]


def windows_of(config: Config, window: int | None, default: Callable[[int], str]) -> list[int | None]:
    """The sliding window of each layer, None for full attention, from `layer_types` or the family's rule."""
    types = layer_types_of(config, ("full_attention", "sliding_attention"), default)
    return [window if name == "sliding_attention" else None for name in types]


def stored_dtype(config: Config) -> str | None:
    """The checkpoint's dtype: what `quantization_config` packs it into, else `dtype` or `torch_dtype`, else None."""
    if "quantization_config" in config:
        packed = _packed_dtype(config.section("quantization_config"))
        if packed is not None:
            return packed
    for name in ("dtype", "torch_dtype"):
        if name in config:
            return config.text(name)
    return None


def _packed_dtype(quantization: Config) -> str | None:
    """`quant_method` and its bits as a dtype name (transformers utils/quantization_config.py)."""
    method = quantization.text("quant_method", "") if "quant_method" in quantization else ""
    if method in ("fp8", "fbgemm_fp8"):
        return "float8"
    if method == "mxfp4":
        return "mxfp4"
    if method == "bitsandbytes":
        return "int4" if quantization.flag("load_in_4bit", False) else "int8"
    bits = quantization.optional_integer("bits", maximum=64)
    return {4: "int4", 8: "int8"}.get(bits or 0)


def filled(config: Config, **defaults: int | str | bool) -> Config:
    """The config with the library's class defaults for fields that are absent, each recorded as assumed.

    A field that is there and null stays null: classes read null by rules of their own.
    """
    absent = {name: value for name, value in defaults.items() if name not in config.values}
    config.assumed.update({f"{config.path}.{name}" if config.path else name: value for name, value in absent.items()})
    return replace(config, values={**config.values, **absent})


def text_of(config: Config) -> Config:
    """The level with the text model's fields: `text_config`, or the config itself in the older flat form."""
    return config.section("text_config") if "text_config" in config else config


def decoder(
    config: Config,
    layers: list[Layer],
    *,
    tied_by_default: bool = False,
    norm: Callable[[str, int], Module] = rms_norm,
    top: Config | None = None,
) -> ModelSpec:
    """A decoder of Llama's outline (token table, layers, final norm, head) around the given layers.

    `top` is the outer level of a composite config: transformers 5 reads model_type, tying and dtype there.
    """
    top = top or config
    hidden = config.integer("hidden_size")
    return ModelSpec(
        model_type=top.text("model_type"),
        text=Stack("text", hidden, runs_of(layers), after=(norm("norm", hidden),)),
        embeddings=(token_embedding(config),),
        vocabulary=vocabulary_of(config),
        max_positions=config.optional_integer("max_position_embeddings"),
        lm_head=lm_head(config),
        tied=top.flag("tie_word_embeddings", tied_by_default),
        stored_dtype=stored_dtype(top) or stored_dtype(config),
        assumed=config.assumed,
    )


def language_model(
    config: Config,
    text: Stack,
    *,
    embeddings: tuple[Module, ...],
    max_positions: int | None,
    tied_by_default: bool,
    head_bias: bool = False,
) -> ModelSpec:
    """A decoder of the older outlines: learned positions, LayerNorm, fields of other names.

    The head is as wide as the token table, which comes first in `embeddings`.
    """
    vocabulary = vocabulary_of(config)
    return ModelSpec(
        model_type=config.text("model_type"),
        text=text,
        embeddings=embeddings,
        vocabulary=vocabulary,
        max_positions=max_positions,
        lm_head=linear("lm_head", embeddings[0].shape[1], vocabulary, "lm_head", head_bias),
        tied=config.flag("tie_word_embeddings", tied_by_default),
        stored_dtype=stored_dtype(config),
        assumed=config.assumed,
    )


def vocabulary_of(config: Config) -> int:
    """`vocab_size` within its bounds."""
    return config.integer("vocab_size", maximum=MAXIMUM_VOCABULARY)


def called(config: Config, *names: str) -> str:
    """The first of a field's names that the config has (GPT-2's n_embd or hidden_size), or the first of all."""
    return next((name for name in names if name in config), names[0])


def even_head_dim(config: Config, hidden: int, heads: int, name: str) -> int:
    """Hidden width / heads for classes without a head width of their own; `name` is the field of the heads."""
    if hidden % heads:
        raise config.error(name, f"a divisor of the hidden size {hidden}")
    return hidden // heads


def activation_of(config: Config, default: str, name: str = "hidden_act") -> str:
    """The activation's name in the library's table."""
    return config.text(name, default)


def llama_layer(config: Config, attention: Attention, *, mlp_bias: bool = False, activation: str = "silu") -> Layer:
    """Llama's layer around a family's own attention; `activation` is the class default of `hidden_act`."""
    hidden = config.integer("hidden_size")
    named = activation_of(config, activation)
    mlp = gated_mlp(hidden, config.integer("intermediate_size"), bias=mlp_bias, activation=named)
    return pre_norm_layer(hidden, attention, mlp)


def post_norm_layer(hidden: int, attention: Attention, mlp: Mlp) -> Layer:
    """OLMo 2's layer: the norm stands after each sublayer, inside the residual branch (arXiv 2501.00656)."""
    return Layer(
        (
            Sublayer(attention, post_norm=rms_norm("post_attention_layernorm", hidden)),
            Sublayer(mlp, post_norm=rms_norm("post_feedforward_layernorm", hidden)),
        )
    )


def sequential_layer(attention: Attention, mlp: Mlp, norms: tuple[Module, Module]) -> Layer:
    """GPT-2's order: norm -> attention, norm -> MLP, each added to the residual."""
    return Layer((Sublayer(attention, norms[0]), Sublayer(mlp, norms[1])))


def parallel_layer(attention: Attention, mlp: Mlp, norm: Module) -> Layer:
    """GPT-J's block: attention and MLP read the same normed input and are summed."""
    return Layer((Sublayer(Parallel((Sublayer(attention), Sublayer(mlp))), norm),))


def parallel_layer_two_norms(attention: Attention, mlp: Mlp, norms: tuple[Module, Module]) -> Layer:
    """GPT-NeoX's block: attention and MLP read the same residual, each through its own norm, and are summed."""
    return Layer((Sublayer(Parallel((Sublayer(attention, norms[0]), Sublayer(mlp, norms[1])))),))


def fused_gated_mlp(hidden: int, intermediate: int, *, bias: bool = False, activation: str = "silu") -> Mlp:
    """A gated MLP whose gate and up projections are one: [2 x intermediate, hidden]."""
    return Mlp(
        intermediate=intermediate,
        gate_up=linear("gate_up_proj", hidden, 2 * intermediate, "mlp", bias),
        down=linear("down_proj", intermediate, hidden, "mlp", bias),
        activation=activation,
    )


def weight_norm(name: str, width: int) -> Module:
    """A LayerNorm without bias."""
    return layer_norm(name, width, bias=False)


def bare_norm(name: str, _width: int) -> Module:
    """A LayerNorm with neither weight nor bias: a module without elements, whatever the width."""
    return layer_norm(name, 0)


def bare_rms_norm(name: str) -> Module:
    """An RMSNorm without weight."""
    return rms_norm(name, 0)


def norm_per_head(name: str, heads: int, head_dim: int) -> Module:
    """A LayerNorm without bias for each head, with weights of its own: [heads, head_dim]."""
    return Module(name, "layer_norm", "norms", (heads, head_dim))


def full_every(pattern: int) -> Callable[[int], str]:
    """The rule by layer index in which every `pattern`-th layer attends to everything and the others slide."""
    return lambda index: "sliding_attention" if (index + 1) % pattern else "full_attention"
