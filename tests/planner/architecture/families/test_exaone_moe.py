"""K-EXAONE."""

from __future__ import annotations

from collections.abc import Callable

from planner.architecture.count import checkpoint_total
from planner.architecture.spec import Attention, ModelSpec


def test_full_layers_have_no_positions(read: Callable[..., ModelSpec]) -> None:
    spec = read("LGAI-EXAONE/K-EXAONE-236B-A23B")
    layers = [run.layer.sublayers[0].mixer for run in spec.text.runs for _ in range(run.count)]
    kinds = [(mixer.position, mixer.window) for mixer in layers if isinstance(mixer, Attention)]
    assert kinds == ([("rope", 128)] * 3 + [("none", None)]) * 12


def test_the_prediction_layer_is_dense(read: Callable[..., ModelSpec]) -> None:
    # 237,099,669,632 on the Hub less 6,016 router correction biases
    assert checkpoint_total(read("LGAI-EXAONE/K-EXAONE-236B-A23B")) == 237_099_663_616
