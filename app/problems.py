"""Errors as RFC 9457 problems: one shape for the API, the command line and the pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

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


def said(value: Any) -> str:
    """A value as JSON has it, in a sentence."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    short = shorten(value)
    return short if isinstance(value, Mapping | list | tuple) else repr(short)
