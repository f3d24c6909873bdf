"""The repository of reports, on both kinds of database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import select

from app.db.database import Database
from app.db.reports import Filter, ReportRepository
from app.db.tables import Report, ReportFacet

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def reports(database: Database) -> ReportRepository:
    return ReportRepository(database)


def report(identifier: str, title: str = "", minutes: int = 0) -> Report:
    return Report(
        id=identifier,
        title=title,
        notes="",
        baseline=0,
        edit_token_sha256="0" * 64,
        document={"answers": [{"memory": 2**60}], "text": "a\0b"},
        summary=[{"model": "m", "verdict": "fits"}],
        words=title.casefold(),
        created_at=NOON + timedelta(minutes=minutes),
    )


def test_a_report_comes_back_as_it_was(reports: ReportRepository) -> None:
    reports.add(report("a", "Straße"), [("model", "m"), ("model", "m")])
    found = reports.get("a")
    assert found is not None
    assert (found.title, found.document, found.created_at) == ("Straße", report("a").document, NOON)
    assert found.edited_at is None
    assert reports.get("b") is None


def test_title_and_notes_change_and_nothing_else(reports: ReportRepository) -> None:
    reports.add(report("a", "old"), [])
    reports.add(report("b", "other"), [])
    reports.edit("a", "new", "why", "new why", NOON + timedelta(hours=1))
    found, other = reports.get("a"), reports.get("b")
    assert found is not None
    assert other is not None
    assert (found.title, found.notes, found.edited_at) == ("new", "why", NOON + timedelta(hours=1))
    assert (found.document, found.created_at) == (report("a").document, NOON)
    assert other.title == "other"
    assert [item.id for item in reports.page(Filter(words=["why"]), 10).items] == ["a"]


def test_a_deleted_report_takes_its_facets_along(reports: ReportRepository, database: Database) -> None:
    reports.add(report("a"), [("device", "t4")])
    assert reports.delete("a")
    assert not reports.delete("a")
    assert reports.get("a") is None
    with database.reading() as session:
        assert session.exec(select(ReportFacet)).all() == []


def test_lists_are_newest_first_and_go_on_where_they_stopped(reports: ReportRepository) -> None:
    for number in range(7):
        reports.add(report(f"r{number}", minutes=number // 2), [])
    seen: list[str] = []
    cursor = None
    while True:
        page = reports.page(Filter(), 3, cursor)
        seen += [item.id for item in page.items]
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
    assert seen == ["r6", "r5", "r4", "r3", "r2", "r1", "r0"]
    assert reports.count(Filter()) == 7


def test_a_page_that_ends_the_list_has_no_next(reports: ReportRepository) -> None:
    reports.add(report("a"), [])
    assert reports.page(Filter(), 1).next_cursor is None


@pytest.mark.parametrize("cursor", ["", "-", "x-a", "²-a", "9" * 18 + "-a", "-1-a"])
def test_a_foreign_cursor_is_refused(reports: ReportRepository, cursor: str) -> None:
    with pytest.raises(ValueError, match="none of ours"):
        reports.page(Filter(), 1, cursor)


def test_every_word_must_occur_and_signs_mean_themselves(reports: ReportRepository) -> None:
    reports.add(report("a", "100% Ärger mit_Speicher"), [])
    reports.add(report("b", "1000 aerger"), [])

    def found(*words: str) -> list[str]:
        return [item.id for item in reports.page(Filter(words=words), 10).items]

    assert found("100") == ["b", "a"]
    assert found("100%") == ["a"]
    assert found("t_s") == ["a"]
    assert found("ärger", "100") == ["a"]
    assert found("ärger", "1000") == []
    assert found("'; drop table report; --") == []


def test_facets_narrow_and_are_counted(reports: ReportRepository) -> None:
    reports.add(report("a"), [("device", "t4"), ("device", "4090"), ("verdict", "fits")])
    reports.add(report("b"), [("device", "t4"), ("verdict", "tight")])
    assert reports.facets(Filter()) == {
        "device": [("t4", 2), ("4090", 1)],
        "verdict": [("fits", 1), ("tight", 1)],
    }
    narrowed = Filter(facets={"device": "t4", "verdict": "tight"})
    assert [item.id for item in reports.page(narrowed, 10).items] == ["b"]
    assert reports.facets(narrowed) == {"device": [("t4", 1)], "verdict": [("tight", 1)]}
    assert reports.count(Filter(facets={"device": "4090", "verdict": "tight"})) == 0
