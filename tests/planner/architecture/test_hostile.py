"""Every field of every model type replaced by values that no config should have: answered or refused, quickly."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from planner.architecture.config import MAXIMUM_LAYERS, ConfigError, UnknownModelType
from planner.architecture.registry import read_config, readers
from planner.architecture.spec import ModelSpec
from planner.catalog.models import all_models

NUMBERS = (-1, 0, 1, 10**9, 10**30, 1.5, math.nan, math.inf, True)
HOSTILE: tuple[Any, ...] = (None, *NUMBERS, "x", "9" * 5000, [], [None], [10**9] * 3, {}, {"a": 1})
REPRESENTATIVE = {entry.config["model_type"]: entry.config for entry in all_models()}
SECONDS = 3.0  # tells a hang from a busy machine


def replaced(values: Mapping[str, Any], hostile: Any) -> Iterator[dict[str, Any]]:
    """The config with one field after the other replaced, or removed, at the top and one level below."""
    for name, value in values.items():
        if name == "model_type":
            continue
        yield {**values, name: hostile}
        if isinstance(value, Mapping):
            for inner in replaced(value, hostile):
                yield {**values, name: inner}


def attempt(values: Mapping[str, Any]) -> ModelSpec | None:
    """What the config reads as, None when it is refused. Processor time counts, so that a busy machine is no bug."""
    start = time.process_time()
    spec, message = None, ""
    try:
        spec = read_config(values)
    except (ConfigError, UnknownModelType) as error:
        message = str(error)
    assert time.process_time() - start < SECONDS
    assert len(message) < 1000
    return spec


@pytest.mark.parametrize("model_type", sorted(set(REPRESENTATIVE) & set(readers())))
def test_hostile_fields_are_refused_or_read(model_type: str) -> None:
    values = REPRESENTATIVE[model_type]
    attempt(values)
    attempt({"model_type": model_type})
    for hostile in HOSTILE:
        for config in replaced(values, hostile):
            attempt(config)


@pytest.mark.parametrize("model_type", sorted(set(REPRESENTATIVE) & set(readers())))
def test_a_billion_layers_are_not_built(model_type: str) -> None:
    values = REPRESENTATIVE[model_type]
    names = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers")
    level = values.get("text_config", values)
    name = next(name for name in names if name in level)
    changed = {**level, name: 10**9}
    spec = attempt({**values, "text_config": changed} if "text_config" in values else changed)
    assert spec is None or spec.text.layer_count <= MAXIMUM_LAYERS  # some classes read a pattern instead


def test_an_unknown_model_type_is_not_guessed() -> None:
    with pytest.raises(UnknownModelType, match="not modelled"):
        read_config({"model_type": "llama-but-different", "hidden_size": 8})


@pytest.mark.parametrize("model_type", [None, 5, ["llama"], "x" * 10_000])
def test_a_model_type_of_the_wrong_kind_is_refused(model_type: Any) -> None:
    with pytest.raises((ConfigError, UnknownModelType)):
        read_config({"model_type": model_type})
