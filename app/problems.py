"""Errors as RFC 9457 problems: one shape for the API, the command line and the pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from app.knobs import bounds, knobs_by_path
from planner.contract import EstimateRequest

MEDIA_TYPE = "application/problem+json"
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Kind:
    """What a code means: its HTTP status, a title that never changes, and what a person can do about it."""

    status: int
    title: str
    remedy: str


KINDS: Mapping[str, Kind] = {
    "invalid_json": Kind(400, "Not JSON", "Send one JSON object in UTF-8. NaN and Infinity are not JSON."),
    "bad_request": Kind(400, "Bad request", "See the detail of the answer."),
    "unknown_host": Kind(
        400, "Unknown host", "Open the page under the address that `trainfit serve` printed, or start it with --host."
    ),
    "cross_site": Kind(403, "Request from another site", "Send the form from trainfit's own page."),
    "no_timeline": Kind(
        404, "No timeline", "Verify a plan that the trace covers; the page of the verification says what it does not."
    ),
    "not_the_maker": Kind(
        403,
        "The report is somebody else's",
        "Send `Authorization: Bearer` with the edit_token that came with the report, or use the browser that made it.",
    ),
    "token_needed": Kind(
        401,
        "A token is needed",
        "Send `Authorization: Bearer` and the value of TRAINFIT_TOKEN that the server has, or show it on a page.",
    ),
    "jobs_are_off": Kind(
        403,
        "Jobs are off on this server",
        "Start it with TRAINFIT_TOKEN, or on a loopback address, where none is needed.",
    ),
    "model_gated": Kind(
        403, "The model is gated", "Accept the model's licence on the Hub and set HF_TOKEN, or paste its config.json."
    ),
    "not_found": Kind(404, "Not found", "Check the address; /api/v1/openapi.json lists the API's."),
    "unknown_model": Kind(
        404, "Unknown model", "Search the catalogue with `trainfit models WORD`, or paste the model's config.json."
    ),
    "unknown_offer": Kind(404, "Unknown offer", "Search with `trainfit offers WORD`, or see /offers."),
    "unknown_report": Kind(404, "No such report", "The list at /reports has those that are kept here."),
    "unknown_job": Kind(404, "Unknown job", "GET /api/v1/jobs lists them."),
    "unknown_plan": Kind(
        404, "The pasted configuration is not stored here", "Paste the config.json again on the first page."
    ),
    "method_not_allowed": Kind(405, "Method not allowed", "The Allow header lists the methods."),
    "cannot_repeat": Kind(
        409, "The saved plan cannot be asked again", "Its saved numbers stand; open the plan's own page to ask anew."
    ),
    "too_large": Kind(413, "Body too large", "A request may have 1 MiB. Leave out what is not config or plan."),
    "unsupported_media_type": Kind(415, "Not JSON by its Content-Type", "Send Content-Type: application/json."),
    "invalid_request": Kind(
        422, "The request breaks the contract", "`field` says where and `accepted` says what fits."
    ),
    "invalid_search": Kind(
        422, "The space cannot be searched", "`field` says what is wrong with it, `accepted` what is searched at once."
    ),
    "invalid_config": Kind(422, "The config.json cannot be used", "`field` names the value; correct it there."),
    "contradicts_framework": Kind(
        422, "The framework's code does otherwise", "`accepted` says what it does; leave the field out to get that."
    ),
    "contradicts_model": Kind(422, "The model cannot do that", "`accepted` says what the model allows."),
    "contradicts_device": Kind(422, "The device cannot do that", "`accepted` says what runs on it."),
    "parallelism_mismatch": Kind(
        422, "The parallelism does not match the devices", "The product of the axes must be the number of devices."
    ),
    "sequence_too_long": Kind(422, "Longer than the model's positions", "`accepted` names the model's maximum."),
    "no_target_modules": Kind(
        422, "No module has these names", "`accepted` lists names that the model has; `all-linear` takes all."
    ),
    "plan_does_not_fit": Kind(
        422, "The plan does not fit", "Measure fewer of its layers (`depth`); the result is extended and labelled so."
    ),
    "idempotency_key_reused": Kind(
        422, "The Idempotency-Key belongs to another request", "Send a new key with a new request."
    ),
    "nothing_trained": Kind(422, "The run trains nothing", "Train at least one layer or adapter."),
    "too_many_layers": Kind(422, "More layers than the model has", "`accepted` names how many there are."),
    "unreadable_text": Kind(
        422,
        "No figure was recognised in the text",
        "Paste what the tool printed, unchanged; `accepted` names the tools.",
    ),
    "unknown_device": Kind(
        422, "Unknown device", "Search with `trainfit devices WORD`, or give the device's own figures as an object."
    ),
    "hub_unavailable": Kind(424, "The Hub did not answer", "Paste the model's config.json instead of its id."),
    "verification_failed": Kind(
        424,
        "The verification ended without an answer",
        "The estimate of the same request stands. `value` says how it ended: out_of_memory, timed_out, crashed, "
        "cancelled or unavailable. TRAINFIT_VERIFICATION_SECONDS and TRAINFIT_VERIFICATION_MEMORY_GIB are its limits.",
    ),
    "too_many_requests": Kind(
        429, "Asked too often", "Ask again later; `accepted` says how often. Estimates are not limited."
    ),
    "too_many_jobs": Kind(429, "Too many jobs wait", "See /jobs; cancel what nobody needs, or add a worker."),
    "database_unavailable": Kind(
        503,
        "The database does not answer",
        "Ask again in a moment; estimates need no database.",
    ),
    "internal": Kind(500, "A fault of trainfit", "Please report it with the request that caused it."),
}


class Violation(BaseModel):
    """One field at fault."""

    field: str
    value: Any = None
    accepted: str
    message: str


class ProblemDocument(BaseModel):
    """RFC 9457, with the field at fault, its value and what is accepted."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    value: Any = None
    accepted: str | None = None
    help: str
    errors: list[Violation] = []


class Problem(Exception):
    """An error that a person can act on."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        value: Any = None,
        accepted: str | None = None,
        status: int | None = None,
        errors: Sequence[Violation] = (),
    ) -> None:
        kind = KINDS.get(code, KINDS["invalid_request"])
        link = f"/errors#{code if code in KINDS else 'invalid_request'}"
        self.document = ProblemDocument(
            type=link,
            title=kind.title,
            status=status or kind.status,
            detail=detail,
            code=code,
            field=field,
            value=shorten(value),
            accepted=accepted,
            help=link,
            errors=list(errors),
        )
        super().__init__(detail)

    def with_hint(self, hint: str) -> Problem:
        """The same problem, with what may have been meant in its detail and among what is accepted."""
        made = Problem(self.document.code, f"{self.document.detail}; {hint}")
        accepted = "; ".join(part for part in (self.document.accepted, hint) if part)
        made.document = self.document.model_copy(update={"detail": str(made), "accepted": accepted})
        return made

    @property
    def status(self) -> int:
        return self.document.status

    @property
    def violations(self) -> list[Violation]:
        """Every field at fault, also where there is only one."""
        document = self.document
        if document.errors or document.field is None:
            return document.errors
        return [
            Violation(
                field=document.field, value=document.value, accepted=document.accepted or "", message=document.detail
            )
        ]

    def json(self) -> str:
        return self.document.model_dump_json(exclude_none=False)


def shorten(value: Any) -> Any:
    """A value fit for an error message: long texts are cut, containers are named, what is not JSON becomes text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else f"an integer of {value.bit_length()} bits"
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    text = str(value).encode("utf-8", "replace").decode()
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


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


def said(value: Any) -> str:
    """A value as JSON has it, in a sentence."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    short = shorten(value)
    return short if isinstance(value, Mapping | list | tuple) else repr(short)


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
