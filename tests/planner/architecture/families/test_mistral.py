from __future__ import annotations

from planner.architecture.registry import read_config
from planner.catalog.models import model
from tests.planner.architecture.families.dense_shapes import (
    assert_published_counts,
    spec_of,
    windows_of,
)


def test_published_models_count_exactly() -> None:
    assert_published_counts("mistral")


def test_a_missing_window_slides_and_a_null_one_does_not() -> None:
    absent = spec_of("mistralai/Mistral-7B-v0.1", sliding_window=None)
    assert windows_of(absent) == [4096] * 32
    assert absent.assumed["sliding_window"] == 4096
    values = {**model("mistralai/Mistral-7B-v0.1").config, "sliding_window": None}
    assert windows_of(read_config(values)) == [None] * 32
