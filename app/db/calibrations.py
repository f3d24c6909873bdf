"""Calibrations in the database: written once, with the end of a calibrating job (app/db/jobs.py), and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
