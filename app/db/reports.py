"""Saved reports in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, and_, delete, func, or_, update
from sqlalchemy.orm import defer
from sqlmodel import col, select

from app.db.database import Database
from app.db.tables import Report, ReportFacet

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which reports: every word occurs in them, and one of their plans has each facet's value."""

    words: Sequence[str] = ()
    facets: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Listed:
    """A report in a list, without its answers."""

    id: str
    title: str
    notes: str
    summary: Sequence[Mapping[str, str]]
    created_at: datetime
    edited_at: datetime | None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, newest first. `next_cursor` is where the next part begins."""

    items: Sequence[Listed]
    next_cursor: str | None


class ReportRepository:
    """Adds, finds, edits and deletes reports."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, report: Report, facets: Sequence[tuple[str, str]]) -> None:
        """Store a report with what a list can be narrowed by."""
        with self._database.writing() as session:
            session.add(report)
            session.flush()
            session.add_all(ReportFacet(report_id=report.id, facet=name, value=value) for name, value in set(facets))

    def get(self, report_id: str) -> Report | None:
        """One report with its answers."""
        with self._database.reading() as session:
            return session.get(Report, report_id)

    def edit(self, report_id: str, title: str, notes: str, words: str, at: datetime) -> None:
        """Give a report another title and other notes."""
        changed = update(Report).where(col(Report.id) == report_id)
        with self._database.writing() as session:
            session.exec(changed.values(title=title, notes=notes, words=words, edited_at=at))

    def delete(self, report_id: str) -> bool:
        """Delete a report; False when there was none."""
        with self._database.writing() as session:
            gone = session.exec(delete(Report).where(col(Report.id) == report_id).returning(col(Report.id)))
            return gone.first() is not None

    def page(self, wanted: Filter, limit: int, cursor: str | None = None) -> Page:
        """Reports after the cursor.

        Raises:
            ValueError: the cursor is none of ours.
        """
        without_answers = defer(Report.document)  # pyright: ignore[reportArgumentType]
        statement = select(Report).options(without_answers).where(*_conditions(wanted))
        if cursor is not None:
            at, after = _place(cursor)
            earlier = and_(col(Report.created_at) == at, col(Report.id) < after)
            statement = statement.where(or_(col(Report.created_at) < at, earlier))
        ordered = statement.order_by(col(Report.created_at).desc(), col(Report.id).desc()).limit(limit + 1)
        with self._database.reading() as session:
            found = [_listed(report) for report in session.exec(ordered)]
        more = len(found) > limit
        return Page(found[:limit], _cursor(found[limit - 1]) if more else None)

    def count(self, wanted: Filter) -> int:
        """How many reports there are."""
        with self._database.reading() as session:
            return session.exec(select(func.count(col(Report.id))).where(*_conditions(wanted))).one()

    def facets(self, wanted: Filter) -> dict[str, list[tuple[str, int]]]:
        """facet -> its values among these reports with how many have each, most first."""
        among = select(Report.id).where(*_conditions(wanted))
        statement = (
            select(ReportFacet.facet, ReportFacet.value, func.count())
            .where(col(ReportFacet.report_id).in_(among))
            .group_by(col(ReportFacet.facet), col(ReportFacet.value))
            .order_by(func.count().desc(), col(ReportFacet.value))
        )
        found: dict[str, list[tuple[str, int]]] = {}
        with self._database.reading() as session:
            for name, value, count in session.exec(statement):
                found.setdefault(name, []).append((value, count))
        return found


def _listed(report: Report) -> Listed:
    return Listed(report.id, report.title, report.notes, report.summary, report.created_at, report.edited_at)


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    words = [col(Report.words).contains(word, autoescape=True) for word in wanted.words]
    return words + [_has(name, value) for name, value in wanted.facets.items()]


def _has(name: str, value: str) -> ColumnElement[bool]:
    having = select(ReportFacet.report_id).where(col(ReportFacet.facet) == name, col(ReportFacet.value) == value)
    return col(Report.id).in_(having)


def _cursor(last: Listed) -> str:
    return f"{(last.created_at - _EPOCH) // _MICROSECOND}-{last.id}"


def _place(cursor: str) -> tuple[datetime, str]:
    microseconds, _, report_id = cursor.partition("-")
    if not microseconds.isascii() or not microseconds.isdecimal() or len(microseconds) > 17:
        raise ValueError("the cursor is none of ours")
    return _EPOCH + int(microseconds) * _MICROSECOND, report_id
