"""Llama 4: chunked attention, layers without positions, experts stored transposed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from planner.architecture.config import ConfigError
from planner.architecture.spec import Attention, Mlp, ModelSpec, Moe

SCOUT, MAVERICK = "meta-llama/Llama-4-Scout-17B-16E-Instruct", "meta-llama/Llama-4-Maverick-17B-128E-Instruct"


def test_every_fourth_layer_sees_all_and_has_no_positions(read: Callable[..., ModelSpec]) -> None:
    chunked, full = (run.layer.sublayers[0].mixer for run in read(SCOUT).text.runs[:2])
    assert isinstance(chunked, Attention)
    assert isinstance(full, Attention)
    assert (chunked.position, chunked.window, chunked.weightless_qk_norm) == ("rope", 8192, True)
    assert (full.position, full.window) == ("none", None)
    assert [run.count for run in read(SCOUT).text.runs] == [3, 1] * 12


def test_maverick_alternates_dense_and_sparse(read: Callable[..., ModelSpec]) -> None:
    kinds = [type(run.layer.sublayers[1].mixer) for run in read(MAVERICK).text.runs for _ in range(run.count)]
    assert kinds == [Mlp, Moe] * 24


def test_the_router_is_linear_and_experts_are_transposed(read: Callable[..., ModelSpec]) -> None:
    experts = read(SCOUT).text.runs[0].layer.sublayers[1].mixer
    assert isinstance(experts, Moe)
    assert experts.router.kind == "linear"
    assert experts.experts[0].shape == (16, 5120, 2 * 8192)


def test_a_missing_tower_is_asked_for(read: Callable[..., ModelSpec]) -> None:
    with pytest.raises(ConfigError, match="vision_config"):
        read(SCOUT, vision_config=None)
