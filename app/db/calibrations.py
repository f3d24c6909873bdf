"""Calibrations in the database: written once, by the end of a calibrating job, and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlmodel import col, select

from app.db.database import Database
from app.db.tables import Calibration


class CalibrationRepository:
    """Reads calibrations, newest first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ids(self, limit: int) -> Sequence[str]:
        """The newest calibrations' ids."""
        newest = select(Calibration.id).order_by(col(Calibration.created_at).desc(), col(Calibration.id).desc())
        with self._database.reading() as session:
            return session.exec(newest.limit(limit)).all()

    def document(self, calibration_id: str) -> Mapping[str, Any] | None:
        """A calibration with the id that it is stored under; None when there is none."""
        with self._database.reading() as session:
            row = session.get(Calibration, calibration_id)
            return None if row is None else {**row.document, "id": row.id}


def store_calibration(database: Database, document: Mapping[str, Any], *, created_at: datetime | None = None) -> None:
    """Keep a calibration that was made without a job, under its own id."""
    fields: dict[str, Any] = {} if created_at is None else {"created_at": created_at}
    row = Calibration(
        id=document["id"], device_class=document["device_class"], device_id=document["device_id"],
        document=dict(document), **fields,
    )  # fmt: skip
    with database.writing() as session:
        session.add(row)
