"""What pydantic and FastAPI say of a wrong field, as a problem that names it, its value and what would be accepted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from app.knobs import bounds, knobs_by_path
from app.problems import Problem, Violation, said, shorten
from planner.contract import EstimateRequest


def from_validation(error: ValidationError, body: type[BaseModel] = EstimateRequest) -> Problem:
    """The problem behind pydantic's errors, each union's branches reduced to the one that was meant.

    `body` is the model that was to be read: it says which fields there are, and what each takes.
    """
    asked = _Asked(body)
    violations = [_violation(asked, details) for details in _meant(asked, error.errors(include_url=False))]
    first = violations[0]
    more = "" if len(violations) == 1 else f" ({len(violations) - 1} more in `errors`)"
    return Problem(
        "invalid_request",
        first.message + more,
        field=first.field,
        value=first.value,
        accepted=first.accepted,
        errors=violations,
    )


_WRONG_KIND = frozenset({"string_type", "model_type", "dict_type", "list_type", "model_attributes_type"})
_BY_NAME: Final = "free"
"""The one field whose parts are named by whoever asks."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """The body that was to be read."""

    body: type[BaseModel]

    @property
    def names(self) -> frozenset[str]:
        """Every field name, to be told from the names that pydantic gives to a union's branches."""
        return _names_of(self.body)

    def is_place(self, part: int | str, before: int | str | None) -> bool:
        return isinstance(part, int) or part in self.names or before == _BY_NAME

    def path(self, details: ErrorDetails) -> tuple[str, ...]:
        """The place in the request, without the names of a union's branches."""
        location = details["loc"] or ("",)
        last = len(location) - 1
        return tuple(
            str(shorten(part))
            for index, part in enumerate(location)
            if self.is_place(part, location[index - 1] if index else None)
            or (index == last and details["type"] == "extra_forbidden")
        )

    def field(self, details: ErrorDetails) -> str:
        return ".".join(self.path(details)) or "body"

    def ends_in_field(self, details: ErrorDetails) -> bool:
        """Whether the place of an error is a field or an item, and not one branch of a union."""
        before, last = (None, None, *details["loc"])[-2:]
        return last is not None and self.is_place(last, before)

    def accepted_at(self, path: tuple[str, ...]) -> str:
        """What stands at a place, in words."""
        return accepted_by(_at(self.body, path), _definitions(self.body))

    def fields_at(self, path: tuple[str, ...]) -> list[str]:
        """The fields of the object at a place."""
        return _fields(_at(self.body, path), _definitions(self.body))


@cache
def _schema(body: type[BaseModel]) -> Mapping[str, Any]:
    return body.model_json_schema()


def _definitions(body: type[BaseModel]) -> Mapping[str, Any]:
    return _schema(body).get("$defs", {})


@cache
def _names_of(body: type[BaseModel]) -> frozenset[str]:
    objects = [_schema(body), *_definitions(body).values()]
    return frozenset(name for described in objects for name in described.get("properties", {}))


def _at(body: type[BaseModel], path: tuple[str, ...]) -> Mapping[str, Any]:
    """The schema of a place; an empty one where the contract has none."""
    found = _schema(body)
    for part in path:
        inner = [_inner(one, part) for one in _variants(found, _definitions(body))]
        found = next((one for one in inner if one), _NOTHING)
    return found


_NOTHING: Final[Mapping[str, Any]] = {}


def _inner(described: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    properties: Mapping[str, Any] = described.get("properties", _NOTHING)
    if part in properties:
        return properties[part]
    inner: Mapping[str, Any] | bool = described.get("items" if part.isdecimal() else "additionalProperties", False)
    return _NOTHING if isinstance(inner, bool) else inner


def _variants(described: Mapping[str, Any], definitions: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The branches of a union, each looked up."""
    branches = [one for one in described.get("anyOf", [described]) if one.get("type") != "null"]
    return [definitions[one["$ref"].rsplit("/", 1)[1]] if "$ref" in one else one for one in branches]


def _fields(described: Mapping[str, Any], definitions: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(name for one in _variants(described, definitions) for name in one.get("properties", {})))


def accepted_by(described: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What a JSON schema takes, in words that need no knowledge of schemas."""
    return " or ".join(dict.fromkeys(_words(one) for one in _variants(described, definitions))) or "a value"


def _words(one: Mapping[str, Any]) -> str:
    choices: Sequence[Any] = one.get("enum", [one["const"]] if "const" in one else [])
    if choices:
        return listed([str(choice) for choice in choices])
    match one.get("type"):
        case "integer" | "number" as kind:
            words = f"{'an integer' if kind == 'integer' else 'a number'}{_range(one)}"
        case "string":
            words = "a text" + _counted(one.get("minLength"), one.get("maxLength"), "character")
        case "array":
            words = "a list" + _counted(one.get("minItems"), one.get("maxItems"), "value")
        case "object":
            words = _object(", ".join(one.get("properties", {})))
        case kind:
            words = "true or false" if kind == "boolean" else "a value"
    return words


def _range(one: Mapping[str, Any]) -> str:
    lower, upper = one.get("exclusiveMinimum"), one.get("exclusiveMaximum")
    least, most = one.get("minimum", lower), one.get("maximum", upper)
    return bounds(least, most, above=lower is not None, below=upper is not None)


def _object(names: str) -> str:
    whose = "an estimate's body: " if names == _BODY else ""
    return f"{whose}an object with {names}" if names else "an object"


_BODY: Final = ", ".join(EstimateRequest.model_fields)


def _counted(least: int | None, most: int | None, unit: str) -> str:
    def units(count: int) -> str:
        return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"

    if least and most is not None:
        return f" of {least:,} to {units(most)}"
    return f" of at least {units(least)}" if least else "" if most is None else f" of at most {units(most)}"


def listed(names: Sequence[str]) -> str:
    """`a or b`; more of them as `one of a, b, c`."""
    return " or ".join(names) if len(names) < 3 else "one of " + ", ".join(names)


def _meant(asked: _Asked, errors: Sequence[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Of a union's errors, those of the branch that the value looks like; of one field's, the first."""
    ranked = sorted(errors, key=lambda details: _unlikeliness(asked, details))
    seen: list[str] = []
    for details in ranked:
        field = asked.field(details)
        if _unlikeliness(asked, details) and any(other == field or other.startswith(f"{field}.") for other in seen):
            continue
        if field not in seen:
            seen.append(field)
            yield details


def _unlikeliness(asked: _Asked, details: ErrorDetails) -> int:
    if details["type"] in _WRONG_KIND and not asked.ends_in_field(details):
        return 2
    return 1 if details["type"] == "literal_error" and isinstance(details["input"], dict | list) else 0


def _violation(asked: _Asked, details: ErrorDetails) -> Violation:
    field, accepted = asked.field(details), _accepted(asked, details)
    value = None if details["type"] == "missing" else shorten(details["input"])
    return Violation(field=field, value=value, accepted=accepted, message=_message(details, field, accepted))


def _message(details: Mapping[str, Any] | ErrorDetails, field: str, accepted: str) -> str:
    match details["type"]:
        case "missing":
            return f"`{field}` is missing; accepted: {accepted}"
        case "extra_forbidden":
            return f"`{field}` is not a field of the request; accepted: {accepted}"
        case "value_error":
            return f"`{field}`: {accepted}"
        case _:
            return f"`{field}` is {said(details.get('input'))}; accepted: {accepted}"


def _accepted(asked: _Asked, details: ErrorDetails) -> str:
    path = asked.path(details)
    if details["type"] == "extra_forbidden":
        return listed(asked.fields_at(path[:-1]))
    if details["type"] == "value_error":
        return str(details.get("ctx", {}).get("error", details["msg"]))
    if path == ("requests",):
        return asked.accepted_at(path).replace("value", "plan")
    within = path[1:] if path[:1] in (("base",), ("request",)) else path
    if within == ("machine", "device"):
        return "a catalogue id, this-machine, or an object with the device's own figures"
    knob = knobs_by_path().get(within)
    return asked.accepted_at(path) if knob is None else knob.accepted


def from_parameters(errors: Sequence[Any], schemas: Mapping[str, Mapping[str, Any]]) -> Problem:
    """The problem behind FastAPI's errors about parameters of the address, whose JSON schemas are given by name."""
    violations = [_parameter(details, schemas) for details in errors]
    first = violations[0]
    return Problem(
        "invalid_request",
        first.message,
        field=first.field,
        value=first.value,
        accepted=first.accepted,
        errors=violations,
    )


def _parameter(details: Mapping[str, Any], schemas: Mapping[str, Mapping[str, Any]]) -> Violation:
    name = next((str(part) for part in details["loc"] if part in schemas), "")
    field = name or str(shorten(details["loc"][-1]))
    accepted = accepted_by(schemas[name], {}) if name else str(details["msg"]).removeprefix("Input should be ")
    value = None if details["type"] == "missing" else shorten(details.get("input"))
    return Violation(field=field, value=value, accepted=accepted, message=_message(details, field, accepted))
