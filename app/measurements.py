"""The measured runs of this installation: one file each in the data folder."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from planner.corpus import DocumentError, MeasuredRun, from_measurement, measured_runs, read_document
from planner.measurement import Measurement

FOLDER = "measurements"
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,119}\.json")


def document_of_job(values: Any, publisher: str) -> MeasuredRun:
    """A measuring job, as the API shows it, as a pending document; run where the job ran.

    Raises:
        DocumentError: it is no finished measuring job, or the machine cannot be described.
    """
    from app.detect import detect, to_machine
    from planner.hardware import THIS_MACHINE, resolve_machine

    job = _mapping(values, "the job")
    result = _mapping(job.get("result"), "result")
    try:
        measurement = Measurement.model_validate(result.get("measurement"))
        asked = measurement.request.machine
        detected = to_machine(detect()) if asked.device == THIS_MACHINE else None
        return from_measurement(
            measurement,
            document_id=f"job-{job.get('id')}",
            publisher=publisher,
            date=str(job.get("finished_at") or ""),
            machine=resolve_machine(asked, detected),
            stack=_versions(result.get("stack")),
        )
    except ValueError as error:
        raise DocumentError(f"no finished measuring job: {error}") from error


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DocumentError(f"{what} is no JSON object: expected is a measuring job as GET /api/v1/jobs/ID shows it")
    return cast("dict[str, Any]", value)


def _versions(stack: Any) -> dict[str, str]:
    """The stack of a job as plain text, packages among the rest."""
    if not isinstance(stack, dict):
        return {}
    found = cast("dict[str, Any]", stack)
    packages = found.get("packages")
    flat = {**found, **(cast("dict[str, Any]", packages) if isinstance(packages, dict) else {})}
    return {name: str(value)[:200] for name, value in flat.items() if isinstance(value, str | int)}


class Measurements:
    """Documents that were added here. An id is a file's name, so that two of the same id cannot be."""

    def __init__(self, data_directory: Path) -> None:
        self.folder = data_directory / FOLDER

    def all(self) -> Iterator[MeasuredRun]:
        """Every document, by id.

        Raises:
            DocumentError: a file in the folder is no document.
        """
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.iterdir()):
            if _FILE_NAME.fullmatch(path.name):
                yield self._read(path)

    def get(self, document_id: str) -> MeasuredRun | None:
        """The document of that id, stored here or coming with trainfit."""
        path = self.folder / f"{document_id}.json"
        if _FILE_NAME.fullmatch(path.name) and path.is_file():
            return self._read(path)
        return next((run for run in measured_runs() if run.id == document_id), None)

    def add(self, document: MeasuredRun, *, replace: bool = False) -> None:
        """Store a document; the file appears whole or not at all.

        Raises:
            DocumentError: the id is taken (see `check`).
        """
        self.check(document, replace=replace)
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, written = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(document.model_dump_json(exclude_unset=True, indent=1) + "\n")
        Path(written).replace(self.folder / f"{document.id}.json")

    def check(self, document: MeasuredRun, *, replace: bool = False) -> None:
        """Whether a document could be stored.

        Raises:
            DocumentError: the id is taken, here (unless it is to be replaced) or in what comes with trainfit.
        """
        if any(run.id == document.id for run in measured_runs()):
            raise DocumentError(f"id: {document.id} comes with trainfit; choose another")
        if (self.folder / f"{document.id}.json").exists() and not replace:
            raise DocumentError(f"id: {document.id} is stored already; --replace puts this one in its place")

    def _read(self, path: Path) -> MeasuredRun:
        try:
            return read_document(path.read_bytes())
        except DocumentError as error:
            raise DocumentError(f"{path}: {error}") from error
