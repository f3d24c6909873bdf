"""How a model class of transformers 5 computes what others of the same shapes compute differently.

The architecture says which blocks there are and how wide; this table says which of several equivalent ways the class's
own forward takes, where they keep different tensors for backward. Source: models/<model_type>/modeling_<model_type>.py.
A class that is not listed computes as Llama does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from planner.architecture.spec import DropoutPlace, ModelSpec

Rms = Literal["narrow", "wide", "unit_offset", "float32_weight", "narrow_input"]
LayerNorm = Literal["fused", "float32", "steps"]
Rope = Literal["half", "float32", "halves", "pairs", "complex"]
Router = Literal[
    "softmax", "softmax_divided", "softmax_narrowed", "topk_softmax", "topk_softmax_wide", "sigmoid", "sigmoid_narrow",
    "sigmoid_float32", "softmax_float32", "ernie", "sparsemixer",
]  # fmt: skip
Scores = Literal["standard", "narrow", "float32", "alibi", "bias", "flat", "sinks"]


@dataclass(frozen=True, slots=True)
class Variant:
    """One class's ways.

    Norms. `rms`: the norm's weight multiplies the narrowed ("narrow") or the float32 normalised input ("wide"), as
    1 + weight in float32 ("unit_offset") or as a float32 copy ("float32_weight"); "narrow_input" divides the input
    itself, not its float32 copy. `layer_norm`: one fused operation,
    the same on a float32 copy, or in single steps. `norm_place`: QK norms follow each projection, all of them, or RoPE.

    Attention. `rope`: rotate_half in the input's dtype or in float32, products of halves, of pairs, or complex numbers.
    `float32_tables`: cos and sin stay in float32; `repeats_tables`: each layer repeats them for itself; `rope_kinds`:
    how many pairs of them the model makes. `sparse_keys`: an indexer chooses the keys that a query sees. `tempered`: q
    is scaled by position where there is no RoPE. `joins_rotated`: heads are joined with what did not turn, even when
    nothing is left over. `sdpa`: the class can use fused attention; if not, it computes `scores` in its own way.
    `split`: a fused projection is cut by one operation, in slices, or by index. `repeats_heads`: fewer key and value
    heads are repeated, or seen by a kernel as groups; if not, no fused kernel takes them. `copies_groups`: keys and
    values are copied for every query head before any kernel. `litgpt_projection`: one product makes q, k and v, and
    RoPE's result is joined head by head.

    Experts. `router`: how routing weights come from logits. `shared_first`: shared experts run before the routed ones.
    `clamped_gate`: experts clamp gate and up. `loops_over_experts`: the class has no grouped product;
    `every_expert`: each expert computes every token.

    The stream. `residual_scale`: each branch is multiplied by a number before it is added; `embedding_scale`: so is the
    embedding; `branch_scale`: so is what each of several parallel branches reads. `float32_stream`: the residual is
    kept in float32. `normed_residual`: a branch is added to what it read, both scaled. `final_dropout`: the last hidden
    states are dropped too; `narrow_loss`: the loss takes logits in their own dtype. `head_by_head`: q is scaled, and q,
    k and v are laid head by head first. `holds_branch`: the first sublayer's result, or its normed input too, keeps its
    name, and so its memory, to the layer's end. `dropouts` comes from the model's own config.
    """

    rms: Rms = "narrow"
    layer_norm: LayerNorm = "fused"
    rope: Rope = "half"
    norm_place: Literal["projection", "after_projections", "after_rope"] = "projection"
    sdpa: bool = True
    scores: Scores = "standard"
    split: Literal["split", "slices", "index"] = "split"
    router: Router = "softmax_divided"
    shared_first: bool = False
    clamped_gate: bool = False
    loops_over_experts: bool = False
    residual_scale: bool = False
    embedding_scale: bool = False
    branch_scale: bool = False
    float32_stream: bool = False
    repeats_heads: bool = True
    float32_tables: bool = False
    repeats_tables: bool = False
    rope_kinds: int = 1
    holds_branch: Literal["nothing", "result", "both"] = "nothing"
    copies_groups: bool = False
    joins_rotated: bool = False
    litgpt_projection: bool = False
    final_dropout: bool = False
    narrow_loss: bool = False
    head_by_head: bool = False
    tempered: bool = False
    every_expert: bool = False
    normed_residual: bool = False
    sparse_keys: bool = False
    dropouts: frozenset[DropoutPlace] = frozenset()


LLAMA = Variant()
_FLOAT32_ROPE = Variant(rope="float32", float32_tables=True, repeats_tables=True)
_BERT = Variant(scores="narrow")
_GLM = Variant(repeats_tables=True)
_GPT2 = Variant(holds_branch="result", scores="narrow")
_DEEPSEEK = Variant(rope="halves", router="sigmoid_float32")
_DEEPSEEK_SPARSE = Variant(rope="halves", router="sigmoid_float32", sparse_keys=True)
_GEMMA = Variant(rms="unit_offset")
_GEMMA3 = Variant(rms="unit_offset", rope_kinds=2, norm_place="after_projections")
_GEMMA4 = Variant(rms="float32_weight", rope_kinds=2, router="softmax_divided")
_LLAMA4 = Variant(rope="complex", tempered=True, every_expert=True)
_LATE_NORM = Variant(norm_place="after_projections")
_QWEN_MOE = Variant(router="softmax_narrowed", shared_first=True)
_QWEN_NEXT = Variant(rms="unit_offset", router="softmax_narrowed", shared_first=True)
_GRANITE = Variant(router="topk_softmax_wide", residual_scale=True, embedding_scale=True)
_SIGMOID = Variant(router="sigmoid_float32")
_OLMO2 = Variant(rms="wide", rope="float32", float32_tables=True)
_T5 = Variant(rms="narrow_input", final_dropout=True, narrow_loss=True)
_COHERE = Variant(layer_norm="steps", rope="float32", norm_place="after_projections")

VARIANTS: dict[str, Variant] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "glm": _GLM,
    "glm4": _GLM,
    "gpt2": _GPT2,
    "gpt_bigcode": Variant(holds_branch="result"),
    "stablelm": Variant(holds_branch="both", norm_place="after_projections"),
    "gptj": Variant(rope="pairs", sdpa=False, scores="float32"),
    "gpt_neo": Variant(sdpa=False, scores="float32", holds_branch="result"),
    "bloom": Variant(sdpa=False, scores="alibi", split="slices"),
    "mpt": Variant(sdpa=False, scores="bias"),
    "xglm": Variant(sdpa=False, scores="flat", embedding_scale=True),
    "falcon": Variant(split="index", repeats_heads=False),
    "phi3": Variant(split="slices", joins_rotated=True),
    "olmo": Variant(layer_norm="float32", rope="float32", float32_tables=True),
    "olmo2": _OLMO2,
    "olmo3": _OLMO2,
    "flex_olmo": Variant(rms="wide", rope="float32", float32_tables=True, router="softmax_narrowed"),
    "olmoe": Variant(router="softmax_narrowed"),
    "cohere": _COHERE,
    "cohere2": _COHERE,
    "gemma": _GEMMA,
    "gemma2": Variant(rms="unit_offset", sdpa=False),
    "gemma3": _GEMMA3,
    "gemma3_text": _GEMMA3,
    "gemma4": _GEMMA4,
    "gemma4_text": _GEMMA4,
    "llama4": _LLAMA4,
    "llama4_text": _LLAMA4,
    "recurrent_gemma": Variant(rms="unit_offset", embedding_scale=True),
    "qwen2_moe": _QWEN_MOE,
    "qwen3_moe": _QWEN_MOE,
    "qwen3_vl_moe": _QWEN_MOE,
    "qwen3_next": _QWEN_NEXT,
    "qwen3_5": _QWEN_NEXT,
    "qwen3_5_text": _QWEN_NEXT,
    "qwen3_5_moe": _QWEN_NEXT,
    "qwen3_5_moe_text": _QWEN_NEXT,
    "granite": Variant(residual_scale=True, embedding_scale=True),
    "granitemoe": _GRANITE,
    "granitemoehybrid": _GRANITE,
    "ernie4_5": _FLOAT32_ROPE,
    "ernie4_5_moe": Variant(
        rope="float32", float32_tables=True, repeats_tables=True, router="ernie", shared_first=True
    ),
    "hunyuan_v1_dense": Variant(norm_place="after_rope"),
    "hunyuan_v1_moe": Variant(norm_place="after_rope", router="softmax_float32", shared_first=True),
    "phimoe": Variant(router="sparsemixer"),
    "deepseek_v2": Variant(rope="complex", router="softmax_float32"),
    "deepseek_v3": _DEEPSEEK,
    "deepseek_v32": _DEEPSEEK_SPARSE,
    "kimi_k2": _DEEPSEEK,
    "glm_moe_dsa": _DEEPSEEK_SPARSE,
    "glm4_moe_lite": _DEEPSEEK,
    "longcat_flash": Variant(rope="halves", router="softmax_float32", loops_over_experts=True),
    "kimi_linear": _SIGMOID,
    "glm4_moe": Variant(router="sigmoid_float32", norm_place="after_projections"),
    "glm4v_moe": _SIGMOID,
    "dots1": _SIGMOID,
    "solar_open": _SIGMOID,
    "exaone_moe": Variant(router="sigmoid_float32", norm_place="after_projections"),
    "exaone4": _LATE_NORM,
    "apertus": _LATE_NORM,
    "phi": _LATE_NORM,
    "hyperclovax": Variant(residual_scale=True, embedding_scale=True),
    "mimo_v2_flash": Variant(router="sigmoid_float32", sdpa=False, scores="sinks"),
    "nemotron_h": Variant(rms="float32_weight", router="sigmoid_float32"),
    "minimax_m2": Variant(router="sigmoid"),
    "minimax": Variant(normed_residual=True),
    "minimax_m1": Variant(normed_residual=True),
    "lfm2_moe": Variant(router="sigmoid_narrow"),
    "gpt_oss": Variant(rms="wide", rope="halves", sdpa=False, scores="sinks", router="topk_softmax", clamped_gate=True),
    "falcon_h1": Variant(embedding_scale=True, branch_scale=True),
    "mamba": Variant(float32_stream=True),
    "mamba2": Variant(float32_stream=True),
    "falcon_mamba": Variant(float32_stream=True),
    "jamba": Variant(router="softmax_narrowed"),
    "t5": _T5,
    "mt5": _T5,
    "whisper": Variant(head_by_head=True, narrow_loss=True),
    "dbrx": Variant(router="softmax_narrowed", loops_over_experts=True),
}


_LITGPT: dict[str, Any] = {
    "rms": "float32_weight", "layer_norm": "fused", "rope": "float32", "float32_tables": True,
    "norm_place": "after_projections", "split": "split", "repeats_heads": True, "copies_groups": True,
    "litgpt_projection": True, "holds_branch": "nothing",
}  # fmt: skip


def variant_of(spec: ModelSpec, framework: str = "transformers") -> Variant:
    """The ways of the class that reads this model, with the dropouts of its config.

    torchtitan (models/llama/model.py) and torchtune (modules/attention.py, position_embeddings.py) rotate pairs in
    float32 and copy keys and values for every query head. litgpt (litgpt/model.py) multiplies with float32 cos and sin
    and norm weights, copies keys and values likewise and has one projection for q, k and v.
    """
    variant = VARIANTS.get(spec.model_type, LLAMA)
    if framework == "torchtitan":
        variant = replace(variant, rope="complex", float32_tables=True, copies_groups=True)
    elif framework == "torchtune":
        variant = replace(variant, rope="float32", float32_tables=True, copies_groups=True)
    elif framework == "litgpt":
        variant = replace(variant, **_LITGPT)
    return replace(variant, dropouts=spec.dropouts) if spec.dropouts else variant
