"""Changed shapes of the mixture-of-experts and recurrent families against the library's own classes on the meta device.

Every drawn config is counted by `planner.architecture` and built by transformers without memory; the totals must agree
component by component, to the unit. TRAINFIT_META_EXAMPLES=50 draws more shapes per model type.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.architecture.count import by_component, total
from planner.architecture.registry import read_config

pytestmark = pytest.mark.slow

_EXAMPLES = int(os.environ.get("TRAINFIT_META_EXAMPLES", "20"))
Values = dict[str, Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]


# Tried in order; a pattern is looked for in the parameter's name, or in the names of the classes that hold it.
_BY_NAME = {
    "vision": r"visual|vision|multi_modal",
    "lm_head": r"lm_head",
    "router": r"shared_expert_gate|e_score_correction_bias",
    "shared_experts": r"shared",
    "other": r"attn_hc|ffn_hc|hc_head",
}
_BY_CLASS = {
    "norms": r"Norm\w*$",
    "embedding": r"Embedding$",
    "experts": r"Experts(\s|$)|ExpertGLU",
    "state_space": r"Mixer(\s|$)|GatedDeltaNet|DeltaAttention|Lightning|ShortConv|RecurrentBlock|MambaLayer",
    "router": r"Router(\s|$)|Gate(\s|$)",
    "attention": r"Attention(\s|$)|MLA(\s|$)",
}


def component_of(name: str, owners: list[str]) -> str:
    """The contract's component of a parameter, from its name and the classes that hold it, outermost first."""
    for component, pattern in _BY_NAME.items():
        if re.search(pattern, name):
            return component
    holders = " ".join(owners)
    return next((component for component, pattern in _BY_CLASS.items() if re.search(pattern, holders)), "mlp")


def built_counts(values: Values) -> dict[str, int]:
    """Parameters by component of the class that transformers builds on the meta device."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    auto = AutoModelForImageTextToText if "vision_config" in values else AutoModelForCausalLM
    settings_ = {name: value for name, value in values.items() if name != "model_type"}
    with torch.device("meta"):
        model = auto.from_config(AutoConfig.for_model(values["model_type"], **settings_))
    classes = {name: type(module).__name__ for name, module in model.named_modules()}
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        parts = name.split(".")[:-1]
        owners = [classes[".".join(parts[: end + 1])] for end in range(len(parts))]
        counts[component_of(name, owners)] += parameter.numel()
    return dict(counts)


def widths(draw: Draw, **fixed: Any) -> Values:
    """Fields that nearly every decoder has: heads divide the hidden size, key/value heads divide the heads."""
    heads = draw(st.sampled_from([2, 4, 6]))
    hidden = heads * draw(st.sampled_from([8, 16, 20]))
    values = {
        "hidden_size": hidden,
        "intermediate_size": draw(st.integers(3, 70)),
        "num_hidden_layers": draw(st.integers(1, 7)),
        "num_attention_heads": heads,
        "num_key_value_heads": draw(st.sampled_from([1, 2, heads])),
        "vocab_size": draw(st.integers(20, 300)),
        "tie_word_embeddings": draw(st.booleans()),
        "hidden_act": "silu",
        "pad_token_id": None,
    }
    return values | fixed


def routing(draw: Draw, experts: str, chosen: str = "num_experts_per_tok") -> Values:
    """A number of experts and how many a token gets."""
    count = draw(st.integers(2, 9))
    return {experts: count, chosen: draw(st.integers(1, count))}


def latent(draw: Draw, low_rank: bool | None = None) -> Values:
    """Latent attention's ranks and head dimensions."""
    has_rank = draw(st.booleans()) if low_rank is None else low_rank
    return {
        "q_lora_rank": draw(st.integers(3, 20)) if has_rank else None,
        "kv_lora_rank": draw(st.integers(3, 20)),
        "qk_nope_head_dim": draw(st.sampled_from([4, 8, 12])),
        "qk_rope_head_dim": draw(st.sampled_from([4, 8])),
        "v_head_dim": draw(st.sampled_from([4, 10])),
        "attention_bias": draw(st.booleans()),
    }


def deepseek_fields(draw: Draw) -> Values:
    """DeepSeek's experts and dense layers."""
    return routing(draw, "n_routed_experts") | {
        "n_shared_experts": draw(st.integers(1, 3)),
        "moe_intermediate_size": draw(st.integers(3, 40)),
        "first_k_dense_replace": draw(st.integers(0, 3)),
        "n_group": 1,
        "topk_group": 1,
    }


def layer_kinds(draw: Draw, layers: int, *names: str) -> list[str]:
    """One of the names per layer."""
    return [draw(st.sampled_from(names)) for _ in range(layers)]


def mixtral(draw: Draw) -> Values:
    return widths(draw) | routing(draw, "num_local_experts")


def qwen_moe(draw: Draw) -> Values:
    return (
        widths(draw)
        | routing(draw, "num_experts")
        | {
            "moe_intermediate_size": draw(st.integers(3, 40)),
            "shared_expert_intermediate_size": draw(st.integers(3, 40)),
            "decoder_sparse_step": draw(st.integers(1, 3)),
            "mlp_only_layers": draw(st.sampled_from([[], [0], [1, 2]])),
        }
    )


def qwen3_moe(draw: Draw) -> Values:
    return qwen_moe(draw) | {"head_dim": draw(st.sampled_from([8, 12])), "attention_bias": draw(st.booleans())}


def deepseek_v3(draw: Draw) -> Values:
    return widths(draw) | latent(draw) | deepseek_fields(draw)


def indexed(draw: Draw) -> Values:
    sizes = {"index_head_dim": draw(st.sampled_from([8, 16])), "index_n_heads": draw(st.integers(1, 5))}
    return widths(draw) | latent(draw, low_rank=True) | deepseek_fields(draw) | sizes


def deepseek_v4(draw: Draw) -> Values:
    values = widths(draw) | routing(draw, "n_routed_experts")
    del values["intermediate_size"], values["num_key_value_heads"]
    kinds = ("sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention")
    layers = values["num_hidden_layers"]
    ratios = draw(st.lists(st.sampled_from([0, 4, 128]), min_size=layers, max_size=layers + 1))
    schedule = draw(st.sampled_from([{"compress_ratios": ratios}, {}]))
    if draw(st.booleans()):
        schedule = {"layer_types": layer_kinds(draw, layers, *kinds)}
    return (
        values
        | schedule
        | {
            "moe_intermediate_size": draw(st.integers(3, 40)),
            "n_shared_experts": draw(st.integers(1, 3)),
            "head_dim": draw(st.sampled_from([16, 32])),
            "q_lora_rank": draw(st.integers(3, 20)),
            "o_groups": draw(st.sampled_from([1, 2])),
            "o_lora_rank": draw(st.integers(3, 20)),
            "hc_mult": draw(st.integers(1, 5)),
            "index_n_heads": draw(st.integers(1, 5)),
            "index_head_dim": draw(st.sampled_from([8, 16])),
            "compress_rate_csa": draw(st.integers(2, 9)),
            "mlp_bias": draw(st.booleans()),
            "num_hash_layers": draw(st.integers(0, 3)),
        }
    )


def glm_moe_dsa(draw: Draw) -> Values:
    return indexed(draw) | {
        "index_topk_freq": draw(st.integers(1, 3)),
        "index_skip_topk_offset": draw(st.integers(0, 3)),
    }


def glm4_moe_lite(draw: Draw) -> Values:
    values = deepseek_v3(draw)
    return values | {"mlp_layer_types": layer_kinds(draw, values["num_hidden_layers"], "dense", "sparse")}


def longcat_flash(draw: Draw) -> Values:
    values = widths(draw) | latent(draw, low_rank=True)
    del values["intermediate_size"]
    values["num_layers"] = values.pop("num_hidden_layers")
    return (
        values
        | routing(draw, "n_routed_experts", "moe_topk")
        | {
            "head_dim": values["qk_rope_head_dim"],
            "ffn_hidden_size": draw(st.integers(3, 60)),
            "expert_ffn_hidden_size": draw(st.integers(3, 30)),
            "zero_expert_num": draw(st.integers(0, 6)),
        }
    )


def gpt_oss(draw: Draw) -> Values:
    fields = {"head_dim": draw(st.sampled_from([8, 16])), "attention_bias": draw(st.booleans())}
    return widths(draw) | routing(draw, "num_local_experts") | fields


def olmoe(draw: Draw) -> Values:
    return widths(draw) | routing(draw, "num_experts") | {"attention_bias": draw(st.booleans())}


def grouped_deepseek(draw: Draw) -> Values:
    fields = {"head_dim": draw(st.sampled_from([8, 12])), "attention_bias": draw(st.booleans())}
    return widths(draw) | deepseek_fields(draw) | fields | {"use_qk_norm": draw(st.booleans())}


def qwen3_next(draw: Draw) -> Values:
    key_heads = draw(st.integers(1, 3))
    values = qwen3_moe(draw) | {
        "linear_num_key_heads": key_heads,
        "linear_num_value_heads": key_heads * draw(st.integers(1, 3)),
        "linear_key_head_dim": draw(st.sampled_from([4, 8])),
        "linear_value_head_dim": draw(st.sampled_from([4, 12])),
        "linear_conv_kernel_dim": draw(st.integers(2, 5)),
    }
    return values | {
        "layer_types": layer_kinds(draw, values["num_hidden_layers"], "linear_attention", "full_attention")
    }


def qwen_tower(draw: Draw) -> Values:
    heads = draw(st.integers(1, 3))
    return {
        "depth": draw(st.integers(1, 3)),
        "hidden_size": heads * 8,
        "num_heads": heads,
        "intermediate_size": draw(st.integers(3, 40)),
        "in_channels": 3,
        "patch_size": draw(st.sampled_from([2, 4])),
        "temporal_patch_size": 2,
        "spatial_merge_size": draw(st.integers(1, 3)),
        "out_hidden_size": draw(st.integers(3, 40)),
        "num_position_embeddings": draw(st.sampled_from([4, 16])),
    }


def composite(draw: Draw, text: Values, vision: Values) -> Values:
    return {"text_config": text, "vision_config": vision, "tie_word_embeddings": draw(st.booleans())}


def qwen3_5(draw: Draw) -> Values:
    return composite(draw, qwen3_next(draw), qwen_tower(draw))


def qwen3_vl_moe(draw: Draw) -> Values:
    tower = qwen_tower(draw) | {"deepstack_visual_indexes": draw(st.sampled_from([[0], [0, 1]]))}
    return composite(draw, qwen3_moe(draw), tower)


def glm4v_moe(draw: Draw) -> Values:
    tower = qwen_tower(draw) | {"image_size": draw(st.sampled_from([8, 12])), "attention_bias": draw(st.booleans())}
    return composite(draw, grouped_deepseek(draw) | {"tie_word_embeddings": False}, tower)


def llama4_text(draw: Draw) -> Values:
    fields = {
        "head_dim": 8,
        "intermediate_size_mlp": draw(st.integers(3, 50)),
        "interleave_moe_layer_step": draw(st.integers(1, 3)),
        "attention_bias": draw(st.booleans()),
    }
    return widths(draw) | routing(draw, "num_local_experts") | fields


def llama4(draw: Draw) -> Values:
    heads, output = draw(st.integers(1, 3)), draw(st.integers(3, 20))
    tower = {
        "hidden_size": heads * 8,
        "num_attention_heads": heads,
        "num_hidden_layers": draw(st.integers(1, 3)),
        "intermediate_size": draw(st.integers(3, 40)),
        "num_channels": 3,
        "image_size": 16,
        "patch_size": draw(st.sampled_from([4, 8])),
        "projector_input_dim": output,
        "projector_output_dim": output,
        "vision_output_dim": output,
    }
    return composite(draw, llama4_text(draw), tower)


def phimoe(draw: Draw) -> Values:
    biases = {"attention_bias": draw(st.booleans()), "lm_head_bias": draw(st.booleans())}
    return mixtral(draw) | biases | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}


def dbrx(draw: Draw) -> Values:
    heads = draw(st.sampled_from([2, 4]))
    chosen = routing(draw, "moe_num_experts", "moe_top_k")
    return {
        "d_model": heads * 8,
        "n_heads": heads,
        "n_layers": draw(st.integers(1, 4)),
        "vocab_size": draw(st.integers(20, 90)),
        "attn_config": {"kv_n_heads": draw(st.sampled_from([1, 2])), "rope_theta": 1e4},
        "ffn_config": {"ffn_hidden_size": draw(st.integers(3, 40)), **chosen},
        "pad_token_id": None,
    }


def ernie4_5_moe(draw: Draw) -> Values:
    return (
        widths(draw)
        | routing(draw, "moe_num_experts", "moe_k")
        | {
            "moe_intermediate_size": draw(st.integers(3, 40)),
            "moe_num_shared_experts": draw(st.integers(0, 2)),
            "moe_layer_start_index": draw(st.integers(0, 3)),
            "moe_layer_end_index": draw(st.sampled_from([-1, 4])),
            "moe_layer_interval": draw(st.integers(1, 3)),
            "use_bias": draw(st.booleans()),
        }
    )


def hunyuan_v1_moe(draw: Draw) -> Values:
    head_dim = draw(st.sampled_from([8, 12]))
    values = widths(draw) | routing(draw, "num_experts", "moe_topk") | {"head_dim": head_dim}
    return values | {"moe_topk": [values["moe_topk"]] * values["num_hidden_layers"]}


def granitemoeshared(draw: Draw) -> Values:
    fields = {"attention_bias": draw(st.booleans()), "shared_intermediate_size": draw(st.integers(0, 20))}
    return mixtral(draw) | fields


def mamba2_fields(draw: Draw, hidden: int) -> Values:
    heads = draw(st.sampled_from([2, 4]))
    return {
        "mamba_n_heads": heads,
        "mamba_d_head": 2 * hidden // heads,
        "mamba_n_groups": draw(st.integers(1, 2)),
        "mamba_d_state": draw(st.integers(3, 12)),
        "mamba_d_conv": draw(st.integers(2, 4)),
        "mamba_expand": 2,
        "mamba_conv_bias": draw(st.booleans()),
        "mamba_proj_bias": draw(st.booleans()),
    }


def granitemoehybrid(draw: Draw) -> Values:
    values = mixtral(draw) | {"shared_intermediate_size": draw(st.integers(2, 20))}
    values |= mamba2_fields(draw, values["hidden_size"])
    return values | {"layer_types": layer_kinds(draw, values["num_hidden_layers"], "mamba", "attention")}


def bamba(draw: Draw) -> Values:
    values = widths(draw) | {"attn_layer_indices": draw(st.sampled_from([[], [1], [0, 2]]))}
    biases = {"attention_bias": draw(st.booleans()), "mlp_bias": draw(st.booleans())}
    return values | mamba2_fields(draw, values["hidden_size"]) | biases


def falcon_h1(draw: Draw) -> Values:
    values = widths(draw)
    mixer = mamba2_fields(draw, values["hidden_size"])
    head = draw(st.sampled_from([4, 6]))
    mixer |= {"mamba_d_ssm": draw(st.sampled_from([None, mixer["mamba_n_heads"] * head]))}
    if mixer["mamba_d_ssm"] is not None:
        mixer["mamba_d_head"] = head
    flags = ("mamba_rms_norm", "projectors_bias", "attention_bias", "mlp_bias")
    return values | mixer | {name: draw(st.booleans()) for name in flags} | {"head_dim": draw(st.sampled_from([8, 12]))}


def jamba(draw: Draw) -> Values:
    period, other = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    return (
        widths(draw)
        | routing(draw, "num_experts")
        | {
            "attn_layer_period": period,
            "attn_layer_offset": period - 1,
            "expert_layer_period": other,
            "expert_layer_offset": other - 1,
            "mamba_d_state": draw(st.integers(2, 9)),
            "mamba_d_conv": draw(st.integers(2, 4)),
            "mamba_expand": draw(st.integers(1, 3)),
            "mamba_dt_rank": draw(st.sampled_from(["auto", 5])),
            "mamba_conv_bias": draw(st.booleans()),
            "mamba_proj_bias": draw(st.booleans()),
            "use_mamba_kernels": False,
        }
    )


def nemotron_h(draw: Draw) -> Values:
    values = widths(draw)
    layers = values.pop("num_hidden_layers")
    return (
        values
        | routing(draw, "n_routed_experts")
        | {
            "hybrid_override_pattern": "".join(layer_kinds(draw, layers, "M", "*", "-", "E")),
            "head_dim": draw(st.sampled_from([8, 12])),
            "mamba_num_heads": draw(st.sampled_from([2, 4])),
            "mamba_head_dim": draw(st.sampled_from([4, 6])),
            "n_groups": draw(st.sampled_from([1, 2])),
            "ssm_state_size": draw(st.integers(2, 9)),
            "conv_kernel": draw(st.integers(2, 4)),
            "use_bias": draw(st.booleans()),
            "use_conv_bias": draw(st.booleans()),
            "mlp_bias": draw(st.booleans()),
            "moe_intermediate_size": draw(st.integers(3, 20)),
            "moe_shared_expert_intermediate_size": draw(st.integers(3, 20)),
            "moe_latent_size": draw(st.sampled_from([None, 7])),
            "use_mamba_kernels": False,
        }
    )


def mamba(draw: Draw) -> Values:
    return {
        "hidden_size": draw(st.sampled_from([8, 24])),
        "num_hidden_layers": draw(st.integers(1, 4)),
        "vocab_size": draw(st.integers(20, 90)),
        "state_size": draw(st.integers(2, 9)),
        "expand": draw(st.integers(1, 3)),
        "conv_kernel": draw(st.integers(2, 4)),
        "time_step_rank": draw(st.sampled_from(["auto", 3])),
        "use_bias": draw(st.booleans()),
        "use_conv_bias": draw(st.booleans()),
        "tie_word_embeddings": draw(st.booleans()),
        "pad_token_id": None,
    }


def mamba2(draw: Draw) -> Values:
    heads, head_dim = draw(st.sampled_from([2, 4])), draw(st.sampled_from([4, 8]))
    sizes = {"num_heads": heads, "head_dim": head_dim, "hidden_size": heads * head_dim // 2, "expand": 2}
    values = mamba(draw) | sizes | {"n_groups": draw(st.sampled_from([1, 2]))}
    del values["time_step_rank"]
    return values


def minimax(draw: Draw) -> Values:
    values = mixtral(draw) | {"head_dim": draw(st.sampled_from([8, 12])), "block_size": 8}
    return values | {
        "layer_types": layer_kinds(draw, values["num_hidden_layers"], "linear_attention", "full_attention")
    }


def minimax_m2(draw: Draw) -> Values:
    return mixtral(draw) | {"head_dim": draw(st.sampled_from([8, 12]))}


def kimi_linear(draw: Draw) -> Values:
    values = widths(draw) | latent(draw) | deepseek_fields(draw)
    values["num_local_experts"] = values.pop("n_routed_experts")
    return values | {
        "linear_head_dim": draw(st.sampled_from([4, 8])),
        "linear_num_heads": draw(st.integers(1, 4)),
        "linear_conv_kernel_dim": draw(st.integers(2, 4)),
        "layer_types": layer_kinds(draw, values["num_hidden_layers"], "linear_attention", "full_attention"),
    }


def mimo_v2_flash(draw: Draw) -> Values:
    values = widths(draw, num_key_value_heads=1, num_attention_heads=4) | deepseek_fields(draw)
    del values["n_shared_experts"], values["first_k_dense_replace"]
    return values | {
        "head_dim": draw(st.sampled_from([8, 12])),
        "v_head_dim": draw(st.sampled_from([4, 8])),
        "sliding_window": 16,
        "attention_bias": draw(st.booleans()),
    }


def exaone_moe(draw: Draw) -> Values:
    values = widths(draw) | deepseek_fields(draw) | {"head_dim": draw(st.sampled_from([8, 12]))}
    values["num_experts"] = values.pop("n_routed_experts")
    values["num_shared_experts"] = values.pop("n_shared_experts")
    kinds = layer_kinds(draw, values["num_hidden_layers"], "sliding_attention", "full_attention")
    return values | {"sliding_window": 16, "layer_types": kinds}


def lfm2(draw: Draw) -> Values:
    values = widths(draw)
    return values | {
        "conv_L_cache": draw(st.integers(2, 4)),
        "conv_bias": draw(st.booleans()),
        "block_auto_adjust_ff_dim": draw(st.booleans()),
        "block_multiple_of": draw(st.sampled_from([4, 16])),
        "block_ffn_dim_multiplier": draw(st.sampled_from([1.0, 1.3])),
        "layer_types": layer_kinds(draw, values["num_hidden_layers"], "conv", "full_attention"),
    }


def lfm2_moe(draw: Draw) -> Values:
    experts = routing(draw, "num_experts") | {"moe_intermediate_size": draw(st.integers(3, 40))}
    return lfm2(draw) | experts | {"num_dense_layers": draw(st.integers(0, 3))}


def recurrent_gemma(draw: Draw) -> Values:
    values = widths(draw, hidden_activation="gelu_pytorch_tanh") | {"conv1d_width": draw(st.integers(2, 4))}
    width = values["num_attention_heads"] * draw(st.sampled_from([4, 6]))
    return values | {"lru_width": draw(st.sampled_from([None, width])), "attention_bias": draw(st.booleans())}


SHAPES: dict[str, Callable[[Draw], Values]] = {
    "mixtral": mixtral,
    "qwen2_moe": qwen_moe,
    "qwen3_moe": qwen3_moe,
    "deepseek_v2": deepseek_v3,
    "deepseek_v3": deepseek_v3,
    "deepseek_v32": indexed,
    "deepseek_v4": deepseek_v4,
    "glm_moe_dsa": glm_moe_dsa,
    "glm4_moe": grouped_deepseek,
    "glm4_moe_lite": glm4_moe_lite,
    "longcat_flash": longcat_flash,
    "gpt_oss": gpt_oss,
    "olmoe": olmoe,
    "flex_olmo": olmoe,
    "dots1": grouped_deepseek,
    "solar_open": grouped_deepseek,
    "qwen3_next": qwen3_next,
    "qwen3_5": qwen3_5,
    "qwen3_5_moe": qwen3_5,
    "qwen3_5_text": qwen3_next,
    "qwen3_5_moe_text": qwen3_next,
    "qwen3_vl_moe": qwen3_vl_moe,
    "glm4v_moe": glm4v_moe,
    "llama4": llama4,
    "llama4_text": llama4_text,
    "phimoe": phimoe,
    "dbrx": dbrx,
    "ernie4_5_moe": ernie4_5_moe,
    "hunyuan_v1_moe": hunyuan_v1_moe,
    "granitemoe": mixtral,
    "granitemoeshared": granitemoeshared,
    "granitemoehybrid": granitemoehybrid,
    "bamba": bamba,
    "falcon_h1": falcon_h1,
    "jamba": jamba,
    "nemotron_h": nemotron_h,
    "mamba": mamba,
    "falcon_mamba": mamba,
    "mamba2": mamba2,
    "minimax": minimax,
    "minimax_m2": minimax_m2,
    "kimi_linear": kimi_linear,
    "mimo_v2_flash": mimo_v2_flash,
    "exaone_moe": exaone_moe,
    "lfm2": lfm2,
    "lfm2_moe": lfm2_moe,
    "recurrent_gemma": recurrent_gemma,
}


@pytest.mark.parametrize("model_type", SHAPES)
@settings(
    max_examples=_EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_changed_shapes_count_as_the_library_builds_them(model_type: str, data: st.DataObject) -> None:
    values = SHAPES[model_type](data.draw) | {"model_type": model_type}
    spec = read_config(values)
    built = {name: count for name, count in built_counts(values).items() if count}
    counted = dict(by_component(spec))
    counted["experts"] = counted.get("experts", 0) + spec.phantoms
    assert {name: count for name, count in counted.items() if count} == built
    assert total(spec) + spec.phantoms == sum(built.values())
