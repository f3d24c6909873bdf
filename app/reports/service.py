"""Making, finding, editing and deleting reports. Pages, REST and command line all come through here."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic import TypeAdapter, ValidationError

from app import machines
from app.plans import Plan, Plans
from app.problems import Problem
from app.reports.comparison import Comparison, compare, summary_of
from app.reports.document import (
    MAXIMUM_TITLE,
    PlanSummary,
    ReportDocument,
    ReportEdit,
    ReportPage,
    ReportRequest,
    ReportSummary,
    in_plan,
    printable,
)
from app.reports.evidence import EvidenceBook, Wanted
from planner.contract import Answer, EstimateRequest
from planner.hardware import THIS_MACHINE, Machine

if TYPE_CHECKING:
    from app.db.opened import OpenedDatabase
    from app.db.reports import Filter, Listed, ReportRepository
    from app.db.tables import Job, Report

ID_BYTES: Final = 16
TOKEN_BYTES: Final = 32
TOKEN_PREFIX: Final = "tfr_"
FACETS: Final = ("model", "device", "method", "verdict", "tier")
MAXIMUM_LIST: Final = 10_000
"""The most reports in one CSV or JSON of a list."""

_MACHINES: Final = TypeAdapter(Machine)
_CONFIGS: Final = TypeAdapter(list[dict[str, Any]])


@dataclass(frozen=True, slots=True)
class Answered:
    """A plan with its machine and its answer: all that the answer rests on."""

    plan: Plan
    machine: Machine
    answer: Answer


class Reports:
    """The reports of this installation."""

    def __init__(
        self, plans: Plans, database: OpenedDatabase, job: Callable[[str], Job], machine_label: str = "This machine"
    ) -> None:
        self._plans = plans
        self.evidence = EvidenceBook(plans, job)
        self._database = database
        self._machine_label = machine_label

    # --- comparing ---------------------------------------------------------------------------------------------------

    def answer(self, wanted: Sequence[Wanted]) -> list[Answered]:
        """Each plan with its answer, on the tier of evidence that was asked for.

        Raises:
            Problem: a plan cannot be answered, and which.
        """
        return [in_plan(index, self.answered, one) for index, one in enumerate(wanted)]

    def answered(self, wanted: Wanted | Plan) -> Answered:
        """One plan with its answer.

        Raises:
            Problem: it cannot be answered.
        """
        book = self.evidence
        plan, machine, answer = book.estimated(wanted) if isinstance(wanted, Plan) else book.answered(wanted)
        return Answered(plan, machine, answer.model_copy(update={"request": plan.request}))

    def comparison(self, answered: Sequence[Answered], baseline: int) -> Comparison:
        """The plans side by side."""
        return compare([(self._summary(item), item.answer) for item in answered], baseline)

    def _summary(self, item: Answered) -> PlanSummary:
        model = item.plan.request.model.id or f"pasted {item.plan.config.get('model_type', 'model')}"
        return summary_of(item.answer, printable(model), printable(self._device(item.plan.request, item.machine)))

    def _device(self, request: EstimateRequest, machine: Machine) -> str:
        """The device's name; this machine's with what makes it this one."""
        if request.machine.device != THIS_MACHINE or request.machine.offer is not None:
            return machines.name_of(request.machine, self._machine_label)
        count = f"{machine.device_count} × " if machine.device_count > 1 else ""
        return f"{self._machine_label}: {count}{machine.device.display_name}"

    # --- keeping -----------------------------------------------------------------------------------------------------

    def create(self, wanted: ReportRequest) -> tuple[ReportDocument, str]:
        """A new report and the token that edits it.

        Raises:
            Problem: a plan cannot be answered, and which.
        """
        return self.keep(wanted, self.answer(wanted.requests))

    def keep(self, wanted: ReportRequest, answered: Sequence[Answered]) -> tuple[ReportDocument, str]:
        """The same of plans that are answered already."""
        token = TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
        summaries = [self._summary(item) for item in answered]
        title = wanted.title or title_of(summaries)
        report_id = _new_id()
        document = ReportDocument(
            id=report_id,
            url=f"/r/{report_id}",
            title=title,
            notes=wanted.notes,
            baseline=wanted.baseline,
            created_at=datetime.now(UTC),
            edited_at=None,
            plans=summaries,
            requests=[item.plan.request for item in answered],
            answers=[item.answer for item in answered],
            configs=_CONFIGS.validate_python([dict(item.plan.config) for item in answered]),
            machines=[_MACHINES.dump_python(item.machine, mode="json") for item in answered],
        )
        facets = [(name, value) for item in summaries for name, value in item.model_dump().items()]
        self._repository().add(_to_row(document, token), facets)
        return document, token

    def get(self, report_id: str) -> ReportDocument:
        """A report.

        Raises:
            Problem: there is none of this id.
        """
        return _to_document(self._row(report_id))

    def may_edit(self, report_id: str, token: str | None) -> bool:
        """Whether this is the token of the report's maker."""
        return token is not None and secrets.compare_digest(_digest(token), self._row(report_id).edit_token_sha256)

    def edit(self, report_id: str, edit: ReportEdit, token: str | None) -> ReportDocument:
        """The report with another title or other notes.

        Raises:
            Problem: there is none of this id, or the token is not its maker's.
        """
        report = self._owned(report_id, token)
        title = report.title if edit.title is None else (edit.title or title_of(_to_document(report).plans))
        notes = report.notes if edit.notes is None else edit.notes
        words = _words(title, notes, report.summary)
        self._repository().edit(report_id, title, notes, words, datetime.now(UTC))
        return self.get(report_id)

    def delete(self, report_id: str, token: str | None) -> None:
        """Delete a report.

        Raises:
            Problem: there is none of this id, or the token is not its maker's.
        """
        self._owned(report_id, token)
        self._repository().delete(report_id)

    def delete_as_operator(self, report_id: str) -> None:
        """Delete a report without its token, as whoever can write the database may.

        Raises:
            Problem: there is none of this id.
        """
        if not self._repository().delete(report_id):
            raise _not_there(report_id)

    def _owned(self, report_id: str, token: str | None) -> Report:
        report = self._row(report_id)
        if token is None or not secrets.compare_digest(_digest(token), report.edit_token_sha256):
            raise Problem(
                "not_the_maker",
                "only who made the report may change it",
                field="Authorization",
                accepted="Bearer and the edit_token that came with the report",
            )
        return report

    def _row(self, report_id: str) -> Report:
        report = self._repository().get(report_id) if _looks_like_an_id(report_id) else None
        if report is None:
            raise _not_there(report_id)
        return report

    # --- saved numbers and today's -----------------------------------------------------------------------------------

    def today(self, document: ReportDocument) -> list[Answer]:
        """What the current estimator says of the saved plans, with the saved configurations and machines.

        Raises:
            Problem: a plan can no longer be answered, and which.
        """
        kept = zip(document.requests, document.configs, document.machines, strict=True)
        return [in_plan(index, self._again, saved) for index, saved in enumerate(kept)]

    def _again(self, saved: tuple[EstimateRequest, Mapping[str, Any], Mapping[str, Any]]) -> Answer:
        request, config, figures = saved
        try:
            machine = _MACHINES.validate_python(figures)
        except ValidationError as error:
            raise Problem("cannot_repeat", "the saved machine lacks figures that are needed today") from error
        return self._plans.evaluate(Plan(request, config), advice=False, machine=machine)

    # --- lists -------------------------------------------------------------------------------------------------------

    def page(self, wanted: Filter, limit: int, cursor: str | None = None) -> ReportPage:
        """A part of the list, newest first.

        Raises:
            Problem: the cursor is none of ours.
        """
        try:
            found = self._repository().page(wanted, limit, cursor)
        except ValueError as error:
            raise Problem(
                "invalid_request",
                "the list has no such place",
                field="cursor",
                value=cursor,
                accepted="`next` of a page",
            ) from error
        return ReportPage(items=[_listed(item) for item in found.items], next=found.next_cursor)

    def count(self, wanted: Filter) -> int:
        """How many reports there are."""
        return self._repository().count(wanted)

    def facets(self, wanted: Filter) -> dict[str, list[tuple[str, int]]]:
        """What the list can be narrowed by, with how many reports have each value."""
        return self._repository().facets(wanted)

    def filter(self, words: str, facets: Mapping[str, str | None]) -> Filter:
        """What was asked of a list."""
        from app.db.reports import Filter

        chosen = {name: printable(value) for name, value in facets.items() if value}
        return Filter([printable(word) for word in words.casefold().split()], chosen)

    def _repository(self) -> ReportRepository:
        from app.db.reports import ReportRepository

        return ReportRepository(self._database())


def saved_comparison(document: ReportDocument, baseline: int) -> Comparison:
    """The saved plans side by side, with the saved numbers."""
    return compare(list(zip(document.plans, document.answers, strict=True)), baseline)


def _new_id() -> str:
    """128 random bits as 26 letters and digits that are hard to confuse."""
    return base64.b32encode(secrets.token_bytes(ID_BYTES)).decode().rstrip("=").lower()


def _looks_like_an_id(text: str) -> bool:
    return len(text) == 26 and text.isascii() and text.isalnum()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _not_there(report_id: str) -> Problem:
    return Problem("unknown_report", "there is no report of that id", field="id", value=report_id)


class _Named(Protocol):
    """Something with a model and a device."""

    @property
    def model(self) -> str: ...

    @property
    def device(self) -> str: ...


def title_of(plans: Sequence[_Named]) -> str:
    """A title for plans that got none."""
    models = list(dict.fromkeys(item.model.rpartition("/")[2] for item in plans))
    devices = list(dict.fromkeys(_short(item.device) for item in plans))
    *first, last = devices
    where = f"{len(devices)} machines" if len(devices) > 3 else f"{', '.join(first)} or {last}" if first else last
    what = models[0] if len(models) == 1 else f"{len(models)} models"
    return f"{what} on {where}"[:MAXIMUM_TITLE]


def _short(device: str) -> str:
    """A machine as a title calls it: of this machine and of an offer, not what is in it."""
    place, _, _ = device.partition(": ")
    return place.lower() if place in ("This machine", "This server") else place


def _words(title: str, notes: str, summary: Sequence[Mapping[str, str]]) -> str:
    lines = [title, notes, *(" ".join(item.values()).replace("_", " ") for item in summary)]
    return "\n".join(lines).casefold()


def _to_row(document: ReportDocument, token: str) -> Report:
    from app.db.tables import Report

    values = document.model_dump(mode="json")
    summary = values["plans"]
    return Report(
        id=document.id,
        title=document.title,
        notes=document.notes,
        baseline=document.baseline,
        edit_token_sha256=_digest(token),
        document={name: values[name] for name in _KEPT},
        summary=summary,
        words=_words(document.title, document.notes, summary),
        created_at=document.created_at,
    )


_KEPT: Final = ("schema_version", "requests", "answers", "configs", "machines")


def _to_document(report: Report) -> ReportDocument:
    return ReportDocument.model_validate(
        {
            **report.document,
            "id": report.id,
            "url": f"/r/{report.id}",
            "title": report.title,
            "notes": report.notes,
            "baseline": report.baseline,
            "plans": report.summary,
            "created_at": report.created_at,
            "edited_at": report.edited_at,
        }
    )


def _listed(item: Listed) -> ReportSummary:
    return ReportSummary.model_validate(
        {
            "id": item.id,
            "url": f"/r/{item.id}",
            "title": item.title,
            "plans": item.summary,
            "created_at": item.created_at,
            "edited_at": item.edited_at,
        }
    )
