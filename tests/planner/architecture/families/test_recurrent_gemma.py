"""RecurrentGemma."""

from __future__ import annotations

from collections.abc import Callable

from planner.architecture.spec import Attention, ModelSpec, StateSpace


def test_two_recurrent_blocks_to_one_windowed_attention(read: Callable[..., ModelSpec]) -> None:
    spec = read("google/recurrentgemma-2b")
    assert [run.count for run in spec.text.runs] == [2, 1] * 8 + [2]
    recurrent, attention = (run.layer.sublayers[0].mixer for run in spec.text.runs[:2])
    assert isinstance(recurrent, StateSpace)
    assert isinstance(attention, Attention)
    assert (recurrent.variant, recurrent.inner, recurrent.kernel) == ("rg_lru", 2560, 4)
    assert (attention.window, attention.key_value_heads, attention.rotary_dim) == (2048, 1, 128)
    assert spec.logit_softcap
