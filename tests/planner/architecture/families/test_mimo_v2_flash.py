"""MiMo-V2-Flash."""

from __future__ import annotations

from collections.abc import Callable

from planner.architecture.spec import Attention, Mlp, ModelSpec


def test_windowed_layers_have_twice_the_key_value_heads_and_sinks(read: Callable[..., ModelSpec]) -> None:
    spec = read("XiaomiMiMo/MiMo-V2-Flash")
    full, windowed = (run.layer.sublayers[0].mixer for run in spec.text.runs[:2])
    assert isinstance(full, Attention)
    assert isinstance(windowed, Attention)
    assert (full.key_value_heads, full.window, full.extra) == (4, None, ())
    assert (windowed.key_value_heads, windowed.window, len(windowed.extra)) == (8, 129, 1)
    assert (full.head_dim, full.value_head_dim, full.rotary_dim) == (192, 128, 64)
    assert isinstance(spec.text.runs[0].layer.sublayers[1].mixer, Mlp)
