"""The tables and their versions, on both kinds of database."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect
from sqlmodel import select

from app.db.database import Database, migrations_of
from app.db.tables import METADATA, Calibration

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    opened.migrate()
    yield opened
    opened.close()


def calibration(identifier: str, at: datetime) -> Calibration:
    return Calibration(id=identifier, device_class="cpu", device_id="cpu-generic", document={"n": 0}, created_at=at)


def test_the_migrations_lead_to_the_tables_of_the_code(database: Database) -> None:
    database.migrate()  # a second time changes nothing
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_the_migrations_can_be_taken_back(database: Database) -> None:
    with database.engine.begin() as connection:
        command.downgrade(migrations_of(connection), "base")
    assert inspect(database.engine).get_table_names() == ["alembic_version"]


def test_processes_that_start_together_migrate_once(database_url: str) -> None:
    code = f"from app.db.database import Database; Database({database_url!r}).migrate()"
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    opened = Database(database_url)
    assert "report" in inspect(opened.engine).get_table_names()
    opened.close()


def test_a_time_comes_back_in_utc(database: Database) -> None:
    noon = datetime(2026, 11, 24, 12, tzinfo=timezone(timedelta(hours=2)))
    with database.writing() as session:
        session.add(calibration("one", noon))
    with database.reading() as session:
        found = session.exec(select(Calibration)).one()
    assert found.created_at == noon
    assert found.created_at.tzinfo == UTC


def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(Exception, match="needs its zone"), database.writing() as session:
        session.add(calibration("one", datetime(2026, 11, 24)))


def test_writers_that_read_first_wait_for_one_another(database: Database) -> None:
    """Each adds one to what it read: none may read what another is about to change."""
    with database.writing() as session:
        session.add(calibration("one", datetime.now(UTC)))
    failed: list[BaseException] = []

    def add_one() -> None:
        try:
            for _ in range(5):
                with database.writing() as session:
                    found = session.exec(select(Calibration).with_for_update()).one()
                    found.document = {"n": found.document["n"] + 1}
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=add_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    with database.reading() as session:
        assert session.exec(select(Calibration)).one().document == {"n": 20}
