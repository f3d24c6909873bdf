"""LongCat-Flash: zero experts, two attentions per layer, and the surplus of the library."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from planner.architecture.config import ConfigError
from planner.architecture.count import active, by_component, checkpoint_total, total
from planner.architecture.spec import LatentAttention, Mlp, ModelSpec, Moe, Parallel

CHAT = "meituan-longcat/LongCat-Flash-Chat"


def test_the_count_leaves_the_phantoms_out(read: Callable[..., ModelSpec]) -> None:
    spec = read(CHAT)
    assert total(spec) == 560_664_958_976
    assert spec.phantoms == 180_388_626_432
    assert total(spec) + spec.phantoms == 741_053_585_408
    # 561,862,880,256 on the Hub less 28 x 768 router correction biases
    assert checkpoint_total(spec) == 561_862_858_752
    assert by_component(spec)["experts"] == 28 * 512 * 3 * 2048 * 6144
    assert [note.code for note in spec.notes] == ["library_allocates_phantom_experts", "mtp_not_trained"]
    assert "180,388,626,432" in spec.notes[0].message


def test_zero_experts_take_slots(read: Callable[..., ModelSpec]) -> None:
    spec = read(CHAT)
    both = spec.text.runs[0].layer.sublayers[1].mixer
    assert isinstance(both, Parallel)
    experts = both.branches[1].mixer
    assert isinstance(experts, Moe)
    assert (experts.expert_count, experts.zero_experts, experts.top_k) == (512, 256, 12)
    assert experts.top_k * experts.expert_count / (experts.expert_count + experts.zero_experts) == 8
    assert experts.router.kind == "linear"
    assert round(active(spec) / 1e9, 1) == 28.0  # published: 27B on average, embedding and head partly left out


def test_a_layer_has_two_attentions_and_two_mlps(read: Callable[..., ModelSpec]) -> None:
    first, both, second, last = read(CHAT).text.runs[0].layer.sublayers
    assert isinstance(first.mixer, LatentAttention)
    assert isinstance(second.mixer, LatentAttention)
    assert isinstance(both.mixer, Parallel)
    assert isinstance(last.mixer, Mlp)


def test_hidden_layers_count_attentions(read: Callable[..., ModelSpec]) -> None:
    assert read(CHAT, num_layers=None, num_hidden_layers=56).text == read(CHAT).text
    with pytest.raises(ConfigError, match="num_hidden_layers"):
        read(CHAT, num_layers=None, num_hidden_layers=55)
