"""A config.json read with suspicion: every value is checked for type and bounds before anything is computed from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

MAXIMUM_WIDTH = 2**26
MAXIMUM_LAYERS = 2_000
MAXIMUM_HEADS = 2**20
MAXIMUM_EXPERTS = 2**17
MAXIMUM_VOCABULARY = 2**26
_MISSING: Any = object()


class ConfigError(ValueError):
    """A value of a config.json that cannot be used. `accepted` says what could be."""

    def __init__(self, field_name: str, value: object, accepted: str) -> None:
        self.field = field_name
        self.value = value
        self.accepted = accepted
        super().__init__(f"config field `{field_name}` is {_shorten(value)}; accepted: {accepted}")


class UnknownModelType(ValueError):
    """A model_type that no family file reads. `missing` says what would be needed to model it."""

    def __init__(self, model_type: str, missing: str) -> None:
        self.model_type = model_type
        self.missing = missing
        super().__init__(f"model_type `{_shorten(model_type)}` is not modelled: {missing}")


def _shorten(value: object) -> str:
    """A value for a message: never longer than 60 characters, and cheap for a hostile one."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value[:100] if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True)
class Config:
    """One level of a config.json. `assumed` collects the values that were missing and filled in."""

    values: Mapping[str, Any]
    path: str = ""
    assumed: dict[str, Any] = field(default_factory=dict[str, Any])

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def _name(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def _get(self, name: str, default: Any, accepted: str) -> Any:
        value = self.values.get(name)
        if value is not None:
            return value
        if default is _MISSING:
            raise ConfigError(self._name(name), None, accepted)
        if default is not None:
            self.assumed[self._name(name)] = default
        return default

    def integer(self, name: str, default: Any = _MISSING, minimum: int = 1, maximum: int = MAXIMUM_WIDTH) -> int:
        """The integer called `name`, between minimum and maximum; a missing one is `default`, or an error."""
        accepted = f"an integer from {minimum} to {maximum}"
        value = self._get(name, default, accepted)
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise ConfigError(self._name(name), value, accepted)
        return value

    def optional_integer(self, name: str, minimum: int = 1, maximum: int = MAXIMUM_WIDTH) -> int | None:
        """As `integer`, but missing and null mean None."""
        return self.integer(name, minimum=minimum, maximum=maximum) if name in self else None

    def layers(self, name: str = "num_hidden_layers", default: Any = _MISSING) -> int:
        """The number of layers, 0 to MAXIMUM_LAYERS."""
        return self.integer(name, default, minimum=0, maximum=MAXIMUM_LAYERS)

    def number(self, name: str, default: Any = _MISSING, minimum: float = 0.0, maximum: float = 1e12) -> float:
        """The finite number called `name`, between minimum and maximum."""
        accepted = f"a number from {minimum} to {maximum}"
        value = self._get(name, default, accepted)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ConfigError(self._name(name), value, accepted)
        if not minimum <= value <= maximum:
            raise ConfigError(self._name(name), value, accepted)
        return float(value)

    def flag(self, name: str, default: Any = _MISSING) -> bool:
        """The boolean called `name`."""
        value = self._get(name, default, "true or false")
        if not isinstance(value, bool):
            raise ConfigError(self._name(name), value, "true or false")
        return value

    def text(self, name: str, default: Any = _MISSING) -> str:
        """The string called `name`, at most 256 characters."""
        value = self._get(name, default, "a string")
        if not isinstance(value, str) or len(value) > 256:
            raise ConfigError(self._name(name), value, "a string of at most 256 characters")
        return value

    def items(self, name: str, length: int | None = None) -> list[Any] | None:
        """The list called `name` (of `length` items when given), or None when it is missing."""
        if name not in self:
            return None
        value = self.values[name]
        accepted = "a list" if length is None else f"a list of {length} items"
        if not isinstance(value, list):
            raise ConfigError(self._name(name), value, accepted)
        found = cast(list[Any], value)
        if len(found) > 4 * MAXIMUM_LAYERS or (length is not None and len(found) != length):
            raise ConfigError(self._name(name), f"{len(found)} items", accepted)
        return list(found)

    def section(self, name: str) -> Config:
        """The nested object called `name`, sharing the list of assumptions."""
        value = self._get(name, _MISSING, "an object")
        if not isinstance(value, Mapping):
            raise ConfigError(self._name(name), value, "an object")
        return Config(cast(Mapping[str, Any], value), self._name(name), self.assumed)

    def without(self, name: str) -> Config:
        """This config with `name` absent."""
        return replace(self, values={key: value for key, value in self.values.items() if key != name})

    def sections(self, name: str, length: int) -> list[Config]:
        """The list of `length` nested objects called `name`."""
        entries = self.items(name, length)
        if entries is None:
            raise ConfigError(self._name(name), None, f"a list of {length} objects")
        if not all(isinstance(entry, Mapping) for entry in entries):
            raise ConfigError(self._name(name), entries, f"a list of {length} objects")
        return [Config(entry, f"{self._name(name)}[{index}]", self.assumed) for index, entry in enumerate(entries)]

    def error(self, name: str, accepted: str) -> ConfigError:
        """The error that says that the present value of `name` cannot be used."""
        return ConfigError(self._name(name), self.values.get(name), accepted)
