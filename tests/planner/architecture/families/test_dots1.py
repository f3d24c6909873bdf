"""dots.llm1 and Solar Open."""

from __future__ import annotations

from collections.abc import Callable

from planner.architecture.spec import Attention, ModelSpec


def test_dots_has_qk_norms_and_solar_has_none(read: Callable[..., ModelSpec]) -> None:
    dots = read("rednote-hilab/dots.llm1.inst").text.runs[0].layer.sublayers[0].mixer
    solar = read("upstage/Solar-Open-100B").text.runs[0].layer.sublayers[0].mixer
    assert isinstance(dots, Attention)
    assert isinstance(solar, Attention)
    assert dots.q_norm is not None
    assert solar.q_norm is None
    assert (solar.head_dim, solar.rotary_dim) == (128, None)


def test_dots_layers_slide_from_a_given_one_on(read: Callable[..., ModelSpec]) -> None:
    spec = read("rednote-hilab/dots.llm1.inst", num_hidden_layers=4, sliding_window=32, max_window_layers=2)
    layers = [run.layer.sublayers[0].mixer for run in spec.text.runs for _ in range(run.count)]
    assert [mixer.window for mixer in layers if isinstance(mixer, Attention)] == [None, None, 32, 32]
