"""One measured run as a closed document: the run in our contract, what was measured of it, where, and by whom."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from planner.contract import EstimateRequest

MAXIMUM_DOCUMENT_BYTES: Final = 1 << 20
"""A document is a page of text and at most one config.json."""

PeakKind = Literal["allocated", "active", "reserved", "process", "resident", "unknown"]
Departure = Literal["none", "compiled", "other_framework", "other_release"]
Text = Annotated[str, Field(max_length=4000)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
FieldName = Annotated[str, Field(pattern=r"^(model|machine|run)(\.[a-z_0-9]+)+$", max_length=100)]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True, extra="forbid")


class Peak(_Document):
    """A peak of one logical device, in bytes, by how it was read.

    `allocated`, `active` and `reserved` are the framework allocator's own counters, `process` is what the driver
    shows for the process, `resident` a process's memory on a CPU above what the imports took, `unknown` what a source
    does not say.
    """

    kind: PeakKind
    bytes: Annotated[int, Field(gt=0, le=2**60, strict=True)]


class MeasuredRun(_Document):
    """One measured run.

    `unknown` names the fields of the request that the source leaves open and the figure depends on: such a row is
    `partial` and bounds a prediction at most (`bound`: the plan needs at_least, or at_most, what was measured).
    `stand_ins` names fields that the source leaves open and the figure barely depends on. `departure` says how the
    run differs from every run that the contract can state; it is estimated as if it did not, and scored apart.
    `explanation` says why a prediction is off, where that is known. `tokens_per_second` is over all devices.
    """

    schema_version: Literal[1] = 1
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=120)]
    publisher: Name
    source: Annotated[str, Field(min_length=1, max_length=1000)]
    date_or_commit: Annotated[str, Field(max_length=200)] = ""
    status: Literal["pending", "verified", "rejected"] = "pending"
    completeness: Literal["full", "partial"] = "full"
    unknown: list[FieldName] = []
    bound: Literal["at_least", "at_most"] | None = None
    stand_ins: list[FieldName] = []
    departure: Departure = "none"
    request: EstimateRequest
    outcome: Literal["completed", "out_of_memory"] = "completed"
    peaks: Annotated[list[Peak], Field(max_length=6)] = []
    tokens_per_second: Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)] | None = None
    stack: dict[Name, Annotated[str, Field(max_length=200)]] = {}
    note: Text = ""
    explanation: Text = ""

    @model_validator(mode="after")
    def _holds_together(self) -> MeasuredRun:
        if (self.completeness == "partial") != bool(self.unknown):
            raise ValueError("`completeness` is partial exactly when `unknown` names at least one field")
        if self.bound is not None and self.completeness == "full":
            raise ValueError("`bound` is for partial rows: a full one is compared")
        if self.outcome == "completed" and not self.peaks and self.tokens_per_second is None:
            raise ValueError("a completed run needs `peaks`, `tokens_per_second`, or both")
        if len({peak.kind for peak in self.peaks}) != len(self.peaks):
            raise ValueError("`peaks` may hold one peak of each kind")
        if self.request.machine.device == "this-machine":
            raise ValueError(
                "`request.machine.device` may not be this-machine: elsewhere that is another one. Accepted: an id of "
                "the catalogue, or the device's own figures"
            )
        return self

    @property
    def is_faithful(self) -> bool:
        """Whether an estimate of `request` is an estimate of this very run."""
        return self.completeness == "full" and self.departure == "none" and self.status == "verified"

    def peak(self, kind: str) -> int | None:
        """The measured peak of a kind, None where it was not taken."""
        return next((peak.bytes for peak in self.peaks if peak.kind == kind), None)


class DocumentError(ValueError):
    """A text that is no document of the corpus; the message says which field is wrong, and what is accepted."""


def read_document(text: bytes | str) -> MeasuredRun:
    """The document that a text holds.

    Raises:
        DocumentError: too long, not JSON (NaN, Infinity and 200 levels of nesting are not), or not of the schema.
    """
    size = len(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    if size > MAXIMUM_DOCUMENT_BYTES:
        raise DocumentError(f"the document has {size:,} bytes; accepted are at most {MAXIMUM_DOCUMENT_BYTES:,}")
    try:
        values: Any = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise DocumentError(f"the document is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise DocumentError(f"a document is one JSON object, this is a {type(values).__name__}")
    try:
        return MeasuredRun.model_validate(values)
    except ValidationError as error:
        raise DocumentError(_described(error)) from error


def _described(error: ValidationError) -> str:
    """The first faults, by field."""
    faults = error.errors(include_url=False, include_context=False)
    listed = [f"{'.'.join(map(str, fault['loc'])) or 'document'}: {fault['msg']}" for fault in faults[:5]]
    more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
    return "; ".join(listed) + more
