"""Which family file reads which model_type."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any

from planner.architecture import families
from planner.architecture.config import Config, ConfigError, UnknownModelType
from planner.architecture.dropout import dropouts_of
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec


@cache
def readers() -> dict[str, Reader]:
    """model_type -> reader, collected from every file of `families` (each has a `READERS` dictionary)."""
    found: dict[str, Reader] = {}
    for info in pkgutil.iter_modules(families.__path__):
        module = import_module(f"{families.__name__}.{info.name}")
        found.update(getattr(module, "READERS", {}))
    return found


def read_config(values: Mapping[str, Any]) -> ModelSpec:
    """A config.json as shapes.

    Raises:
        ConfigError: a value has the wrong type or is out of bounds; the error names the field.
        UnknownModelType: no family reads this model_type.
    """
    config = Config(values)
    if "model_type" not in config:
        raise ConfigError("model_type", None, "one of the supported model types, see `trainfit models`")
    model_type = config.text("model_type")
    reader = readers().get(model_type)
    if reader is None:
        raise UnknownModelType(model_type, "no description of its layers is in the catalogue")
    spec = reader(config)
    return replace(spec, dropouts=dropouts_of(config, model_type))
