"""GLM-4.5."""

from __future__ import annotations

from collections.abc import Callable

from planner.architecture.count import checkpoint_total
from planner.architecture.spec import Attention, ModelSpec


def test_qk_norms_are_in_the_large_model_only(read: Callable[..., ModelSpec]) -> None:
    large = read("zai-org/GLM-4.5").text.runs[0].layer.sublayers[0].mixer
    air = read("zai-org/GLM-4.5-Air").text.runs[0].layer.sublayers[0].mixer
    assert isinstance(large, Attention)
    assert isinstance(air, Attention)
    assert large.q_norm is not None
    assert air.q_norm is None
    assert large.rotary_dim == 64


def test_the_checkpoint_holds_the_prediction_layer(read: Callable[..., ModelSpec]) -> None:
    # the Hub's totals less the router correction biases (14,400 and 5,888)
    assert checkpoint_total(read("zai-org/GLM-4.5")) == 358_337_776_896
    assert checkpoint_total(read("zai-org/GLM-4.5-Air")) == 110_468_818_944
