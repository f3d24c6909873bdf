"""Kimi Linear."""

from __future__ import annotations

from collections.abc import Callable

from planner.architecture.count import total
from planner.architecture.spec import LatentAttention, ModelSpec, StateSpace

KIMI = "moonshotai/Kimi-Linear-48B-A3B-Instruct"


def test_delta_attention_and_latent_attention(read: Callable[..., ModelSpec]) -> None:
    mixers = [run.layer.sublayers[0].mixer for run in read(KIMI).text.runs]
    assert isinstance(mixers[0], StateSpace)
    assert (mixers[0].variant, mixers[0].inner, mixers[0].heads) == ("kimi_delta", 4096, 32)
    assert sum(isinstance(mixer, LatentAttention) for mixer in mixers) == 7


def test_the_published_names_of_the_fields_are_read_too(read: Callable[..., ModelSpec]) -> None:
    nested = {
        "full_attn_layers": [4, 8, 12, 16, 20, 24, 27],
        "kda_layers": [],
        "head_dim": 128,
        "num_heads": 32,
        "short_conv_kernel_size": 4,
    }
    renamed = {"num_experts": 256, "num_experts_per_token": 8, "num_shared_experts": 1}
    absent = dict.fromkeys(
        ("num_local_experts", "num_experts_per_tok", "n_shared_experts", "layer_types", "linear_head_dim")
    )
    spec = read(KIMI, linear_attn_config=nested, **renamed, **absent)
    assert spec.text == read(KIMI).text
    assert total(spec) == 49_122_675_072
