"""What a model is made of: leaf modules with shapes, mixers built from them, layers, stacks.

Pure shapes. What a block *does* in a training step (what it saves, computes and allocates) is said in `planner.step`,
which reads these classes; a family file only has to say which blocks there are and how wide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Literal, cast

Component = Literal[
    "embedding", "attention", "mlp", "experts", "shared_experts", "router", "norms", "state_space",
    "vision", "audio", "lm_head", "other",
]  # fmt: skip
DropoutPlace = Literal["embedding", "residual", "attention", "activation"]
Kind = Literal["linear", "embedding", "rms_norm", "layer_norm", "conv", "experts", "parameter", "frozen"]


@dataclass(frozen=True, slots=True)
class Module:
    """A leaf module of the library's model, or a bare parameter.

    `shape` is the weight's shape as the library stores it (Linear: [out, in]; Embedding: [rows, width]; experts: 3-D);
    `bias` is the number of bias elements (0 for none). `kind` decides what reaches it: only "linear" is nn.Linear, so
    only it is quantised by bitsandbytes and adapted by LoRA's "all-linear"; `subclassed` is a class of its own over
    nn.Linear, which transformers does not quantise; "frozen" is a parameter that the library's
    class creates without a gradient (requires_grad=False), so that no method trains it.
    """

    name: str
    kind: Kind
    component: Component
    shape: tuple[int, ...]
    bias: int = 0
    subclassed: bool = False

    @property
    def weight_elements(self) -> int:
        """Elements of the weight."""
        return math.prod(self.shape)

    @property
    def elements(self) -> int:
        """Elements of weight and bias."""
        return self.weight_elements + self.bias

    @property
    def inputs(self) -> int:
        """Width of the input of a linear module."""
        return self.shape[1]

    @property
    def outputs(self) -> int:
        """Width of the output of a linear module."""
        return self.shape[0]


def linear(name: str, inputs: int, outputs: int, component: Component, bias: bool = False) -> Module:
    """An nn.Linear: weight [outputs, inputs], bias [outputs]."""
    return Module(name, "linear", component, (outputs, inputs), outputs if bias else 0)


def rms_norm(name: str, width: int) -> Module:
    """A root-mean-square norm: weight [width]."""
    return Module(name, "rms_norm", "norms", (width,))


def layer_norm(name: str, width: int, bias: bool = True) -> Module:
    """A LayerNorm: weight [width], bias [width]."""
    return Module(name, "layer_norm", "norms", (width,), width if bias else 0)


def embedding(name: str, rows: int, width: int, component: Component = "embedding") -> Module:
    """An nn.Embedding: weight [rows, width]."""
    return Module(name, "embedding", component, (rows, width))


def parameter(name: str, shape: tuple[int, ...], component: Component) -> Module:
    """A bare parameter of any shape."""
    return Module(name, "parameter", component, shape)


def frozen_parameter(name: str, shape: tuple[int, ...], component: Component) -> Module:
    """A bare parameter that is never trained."""
    return Module(name, "frozen", component, shape)


@dataclass(frozen=True, slots=True)
class Attention:
    """Softmax attention with query heads and key/value heads (multi-head, grouped, multi-query, cross).

    Either `q`, `k`, `v` or the fused `qkv` is set. `q` alone: the layer reuses the keys and values of the last earlier
    layer of its kind, which `hands_on` its own (Gemma 3n and 4); `q` and `k`: the key projection serves as the
    value's too (Gemma 4). `q` may hold an output gate beside the query (`output_gate`), as Qwen3-Next does. `norm_over`
    says whether QK norms run over each head or over the whole projection; `weightless_qk_norm` that they run without a
    weight (Llama 4), `q_norm` and `k_norm` being None. `clamped`: queries, keys and values are clamped (`clip_qkv`).
    """

    query_heads: int
    key_value_heads: int
    head_dim: int
    o: Module
    q: Module | None = None
    k: Module | None = None
    v: Module | None = None
    qkv: Module | None = None
    value_head_dim: int | None = None
    q_norm: Module | None = None
    k_norm: Module | None = None
    norm_over: Literal["head", "projection"] = "head"
    weightless_qk_norm: bool = False
    position: Literal["rope", "alibi", "relative", "none"] = "rope"
    rotary_dim: int | None = None
    window: int | None = None
    causal: bool = True
    cross: bool = False
    softcap: bool = False
    output_gate: bool = False
    clamped: bool = False
    hands_on: bool = False
    extra: tuple[Module, ...] = ()


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): low-rank q and kv projections and a RoPE part."""

    heads: int
    query_nope_dim: int
    rope_dim: int
    value_head_dim: int
    kv_rank: int
    kv_a: Module
    kv_a_norm: Module
    kv_b: Module
    o: Module
    q: Module | None = None
    q_a: Module | None = None
    q_a_norm: Module | None = None
    q_b: Module | None = None
    extra: tuple[Module, ...] = ()


@dataclass(frozen=True, slots=True)
class Mlp:
    """A feed-forward block: down(act(gate(x)) * up(x)) when gated, down(act(up(x))) when not.

    Gated blocks hold either `gate` and `up`, or the fused `gate_up`.
    """

    intermediate: int
    down: Module
    up: Module | None = None
    gate: Module | None = None
    gate_up: Module | None = None
    activation: str = "silu"
    extra: tuple[Module, ...] = ()


@dataclass(frozen=True, slots=True)
class Moe:
    """Routed experts, held as fused 3-D parameters (transformers 5), with shared experts and zero experts.

    `expert_count` experts have weights; `zero_experts` more have none (LongCat-Flash) but are slots of the router.
    `top_k` slots are chosen per token.
    """

    hidden: int
    intermediate: int
    expert_count: int
    top_k: int
    router: Module
    experts: tuple[Module, ...]
    gated: bool = True
    activation: str = "silu"
    zero_experts: int = 0
    shared: Mlp | None = None
    shared_gate: Module | None = None
    extra: tuple[Module, ...] = ()


@dataclass(frozen=True, slots=True)
class StateSpace:
    """A recurrent mixer: Mamba, Mamba-2, gated delta net, short convolution, linear attention, RG-LRU.

    `variant` names the recurrence, `modules` hold every weight, and the widths are what its memory and compute need:
    `inner` the channel width, `state` the state size per channel or head, `heads` and `groups` where there are any,
    `kernel` the convolution's width, `chunk` the chunk length of the parallel scan.
    """

    variant: Literal["mamba", "mamba2", "gated_delta", "kimi_delta", "short_conv", "lightning", "rg_lru"]
    modules: tuple[Module, ...]
    inner: int
    state: int = 0
    heads: int = 0
    groups: int = 0
    kernel: int = 0
    chunk: int = 0


@dataclass(frozen=True, slots=True)
class PerLayerInput:
    """back(act(gate(x)) * the layer's slice [width] of a tensor [layers x width] that is made once for all layers."""

    width: int
    gate: Module
    back: Module
    activation: str


@dataclass(frozen=True, slots=True)
class Parallel:
    """Branches that read the same input and are summed (GPT-J, Falcon, Falcon-H1)."""

    branches: tuple[Sublayer, ...]


@dataclass(frozen=True, slots=True)
class Opaque:
    """A block whose weights are counted exactly while its forward pass has no description here.

    `planner.step` refuses it (NotModelled) rather than guess what it saves. `what` names it, so that "the training
    step of {what} is not modelled" reads as a sentence. Without modules it marks a layer whose other blocks are
    described but not all of what happens between them.
    """

    what: str
    modules: tuple[Module, ...]


Mixer = Attention | LatentAttention | Mlp | Moe | StateSpace | PerLayerInput | Parallel | Opaque


@dataclass(frozen=True, slots=True)
class Sublayer:
    """norm -> mixer -> post norm, added to the residual. `norm_after_residual` is BERT's order."""

    mixer: Mixer
    norm: Module | None = None
    post_norm: Module | None = None
    norm_after_residual: bool = False


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder or encoder layer: its sublayers in order, and parameters that belong to none of them.

    Only towers, whose forward pass is not played, have such parameters.
    """

    sublayers: tuple[Sublayer, ...]
    extra: tuple[Module, ...] = ()


@dataclass(frozen=True, slots=True)
class LayerRun:
    """`count` equal layers in a row."""

    layer: Layer
    count: int


@dataclass(frozen=True, slots=True)
class Stack:
    """A transformer stack of one width: the text model, a vision or audio tower, an encoder.

    `positions_per_sample` is the sequence length of a tower (patches of one image); None means the run's own.
    `before` (patch embedding, position table) and `after` (final norm, projector) hold the leaf modules around it;
    `packed` those that make the per-layer inputs of all layers beside the table in `ModelSpec.embeddings`.
    """

    name: str
    hidden: int
    runs: tuple[LayerRun, ...]
    before: tuple[Module, ...] = ()
    after: tuple[Module, ...] = ()
    packed: tuple[Module, ...] = ()
    positions_per_sample: int | None = None

    @property
    def layer_count(self) -> int:
        """Layers in all runs."""
        return sum(run.count for run in self.runs)


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a person should know about this model's count. `parameters` is the difference it explains."""

    code: str
    message: str
    parameters: int = 0


@dataclass(frozen=True, slots=True)
class Buffer:
    """A tensor that the library's class holds beside its parameters; `width` None means the weights' bytes each."""

    name: str
    elements: int
    width: int | None = None
    count: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class ModelSpec:
    """A whole model as shapes. Compared by identity, so that programs compiled for it are found without hashing it.

    `text` is the stack that reads tokens and whose output the head reads; `encoders` are further stacks (towers, T5's
    encoder) that run before it. `embeddings` are looked up by token or position. `lm_head` is None for a headless
    model; when `tied`, its weight is the first embedding's and counts once. `mtp_parameters` are in the checkpoint but
    are not built for training. `phantoms` are elements that the library's class allocates although no checkpoint has
    them; the meta model's count minus the phantoms is `total`. `buffers` are the large ones. `dropouts` are the places
    with a probability above 0.
    """

    model_type: str
    text: Stack
    embeddings: tuple[Module, ...]
    vocabulary: int
    max_positions: int | None
    lm_head: Module | None
    tied: bool
    task: Literal["causal_lm", "masked_lm", "seq2seq_lm", "speech_seq2seq_lm"] = "causal_lm"
    encoders: tuple[Stack, ...] = ()
    head_extra: tuple[Module, ...] = ()
    extra: tuple[Module, ...] = ()
    logit_softcap: bool = False
    stored_dtype: str | None = None
    mtp_parameters: int = 0
    checkpoint_extra: int = 0
    phantoms: int = 0
    notes: tuple[Note, ...] = ()
    dropouts: frozenset[DropoutPlace] = frozenset()
    buffers: tuple[Buffer, ...] = ()
    assumed: dict[str, object] = field(default_factory=dict[str, object], hash=False, compare=False)

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.text.hidden

    @property
    def position_tables(self) -> tuple[Module, ...]:
        """Tables whose rows are added to the first one's; that of per-layer inputs is none."""
        return () if self.text.packed else self.embeddings[1:]

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """Encoders first, then the text stack."""
        return (*self.encoders, self.text)


def reads_encoder(layer: Layer) -> bool:
    """Whether the layer has cross-attention; one of a model without an encoder's states is passed over."""
    return any(isinstance(sublayer.mixer, Attention) and sublayer.mixer.cross for sublayer in layer.sublayers)


def mixers(layer: Layer) -> Iterator[Mixer]:
    """The layer's mixers in order, parallel branches one by one."""
    for sublayer in layer.sublayers:
        if isinstance(sublayer.mixer, Parallel):
            yield from (branch.mixer for branch in sublayer.mixer.branches)
        else:
            yield sublayer.mixer


def mixer_modules(mixer: Mixer) -> Iterator[Module]:
    """Every leaf module of a mixer, once, in field order."""
    for item in fields(mixer):
        yield from _modules_of(getattr(mixer, item.name))


def _modules_of(value: object) -> Iterator[Module]:
    if isinstance(value, Module):
        yield value
    elif isinstance(value, tuple):
        for entry in cast(tuple[object, ...], value):
            yield from _modules_of(entry)
    elif isinstance(value, (Attention, LatentAttention, Mlp, Moe, StateSpace, PerLayerInput, Parallel, Opaque)):
        yield from mixer_modules(value)
    elif isinstance(value, Sublayer):
        yield from sublayer_modules(value)


def sublayer_modules(sublayer: Sublayer) -> Iterator[Module]:
    """Every leaf module of a sublayer, once."""
    yield from _modules_of((sublayer.norm, sublayer.mixer, sublayer.post_norm))


def layer_modules(layer: Layer) -> Iterator[Module]:
    """Every leaf module of a layer, once."""
    yield from _modules_of((*layer.sublayers, *layer.extra))
