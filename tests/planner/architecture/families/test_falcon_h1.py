"""Falcon-H1: attention beside Mamba-2."""

from __future__ import annotations

from collections.abc import Callable

from planner.architecture.spec import Attention, ModelSpec, Parallel, StateSpace


def test_both_mixers_read_one_norm(read: Callable[..., ModelSpec]) -> None:
    first = read("tiiuae/Falcon-H1-0.5B-Base").text.runs[0].layer.sublayers[0]
    assert isinstance(first.mixer, Parallel)
    recurrent, attention = (branch.mixer for branch in first.mixer.branches)
    assert isinstance(recurrent, StateSpace)
    assert isinstance(attention, Attention)
    assert first.norm is not None
    assert [branch.norm for branch in first.mixer.branches] == [None, None]
    assert (recurrent.inner, recurrent.heads, recurrent.state) == (1536, 24, 128)
    assert (attention.query_heads, attention.key_value_heads, attention.head_dim) == (8, 2, 64)
