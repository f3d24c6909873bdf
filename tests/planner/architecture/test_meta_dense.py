"""Changed shapes of dense, encoder and multimodal families against the library's own classes on the meta device.

Every drawn config is counted by `planner.architecture` and built by transformers without memory; the totals must agree
component by component, to the unit. More examples: set TRAINFIT_META_EXAMPLES.
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

from planner.architecture.count import by_component
from planner.architecture.registry import read_config

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("TRAINFIT_META_EXAMPLES", "6"))
Values = dict[str, Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]
RULES = (
    (r"layernorm|layer_norm|norm|ln_|ln_f", "norms"),
    (r"lm_head|embed_out|cls\.predictions|^decoder\.(weight|bias)$|head\.dense|proj_out", "lm_head"),
    (r"per_layer_input_gate|per_layer_projection|per_layer_model|altup|laurel|project_in|project_out", "other"),
    (r"relative_attention_bias", "attention"),
    (r"embed|wte|wpe|shared\.weight", "embedding"),
    (r"router", "router"),
    (r"experts", "experts"),
    (r"mlp_gate", "mlp"),
    (r"attn|attention|Attention", "attention"),
)


def component_of(name: str, owner: str) -> str:
    """The contract's component of a parameter, from its name and the class that holds it."""
    if re.search(r"audio|^model\.encoder\.(conv|embed_positions|layers|layer_norm)", name):
        return "audio"
    if re.search(r"visual|vision|multi_modal", name):
        return "vision"
    if owner.endswith(("Norm", "Norm1P")):
        return "norms"
    return next((component for pattern, component in RULES if re.search(pattern, name)), "mlp")


def built_counts(values: Values) -> dict[str, int]:
    """Parameters by component of the class that transformers builds on the meta device."""
    import torch
    import transformers
    from transformers import AutoConfig

    settings_ = {name: value for name, value in values.items() if name != "model_type"}
    config = AutoConfig.for_model(values["model_type"], **settings_)
    with torch.device("meta"):
        model = getattr(transformers, auto_class(values)).from_config(config)
    owners = {name: type(module).__name__ for name, module in model.named_modules()}
    table = model.get_input_embeddings().weight
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        component = "embedding" if parameter is table else component_of(name, owners[name.rpartition(".")[0]])
        counts[component] += parameter.numel()
    return {name: count for name, count in counts.items() if count}


def auto_class(values: Values) -> str:
    """The library's entry for a model type's task."""
    if values["model_type"] in ("t5", "mt5"):
        return "AutoModelForSeq2SeqLM"
    if values["model_type"] == "whisper":
        return "AutoModelForSpeechSeq2Seq"
    if values["model_type"] in ("bert", "roberta", "xlm-roberta", "modernbert"):
        return "AutoModelForMaskedLM"
    return "AutoModelForImageTextToText" if "vision_config" in values else "AutoModelForCausalLM"


def flag(draw: Draw) -> bool:
    return draw(st.booleans())


def widths(draw: Draw, **fixed: Any) -> Values:
    """Fields that nearly every decoder has: heads divide the hidden size, key/value heads divide the heads."""
    heads = draw(st.sampled_from([2, 4, 6]))
    values = {
        "hidden_size": heads * draw(st.sampled_from([8, 16, 20])),
        "intermediate_size": draw(st.integers(3, 70)),
        "num_hidden_layers": draw(st.integers(1, 5)),
        "num_attention_heads": heads,
        "num_key_value_heads": draw(st.sampled_from([1, 2, heads])),
        "vocab_size": draw(st.integers(20, 300)),
        "max_position_embeddings": draw(st.integers(8, 64)),
        "tie_word_embeddings": flag(draw),
        "pad_token_id": None,
    }
    return values | fixed


def head_width(draw: Draw) -> Values:
    return {"head_dim": draw(st.sampled_from([8, 12, 16]))}


def biases(draw: Draw, *names: str) -> Values:
    return {name: flag(draw) for name in names}


def one_key_head(draw: Draw, **fixed: Any) -> Values:
    """Classes without grouped key/value heads."""
    values = widths(draw, **fixed)
    return {name: value for name, value in values.items() if name != "num_key_value_heads"}


def windows(draw: Draw, values: Values) -> Values:
    """A window and a layer type per layer."""
    kinds = st.sampled_from(["full_attention", "sliding_attention"])
    layers = values["num_hidden_layers"]
    return values | {"sliding_window": 16, "layer_types": [draw(kinds) for _ in range(layers)]}


def llama(draw: Draw) -> Values:
    return widths(draw) | biases(draw, "attention_bias", "mlp_bias") | head_width(draw)


def named(names: dict[str, str]) -> Callable[[Draw], Values]:
    """Fields under the names that an older class gives them."""

    def values(draw: Draw) -> Values:
        drawn = one_key_head(draw)
        return {names.get(name, name): value for name, value in drawn.items() if names.get(name, name)}

    return values


GPT2 = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "max_position_embeddings": "n_positions",
}
BLOOM = {
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "",
    "max_position_embeddings": "",
}
MPT = {
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "",
    "max_position_embeddings": "max_seq_len",
}
XGLM = {
    "hidden_size": "d_model",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "attention_heads",
    "intermediate_size": "ffn_dim",
}


def gpt_neo(draw: Draw) -> Values:
    names = {"num_hidden_layers": "num_layers", "num_attention_heads": "num_heads"}
    values = named(names)(draw)
    layers = values["num_layers"]
    return values | {"attention_types": [[["global"], 1], [["local"], layers - 1]]}


def opt(draw: Draw) -> Values:
    values = one_key_head(draw)
    values["ffn_dim"] = values.pop("intermediate_size")
    width = draw(st.sampled_from([values["hidden_size"], 12]))
    names = ("do_layer_norm_before", "enable_bias", "layer_norm_elementwise_affine")
    return values | {"word_embed_proj_dim": width} | biases(draw, *names)


def falcon(draw: Draw) -> Values:
    values = widths(draw)
    values["num_kv_heads"] = values.pop("num_key_value_heads")
    values["ffn_hidden_size"] = values.pop("intermediate_size")
    names = ("new_decoder_architecture", "multi_query", "parallel_attn", "bias", "alibi")
    return values | biases(draw, *names) | {"num_ln_in_parallel_attn": draw(st.sampled_from([None, 1, 2]))}


def smollm3(draw: Draw) -> Values:
    return widths(draw) | biases(draw, "attention_bias", "mlp_bias") | {"no_rope_layer_interval": 2}


def gemma3_text(draw: Draw) -> Values:
    return widths(draw) | head_width(draw) | biases(draw, "attention_bias") | {"sliding_window_pattern": 3}


def gemma4_text(draw: Draw) -> Values:
    layers = draw(st.integers(3, 6))
    shared = draw(st.sampled_from([0, 1]))
    kinds = ["sliding_attention", "full_attention"] * 3
    values = widths(draw, num_hidden_layers=layers) | head_width(draw)
    experts = {"num_experts": 5, "top_k_experts": 2, "moe_intermediate_size": 11}
    return (
        values
        | biases(draw, "attention_bias", "attention_k_eq_v", "use_double_wide_mlp", "enable_moe_block")
        | experts
        | {
            "layer_types": [*kinds[: layers - 1], "full_attention"],
            "num_kv_shared_layers": shared if layers > 3 else 0,
            "global_head_dim": draw(st.sampled_from([12, 24])),
            "num_global_key_value_heads": draw(st.sampled_from([None, 1, 2])),
            "hidden_size_per_layer_input": draw(st.sampled_from([0, 6])),
            "vocab_size_per_layer_input": draw(st.integers(20, 50)),
        }
    )


def gemma3n_text(draw: Draw) -> Values:
    layers = draw(st.integers(6, 8))
    return (
        widths(draw, num_hidden_layers=layers)
        | head_width(draw)
        | {
            "num_kv_shared_layers": draw(st.integers(0, 1)),
            "intermediate_size": [draw(st.integers(3, 40)) for _ in range(layers)],
            "hidden_size_per_layer_input": draw(st.integers(2, 9)),
            "vocab_size_per_layer_input": draw(st.integers(20, 50)),
            "altup_num_inputs": draw(st.integers(2, 4)),
            "laurel_rank": draw(st.integers(2, 9)),
        }
    )


def minicpm3(draw: Draw) -> Values:
    values = widths(draw)
    values["num_key_value_heads"] = values["num_attention_heads"]
    return (
        values
        | biases(draw, "attention_bias", "mlp_bias")
        | {
            "q_lora_rank": draw(st.sampled_from([None, 7])),
            "kv_lora_rank": draw(st.integers(3, 20)),
            "qk_nope_head_dim": draw(st.sampled_from([4, 8])),
            "qk_rope_head_dim": draw(st.sampled_from([4, 8])),
            "v_head_dim": draw(st.sampled_from([None, 4, 10])),
        }
    )


def exaone4(draw: Draw) -> Values:
    values = widths(draw)
    if flag(draw):
        return values | {"sliding_window": 8, "sliding_window_pattern": 2}
    return values | {"sliding_window": None, "layer_types": ["full_attention"] * values["num_hidden_layers"]}


def qk_normed(draw: Draw) -> Values:
    return widths(draw) | biases(draw, "attention_bias", "use_qk_norm")


def stablelm(draw: Draw) -> Values:
    return widths(draw) | biases(draw, "use_qkv_bias", "qk_layernorm", "use_parallel_residual")


def seed_oss(draw: Draw) -> Values:
    return widths(draw) | head_width(draw) | biases(draw, "attention_bias", "attention_out_bias", "mlp_bias")


def bert(draw: Draw) -> Values:
    return one_key_head(draw) | {"type_vocab_size": draw(st.integers(1, 3))}


def modernbert(draw: Draw) -> Values:
    names = ("norm_bias", "attention_bias", "mlp_bias", "decoder_bias", "classifier_bias")
    return one_key_head(draw) | biases(draw, *names) | {"global_attn_every_n_layers": 2}


def t5(draw: Draw) -> Values:
    return {
        "d_model": draw(st.sampled_from([16, 24])),
        "d_kv": draw(st.sampled_from([4, 8])),
        "d_ff": draw(st.integers(3, 40)),
        "num_layers": draw(st.integers(1, 3)),
        "num_decoder_layers": draw(st.sampled_from([None, 2, 4])),
        "num_heads": draw(st.integers(1, 4)),
        "relative_attention_num_buckets": draw(st.integers(4, 9)),
        "vocab_size": draw(st.integers(20, 99)),
        "feed_forward_proj": draw(st.sampled_from(["relu", "gated-gelu", "gated-silu"])),
        "tie_word_embeddings": flag(draw),
        "pad_token_id": 0,
    }


def whisper(draw: Draw) -> Values:
    heads = draw(st.sampled_from([2, 4]))
    return {
        "d_model": 4 * heads * draw(st.integers(1, 3)),
        "encoder_layers": draw(st.integers(1, 3)),
        "decoder_layers": draw(st.integers(1, 3)),
        "encoder_attention_heads": heads,
        "decoder_attention_heads": draw(st.sampled_from([2, 4])),
        "encoder_ffn_dim": draw(st.integers(3, 40)),
        "decoder_ffn_dim": draw(st.integers(3, 40)),
        "vocab_size": draw(st.integers(20, 99)),
        "num_mel_bins": draw(st.integers(8, 20)),
        "max_source_positions": draw(st.integers(8, 20)),
        "max_target_positions": draw(st.integers(8, 20)),
        "tie_word_embeddings": flag(draw),
        "pad_token_id": 0,
    }


def composite(
    text: Callable[[Draw], Values], text_type: str, vision: Callable[[Draw], Values]
) -> Callable[[Draw], Values]:
    """A text model with a vision tower; tying is said at the top level."""

    def values(draw: Draw) -> Values:
        inner = text(draw) | {"model_type": text_type}
        tied = inner.pop("tie_word_embeddings")
        return {"text_config": inner, "vision_config": vision(draw), "tie_word_embeddings": tied}

    return values


def siglip(draw: Draw) -> Values:
    heads = draw(st.sampled_from([2, 3]))
    return {
        "model_type": "siglip_vision_model",
        "hidden_size": heads * 8,
        "intermediate_size": draw(st.integers(3, 40)),
        "num_hidden_layers": draw(st.integers(1, 3)),
        "num_attention_heads": heads,
        "image_size": 64,
        "patch_size": draw(st.sampled_from([8, 14])),
        "vision_use_head": flag(draw),
    }


def pixtral(draw: Draw) -> Values:
    return siglip(draw) | {"model_type": "pixtral", "hidden_act": "silu"}


def tower(draw: Draw, model_type: str, **more: Any) -> Values:
    heads = draw(st.sampled_from([2, 4]))
    return {
        "model_type": model_type,
        "depth": draw(st.integers(1, 3)),
        "hidden_size": heads * 8,
        "num_heads": heads,
        "intermediate_size": draw(st.integers(3, 40)),
        "out_hidden_size": draw(st.integers(8, 40)),
        "patch_size": draw(st.sampled_from([4, 6])),
        "spatial_merge_size": draw(st.sampled_from([2, 3])),
        "temporal_patch_size": draw(st.sampled_from([1, 2])),
        "in_channels": 3,
    } | more


def qwen2_vl_tower(draw: Draw) -> Values:
    values = tower(draw, "qwen2_vl_vision")
    values["embed_dim"], values["hidden_size"] = values["hidden_size"], values.pop("out_hidden_size")
    return values | {"mlp_ratio": draw(st.integers(1, 4))}


def qwen2_5_vl_tower(draw: Draw) -> Values:
    return tower(draw, "qwen2_5_vl_vision")


def qwen3_vl_tower(draw: Draw) -> Values:
    return tower(draw, "qwen3_vl_vision", num_position_embeddings=16, deepstack_visual_indexes=[0, 1])


def exaone4_5_tower(draw: Draw) -> Values:
    return tower(draw, "exaone4_5_vision", num_key_value_heads=draw(st.sampled_from([1, 2])))


def glm4v_tower(draw: Draw) -> Values:
    return tower(draw, "glm4v_vision", image_size=24, attention_bias=flag(draw))


def gemma4_tower(draw: Draw) -> Values:
    heads = draw(st.sampled_from([2, 4]))
    return {
        "model_type": "gemma4_vision",
        "hidden_size": heads * 8,
        "head_dim": draw(st.sampled_from([8, 12])),
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "intermediate_size": draw(st.integers(3, 40)),
        "num_hidden_layers": draw(st.integers(1, 3)),
        "patch_size": draw(st.sampled_from([4, 6])),
        "position_embedding_size": draw(st.integers(4, 20)),
    }


def gemma4(draw: Draw) -> Values:
    audio = {
        "model_type": "gemma4_audio",
        "hidden_size": 16,
        "num_hidden_layers": draw(st.integers(1, 2)),
        "num_attention_heads": 2,
        "subsampling_conv_channels": [draw(st.sampled_from([8, 12])), draw(st.integers(2, 9))],
        "conv_kernel_size": draw(st.integers(2, 5)),
        "output_proj_dims": draw(st.integers(4, 20)),
    }
    values = composite(gemma4_text, "gemma4_text", gemma4_tower)(draw)
    return values | {"audio_config": draw(st.sampled_from([None, audio]))}


def mllama(draw: Draw) -> Values:
    text = widths(draw, num_hidden_layers=4, cross_attention_layers=draw(st.sampled_from([[1], [0, 3], []])))
    text.pop("tie_word_embeddings")
    vision = siglip(draw) | {"model_type": "mllama_vision_model", "num_global_layers": draw(st.integers(1, 2))}
    vision["attention_heads"] = vision.pop("num_attention_heads")
    more = {"vision_output_dim": draw(st.integers(8, 40)), "max_num_tiles": 4}
    return {"text_config": text | {"model_type": "mllama_text_model"}, "vision_config": vision | more}


DRAWN: dict[str, Callable[[Draw], Values]] = {
    "llama": llama,
    "mistral": lambda draw: widths(draw) | head_width(draw),
    "ministral": lambda draw: windows(draw, widths(draw) | head_width(draw)),
    "ministral3": lambda draw: widths(draw) | head_width(draw),
    "qwen2": widths,
    "qwen3": lambda draw: widths(draw) | head_width(draw) | biases(draw, "attention_bias"),
    "gemma": lambda draw: widths(draw) | head_width(draw) | biases(draw, "attention_bias"),
    "gemma2": lambda draw: windows(draw, widths(draw) | head_width(draw) | biases(draw, "attention_bias")),
    "gemma3_text": gemma3_text,
    "gemma3n_text": gemma3n_text,
    "gemma4_text": gemma4_text,
    "phi": lambda draw: widths(draw) | biases(draw, "qk_layernorm"),
    "phi3": widths,
    "smollm3": smollm3,
    "granite": lambda draw: widths(draw) | biases(draw, "attention_bias", "mlp_bias"),
    "gpt2": named(GPT2),
    "gpt_bigcode": lambda draw: named(GPT2)(draw) | biases(draw, "multi_query"),
    "gptj": lambda draw: named(GPT2)(draw) | {"rotary_dim": 4},
    "gpt_neo": gpt_neo,
    "gpt_neox": lambda draw: one_key_head(draw) | biases(draw, "attention_bias", "use_parallel_residual"),
    "opt": opt,
    "bloom": named(BLOOM),
    "falcon": falcon,
    "mpt": named(MPT),
    "xglm": named(XGLM),
    "olmo": lambda draw: widths(draw) | biases(draw, "attention_bias"),
    "olmo2": lambda draw: widths(draw) | biases(draw, "attention_bias"),
    "olmo3": lambda draw: windows(draw, widths(draw) | biases(draw, "attention_bias")),
    "starcoder2": lambda draw: widths(draw) | biases(draw, "use_bias"),
    "stablelm": stablelm,
    "cohere": qk_normed,
    "cohere2": lambda draw: widths(draw) | biases(draw, "attention_bias") | {"sliding_window_pattern": 2},
    "glm": lambda draw: widths(draw) | head_width(draw) | biases(draw, "attention_bias"),
    "glm4": lambda draw: widths(draw) | head_width(draw) | biases(draw, "attention_bias"),
    "nemotron": lambda draw: widths(draw) | head_width(draw) | biases(draw, "attention_bias", "mlp_bias"),
    "minicpm3": minicpm3,
    "internlm3": lambda draw: widths(draw) | head_width(draw) | dict.fromkeys(("bias", "qkv_bias"), flag(draw)),
    "exaone4": exaone4,
    "ernie4_5": lambda draw: widths(draw) | head_width(draw) | biases(draw, "use_bias"),
    "arcee": llama,
    "apertus": lambda draw: widths(draw) | biases(draw, "attention_bias"),
    "seed_oss": seed_oss,
    "hunyuan_v1_dense": lambda draw: widths(draw) | head_width(draw) | biases(draw, "attention_bias"),
    "hyperclovax": lambda draw: llama(draw) | biases(draw, "use_post_norm"),
    "bitnet": lambda draw: widths(draw) | biases(draw, "attention_bias"),
    "bert": bert,
    "roberta": bert,
    "xlm-roberta": bert,
    "modernbert": modernbert,
    "t5": t5,
    "mt5": t5,
    "whisper": whisper,
    "gemma3": composite(gemma3_text, "gemma3_text", siglip),
    "gemma4": gemma4,
    "mistral3": composite(widths, "mistral", pixtral),
    "qwen2_vl": composite(widths, "qwen2_vl_text", qwen2_vl_tower),
    "qwen2_5_vl": composite(widths, "qwen2_5_vl_text", qwen2_5_vl_tower),
    "qwen3_vl": composite(llama, "qwen3_vl_text", qwen3_vl_tower),
    "glm4v": composite(widths, "glm4v_text", glm4v_tower),
    "exaone4_5": composite(exaone4, "exaone4", exaone4_5_tower),
    "mllama": mllama,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", sorted(DRAWN))
@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large)
)
@given(data=st.data())
def test_changed_shapes_count_as_the_library_builds_them(model_type: str, data: st.DataObject) -> None:
    values = {"model_type": model_type} | DRAWN[model_type](data.draw)
    spec = read_config(values)
    assert by_component(spec) == built_counts(values)
