"""A shallower copy of a model for a machine that can't hold all of its layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

_DEPTH_NAMES: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_NESTED: Final = ("text_config", "llm_config", "language_config")


def depth_of(config: Mapping[str, Any]) -> int | None:
    """How many layers a configuration asks for; None where it doesn't say it in a way that we know."""
    for part in _parts(config):
        for name in _DEPTH_NAMES:
            if isinstance(part.get(name), int):
                return part[name]
    return None


def shallower(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """The configuration with fewer layers, lists with an entry for each layer cut to match."""
    whole = depth_of(config)
    changed: dict[str, Any] = {}
    for name, value in config.items():
        if name in _NESTED and isinstance(value, Mapping):
            changed[name] = shallower(cast("Mapping[str, Any]", value), layers)
        elif name in _DEPTH_NAMES and value == whole:
            changed[name] = layers
        elif isinstance(value, list) and len(cast("list[Any]", value)) == whole:
            changed[name] = value[:layers]
        else:
            changed[name] = value
    return changed


def deepest(config: Mapping[str, Any], fits: Callable[[Mapping[str, Any]], bool]) -> int | None:
    """The most layers that fit, by halving; None when not one does, or the depth is unknown."""
    whole = depth_of(config)
    if whole is None or not fits(shallower(config, 1)):
        return None
    low, high = 1, whole
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(shallower(config, middle)) else (low, middle)
    return low


def _parts(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    nested = [cast("Mapping[str, Any]", value) for name in _NESTED if isinstance(value := config.get(name), Mapping)]
    return [config, *nested]
