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
from planner.architecture.count import stack_modules
from planner.architecture.dropout import dropouts_of
from planner.architecture.reader import Reader
from planner.architecture.spec import ModelSpec, Note, layer_modules, reads_encoder


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
    return replace(spec, dropouts=dropouts_of(config, model_type), notes=(*spec.notes, *_idle_towers(spec)))


def _idle_towers(spec: ModelSpec) -> tuple[Note, ...]:
    """The note that a step is one of text alone, for a text model with towers."""
    if spec.task != "causal_lm" or not spec.encoders:
        return ()
    elements = sum(times * module.elements for tower in spec.encoders for module, times in stack_modules(tower))
    crossing = [run for run in spec.text.runs if reads_encoder(run.layer)]
    if crossing:
        layers = sum(run.count for run in crossing)
        reading = sum(run.count * module.elements for run in crossing for module in layer_modules(run.layer))
        message = (
            f"The step is of text alone: the vision tower ({elements:,} parameters) and the {layers} layers that read "
            f"it ({reading:,}) are loaded but not run, so that their activations and gradients are not counted."
        )
        return (Note("towers_idle", message, elements + reading),)
    message = (
        f"The step is of text alone: the towers for images or sound ({elements:,} parameters) are loaded but not run, "
        "so that their activations and gradients are not counted."
    )
    return (Note("towers_idle", message, elements),)
