"""gpt-oss: windows, sinks, biases."""

from __future__ import annotations

from collections.abc import Callable

from planner.architecture.count import total
from planner.architecture.spec import Attention, ModelSpec, Moe


def test_gpt_oss_20b(read: Callable[..., ModelSpec]) -> None:
    spec = read("openai/gpt-oss-20b")
    windows = [run.layer.sublayers[0].mixer for run in spec.text.runs]
    assert [mixer.window for mixer in windows if isinstance(mixer, Attention)] == [128, None] * 12
    attention, experts = (sublayer.mixer for sublayer in spec.text.runs[0].layer.sublayers)
    assert isinstance(attention, Attention)
    assert isinstance(experts, Moe)
    assert [module.name for module in attention.extra] == ["sinks"]
    assert (attention.head_dim, attention.o.bias) == (64, 2880)
    assert experts.experts[0].shape == (32, 2880, 5760)
    assert total(spec) == 20_914_757_184


def test_missing_layer_types_alternate(read: Callable[..., ModelSpec]) -> None:
    assert read("openai/gpt-oss-20b", layer_types=None).text.runs == read("openai/gpt-oss-20b").text.runs


def test_mxfp4_is_recognised(read: Callable[..., ModelSpec]) -> None:
    assert read("openai/gpt-oss-20b", quantization_config={"quant_method": "mxfp4"}).stored_dtype == "mxfp4"
