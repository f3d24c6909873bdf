"""Qwen3.5: text model, tower and MTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from planner.architecture.count import checkpoint_total, total
from planner.architecture.registry import read_config
from planner.architecture.spec import ModelSpec
from planner.catalog.models import model


def test_the_checkpoint_holds_the_prediction_layer(read: Callable[..., ModelSpec]) -> None:
    assert checkpoint_total(read("Qwen/Qwen3.5-27B")) == 27_781_427_952
    assert checkpoint_total(read("Qwen/Qwen3.5-397B-A17B")) == 403_397_928_944


def test_the_tower_stands_before_the_text_model(read: Callable[..., ModelSpec]) -> None:
    spec = read("Qwen/Qwen3.5-35B-A3B")
    (tower,) = spec.encoders
    assert (tower.layer_count, tower.hidden, tower.positions_per_sample) == (27, 1152, 2304)


def test_the_text_model_alone_is_the_rest(read: Callable[..., ModelSpec]) -> None:
    whole = read("Qwen/Qwen3.5-27B")
    text: dict[str, Any] = dict(model("Qwen/Qwen3.5-27B").config["text_config"])
    assert total(whole) - total(read_config({**text, "tie_word_embeddings": False})) == 460_730_096
