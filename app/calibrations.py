"""Which calibration belongs to which machine: read from the database now and then, never while an estimate waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import ValidationError

from app.db.errors import DatabaseUnavailable
from planner.hardware import Machine, fingerprint_of
from planner.hardware.calibration import Calibration

if TYPE_CHECKING:
    from app.db.opened import OpenedDatabase

FRESH_SECONDS = 10.0
KEPT = 100


class CalibrationBook:
    """Knows the newest calibrations. What it read holds for some seconds; then a thread looks again.

    Where no database was ever made, none is made for the question, and SQLAlchemy stays unloaded.
    """

    def __init__(self, database: OpenedDatabase, fresh_seconds: float = FRESH_SECONDS) -> None:
        self._database = database
        self._fresh_seconds = fresh_seconds
        self._lock = threading.Lock()
        self._known: dict[str, Calibration] = {}
        self._newest: Sequence[Calibration] = ()
        self._read_at: float | None = None
        self._reader: threading.Thread | None = None

    def on(self, machine: Machine) -> Machine:
        """The machine with its newest calibration, or as it is."""
        found = next((each for each in self.newest() if belongs(each, machine)), None)
        return machine if found is None else replace(machine, calibration=found)

    def newest(self) -> Sequence[Calibration]:
        """The newest calibrations, as they were some seconds ago at most; the first question waits for the answer."""
        with self._lock:
            now = time.monotonic()
            if self._read_at is None:
                self._read()
            elif now - self._read_at > self._fresh_seconds and not self._is_reading():
                self._reader = threading.Thread(target=self._read, name="calibrations", daemon=True)
                self._reader.start()
            return self._newest

    def get(self, calibration_id: str) -> Calibration | None:
        """One calibration, however old; None when there is none of that id."""
        if not calibration_id.isprintable() or not self._database.is_there():  # PostgreSQL takes no NUL
            return None
        return self._known.get(calibration_id) or self._load(calibration_id)

    def close(self) -> None:
        """Give back what was opened."""
        if self._is_reading() and self._reader is not None:
            self._reader.join(timeout=5)
        self._database.close()

    def _is_reading(self) -> bool:
        return self._reader is not None and self._reader.is_alive()

    def _read(self) -> None:
        """Look for new ones. A database that does not answer leaves what is known."""
        if self._database.is_there():
            from app.db.calibrations import CalibrationRepository

            try:
                ids = CalibrationRepository(self._database()).ids(KEPT)
                found = [self._known.get(each) or self._load(each) for each in ids]
                self._newest = tuple(each for each in found if each is not None)
            except DatabaseUnavailable:
                pass
        self._read_at = time.monotonic()

    def _load(self, calibration_id: str) -> Calibration | None:
        """Read one; a document of another version is passed over, never guessed at."""
        from app.db.calibrations import CalibrationRepository

        document = CalibrationRepository(self._database()).document(calibration_id)
        if document is None:
            return None
        try:
            calibration = Calibration.model_validate(document)
        except ValidationError:
            return None
        self._known[calibration_id] = calibration
        return calibration


def belongs(calibration: Calibration, machine: Machine) -> bool:
    """Whether the calibration was made on this hardware: this very machine's, or that device of the catalogue."""
    if machine.is_this_machine or machine.device.kind == "cpu":
        return calibration.fingerprint == fingerprint_of(machine)
    return calibration.device_id == machine.device.id
