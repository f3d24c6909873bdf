"""DeepSeek V4: exact counts, the checkpoint's surplus, and a step that is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from planner.architecture.config import ConfigError
from planner.architecture.count import active, by_component, checkpoint_total, total
from planner.architecture.spec import ModelSpec, Opaque
from tests.planner.asking import ask

FLASH, PRO = "deepseek-ai/DeepSeek-V4-Flash-Base", "deepseek-ai/DeepSeek-V4-Pro-Base"
Read = Callable[..., ModelSpec]


def test_flash_by_component(read: Read) -> None:
    spec = read(FLASH)
    assert total(spec) == 284_332_230_231
    assert active(spec) == 13_799_622_231
    assert by_component(spec) == {
        "embedding": 529_530_880,
        "attention": 5_086_228_160,
        "experts": 277_025_390_592,
        "shared_experts": 1_082_130_432,
        "router": 45_088_768,
        "norms": 446_080,
        "other": 33_884_439,
        "lm_head": 529_530_880,
    }


@pytest.mark.parametrize(
    ("model_id", "published", "buffers", "scales"),
    [
        (FLASH, 292_021_347_282, 10_496 + 2_327_040, 17_669_120),
        (PRO, 1_600_790_440_862, 22_656 + 2_327_040, 97_408_000),
    ],
)
def test_checkpoint_is_the_published_integer_less_buffers_and_scales(
    read: Read, model_id: str, published: int, buffers: int, scales: int
) -> None:
    assert checkpoint_total(read(model_id)) == published - buffers - scales


def test_layers_by_ratio_by_name_and_by_rule(read: Read) -> None:
    assert [run.count for run in read(FLASH).text.runs][:3] == [2, 1, 1]
    ruled = read(FLASH, compress_ratios=None, num_hidden_layers=5)
    named = read(
        FLASH,
        compress_ratios=None,
        num_hidden_layers=5,
        layer_types=[
            f"{kind}_attention" for kind in ["heavily_compressed"] * 3 + ["compressed_sparse", "heavily_compressed"]
        ],
    )
    assert ruled.text == named.text


def test_wider_windows_have_longer_position_biases(read: Read) -> None:
    wider = read(FLASH, compress_rates={"compressed_sparse_attention": 4, "heavily_compressed_attention": 256})
    assert total(wider) - total(read(FLASH)) == 20 * 128 * 512


@pytest.mark.parametrize("stored", [("fp8", "float8"), ("fp4", "mxfp4"), (None, "bfloat16")])
def test_experts_dtype_is_the_checkpoints(read: Read, stored: tuple[str | None, str]) -> None:
    assert read(FLASH, expert_dtype=stored[0]).stored_dtype == stored[1]


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("compress_ratios", {"compress_ratios": [4] * 42}),
        ("compress_ratios", {"compress_ratios": [5] * 43}),
        ("compress_ratios", {"compress_ratios": [[]] * 43}),
        ("layer_types", {"layer_types": ["full_attention"] * 43}),
        ("o_groups", {"o_groups": 7}),
        ("compress_rates", {"compress_rates": "4"}),
        ("compress_rate_csa", {"compress_rate_csa": 0}),
    ],
)
def test_hostile_fields_are_named(read: Read, field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as raised:
        read(FLASH, **changes)
    assert raised.value.field.startswith(field)


def test_the_step_is_refused_and_the_parameters_are_given(read: Read) -> None:
    first = read(FLASH).text.runs[0].layer.sublayers[0].mixer
    assert isinstance(first, Opaque)
    given = ask(FLASH)
    assert given.verdict == "not_modelled"
    assert [reason.code for reason in given.reasons] == ["block_not_modelled"]
    assert "4 residual streams" in given.reasons[0].message
    assert given.parameters is not None
    assert given.parameters.total == 284_332_230_231
