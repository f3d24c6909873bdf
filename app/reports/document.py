"""What a report is asked for with and what it holds; the same documents for page, REST and command line."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from app.problems import Problem, Violation
from app.refusals import from_validation
from app.reports.evidence import Wanted, parse_wanted
from planner.contract import Answer, EstimateRequest

SCHEMA_VERSION: Final = 1
MINIMUM_PLANS: Final = 2
MAXIMUM_PLANS: Final = 8
MAXIMUM_TITLE: Final = 200
MAXIMUM_NOTES: Final = 10_000
LETTERS: Final = "ABCDEFGH"
"""What plans are called, in order."""

_UNPRINTABLE: Final = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""All but the characters of XML 1.0 (production 2) that are no control characters."""

_Document = TypeVar("_Document", bound=BaseModel)
_From = TypeVar("_From")
_To = TypeVar("_To")


def printable(text: str) -> str:
    """The text without what XML forbids or nobody can see: a title stands in pictures and in databases too."""
    return _UNPRINTABLE.sub("", text)


def _one_line(value: object) -> object:
    """A title stands in one line, whatever was pasted, and has no control characters."""
    if not isinstance(value, str):
        return value
    return printable(" ".join(value.split()))


def _lines(value: object) -> object:
    """Notes have lines and tabs, and no other control characters; browsers send their line ends as CR LF."""
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return printable(text).strip()


Title = Annotated[str, BeforeValidator(_one_line), Field(max_length=MAXIMUM_TITLE, description="one line")]
Notes = Annotated[
    str, BeforeValidator(_lines), Field(max_length=MAXIMUM_NOTES, description="text, shown as simple Markdown")
]


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class ReportRequest(_Given):
    """A comparison to keep: 2 to 8 plans, to verify or of jobs too, and which of them the others are held against."""

    title: Title = ""
    notes: Notes = ""
    requests: list[Wanted] = Field(min_length=MINIMUM_PLANS, max_length=MAXIMUM_PLANS)
    baseline: int = Field(default=0, ge=0, lt=MAXIMUM_PLANS, strict=True, description="position in `requests`")


class _Outside(_Given):
    """A report's request before its plans are read, so that an error says in which plan it is."""

    title: Title = ""
    notes: Notes = ""
    requests: list[Any] = Field(json_schema_extra={"minItems": MINIMUM_PLANS, "maxItems": MAXIMUM_PLANS})
    baseline: int = Field(default=0, ge=0, lt=MAXIMUM_PLANS, strict=True)


class ReportEdit(_Given):
    """What the maker may change. A field that is left out stays as it is."""

    title: Title | None = None
    notes: Notes | None = None


class ReportCreated(BaseModel):
    """Where a new report is. The token is shown this once; it edits title and notes, and deletes."""

    id: str
    url: str
    edit_token: str


class PlanSummary(BaseModel):
    """One plan of a report in a list."""

    model: str
    device: str
    method: str
    verdict: str
    tier: str


class ReportSummary(BaseModel):
    """A report in a list."""

    id: str
    url: str
    title: str
    plans: list[PlanSummary]
    created_at: datetime
    edited_at: datetime | None


class ReportPage(BaseModel):
    """A part of the list of reports, newest first."""

    items: list[ReportSummary]
    next: str | None


class ReportDocument(BaseModel):
    """A report. Everything that its answers rest on is in it: configurations of the models and figures of the machines.

    `requests`, `configs`, `machines`, `answers` and `plans` belong together by position and never change.
    """

    schema_version: int = SCHEMA_VERSION
    id: str
    url: str
    title: str
    notes: str
    baseline: int
    created_at: datetime
    edited_at: datetime | None
    plans: list[PlanSummary]
    requests: list[EstimateRequest]
    answers: list[Answer]
    configs: list[dict[str, Any]]
    machines: list[dict[str, Any]]


def parse_report(values: Any) -> ReportRequest:
    """The request for a report.

    Raises:
        Problem: a field breaks the contract, and which, in which plan.
    """
    outside = _validated(_Outside, values)
    check_count(len(outside.requests), "requests")
    requests = [in_plan(index, parse_wanted, given) for index, given in enumerate(outside.requests)]
    check_baseline(outside.baseline, len(requests))
    return ReportRequest(title=outside.title, notes=outside.notes, requests=requests, baseline=outside.baseline)


def parse_edit(values: Any) -> ReportEdit:
    """A change of title or notes.

    Raises:
        Problem: a field breaks the contract.
    """
    return _validated(ReportEdit, values)


def _validated(kind: type[_Document], values: Any) -> _Document:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise from_validation(error, kind) from error


def check_count(count: int, field: str) -> None:
    """Refuse too few or too many plans.

    Raises:
        Problem: there are too few or too many.
    """
    if not MINIMUM_PLANS <= count <= MAXIMUM_PLANS:
        raise Problem(
            "invalid_request",
            f"{count} {'plan is' if count == 1 else 'plans are'} no comparison of {MINIMUM_PLANS} to {MAXIMUM_PLANS}",
            field=field,
            value=count,
            accepted=f"{MINIMUM_PLANS} to {MAXIMUM_PLANS} plans",
        )


def check_baseline(baseline: int, count: int) -> None:
    """Refuse a baseline that is none of the plans.

    Raises:
        Problem: it is none.
    """
    if not 0 <= baseline < count:
        raise Problem(
            "invalid_request",
            "the baseline is none of the plans",
            field="baseline",
            value=baseline,
            accepted=f"a position from 0 to {count - 1}",
        )


def in_plan(index: int, make: Callable[[_From], _To], given: _From) -> _To:
    """What `make` makes of one plan's values; its problem names the plan."""
    try:
        return make(given)
    except Problem as problem:
        raise _of_plan(problem, index) from problem


def _of_plan(problem: Problem, index: int) -> Problem:
    document = problem.document
    place = f"requests.{index}"
    errors = [
        Violation(**{**violation.model_dump(), "field": f"{place}.{violation.field}"}) for violation in document.errors
    ]
    return Problem(
        document.code,
        f"Plan {LETTERS[index]}: {document.detail}",
        field=f"{place}.{document.field}" if document.field else place,
        value=document.value,
        accepted=document.accepted,
        status=document.status,
        errors=errors,
    )
