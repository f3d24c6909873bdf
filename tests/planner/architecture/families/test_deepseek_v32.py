"""DeepSeek V3.2, GLM-5 and GLM-4.7-Flash."""

from __future__ import annotations

from collections.abc import Callable

from planner.architecture.count import checkpoint_total, total
from planner.architecture.spec import LatentAttention, ModelSpec


def indexers(spec: ModelSpec) -> list[bool]:
    mixers = [run.layer.sublayers[0].mixer for run in spec.text.runs for _ in range(run.count)]
    return [bool(mixer.extra) for mixer in mixers if isinstance(mixer, LatentAttention)]


def test_v32_has_an_indexer_in_every_layer(read: Callable[..., ModelSpec]) -> None:
    spec = read("deepseek-ai/DeepSeek-V3.2")
    assert indexers(spec) == [True] * 61
    assert total(spec) == 671_877_929_216
    assert checkpoint_total(spec) - total(spec) == 11_521_245_440 + 1_853_358_080 + 102_760_448 + 21_504


def test_glm5_prediction_layer_shares_the_vocabulary(read: Callable[..., ModelSpec]) -> None:
    spec = read("zai-org/GLM-5")
    assert checkpoint_total(spec) - total(spec) == 9_877_404_416 + 75_497_472 + 18_432


def test_glm5_layers_may_share_an_indexer(read: Callable[..., ModelSpec]) -> None:
    spec = read("zai-org/GLM-5", num_hidden_layers=6, index_topk_freq=2)
    assert indexers(spec) == [True, True, False, True, False, True]
    spec = read("zai-org/GLM-5", num_hidden_layers=3, index_topk_pattern="FSF")
    assert indexers(spec) == [True, False, True]


def test_glm_flash_has_none(read: Callable[..., ModelSpec]) -> None:
    spec = read("zai-org/GLM-4.7-Flash")
    assert not any(indexers(spec))
    assert [run.count for run in spec.text.runs] == [1, 46]
