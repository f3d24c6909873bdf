"""A job from the command line: submitted, given a worker where there is none, followed, cancelled by Ctrl-C."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from app.cli import check
from app.cli.console import Console
from app.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Generator

    from app.db.tables import Job
    from app.jobs.service import JobService, Order
    from app.settings import Settings
    from planner.measurement import Compared, Measurement

POLL_SECONDS: Final = 0.2
BAR_WIDTH: Final = 24
START_SECONDS: Final = 30.0


def run_job(order: Order, *, as_json: bool, console: Console) -> int:
    """Run an order to its end; the command's exit code."""
    from app.db.errors import DatabaseUnavailable
    from app.settings import Settings

    settings = Settings()
    try:
        with _service(settings) as jobs:
            job, _ = jobs.submit(order)
            console.complain(f"job {job.id}, {job.device_class}")
            with _worker_for(job, jobs, settings, console):
                job = _Follower(jobs, console).follow(job.id)
    except Problem as problem:
        check.show_problem(problem, as_json, console)
        return 2
    except DatabaseUnavailable as error:
        check.show_problem(Problem("database_unavailable", f"the database does not answer: {error}"), as_json, console)
        return 2
    show(job, as_json=as_json, console=console)
    return 0 if job.state == "succeeded" and job.failure_kind is None else 1


@contextmanager
def _service(settings: Settings) -> Generator[JobService]:
    from app.db.opened import OpenedDatabase
    from app.jobs.service import JobService
    from app.plans import Plans

    plans, database = Plans(settings), OpenedDatabase(settings)
    jobs = JobService(plans, database)
    try:
        yield jobs
    finally:
        jobs.close()
        plans.close()
        database.close()


@contextmanager
def _worker_for(job: Job, jobs: JobService, settings: Settings, console: Console) -> Generator[None]:
    """A worker of our own while no other takes the job; Ctrl-C before the job ends cancels it."""
    from app.jobs.local import LocalWorker

    worker = LocalWorker(settings) if job.state == "waiting_for_hardware" else None
    if worker is not None:
        console.complain("no worker answers: starting one here")
    try:
        yield
    except KeyboardInterrupt:
        jobs.cancel(job.id)
        console.complain("cancelling")
        _Follower(jobs, console).wait(job.id, POLL_SECONDS, START_SECONDS)
        raise
    finally:
        if worker is not None:
            worker.close()


class _Follower:
    """Shows what a job says: a line for each state and phase, a bar for its steps where somebody looks."""

    def __init__(self, jobs: JobService, console: Console) -> None:
        self._jobs = jobs
        self._console = console
        self._has_bar = False

    def follow(self, job_id: str) -> Job:
        """The job once it ended."""
        from app.jobs.spec import FINAL_STATES

        seen = 0
        while True:
            for event in self._jobs.events(job_id, seen):
                seen = event.number
                self._show(event.event, event.data)
                if event.event == "state" and event.data["state"] in FINAL_STATES:
                    self._end_bar()
                    return self._jobs.get(job_id)
            time.sleep(POLL_SECONDS)

    def wait(self, job_id: str, poll_seconds: float, at_most_seconds: float) -> None:
        """Until the job ended, without a word."""
        from app.jobs.spec import FINAL_STATES

        until = time.monotonic() + at_most_seconds
        while self._jobs.get(job_id).state not in FINAL_STATES and time.monotonic() < until:
            time.sleep(poll_seconds)

    def _show(self, name: str, data: dict[str, Any]) -> None:
        if name == "sample":
            self._bar(data)
        elif name == "phase":
            self._line(f"  {data['phase'].replace('_', ' ')} {data['message']}".rstrip())
        elif name == "state":
            self._line(f"{data['state'].replace('_', ' ')}: {data['message']}")
        else:
            self._line(f"  {data['message']}")

    def _line(self, text: str) -> None:
        self._end_bar()
        self._console.complain(text)

    def _bar(self, data: dict[str, Any]) -> None:
        from planner.units import format_seconds

        done = round(BAR_WIDTH * data["step"] / max(1, data["of"]))
        text = (
            f"  [{'#' * done}{'.' * (BAR_WIDTH - done)}] {data['step']}/{data['of']}  {format_seconds(data['seconds'])}"
        )
        if not self._console.error.isatty():
            return
        self._console.error.write(f"\r{text} {data.get('label', '')}\x1b[K")
        self._console.error.flush()
        self._has_bar = True

    def _end_bar(self) -> None:
        if self._has_bar:
            self._console.error.write("\n")
            self._has_bar = False


def show(job: Job, *, as_json: bool, console: Console) -> None:
    """What the job found, for programs or for people."""
    if as_json:
        from app.api.jobs import document_of

        console.write(document_of(job).model_dump_json(indent=2))
        return
    tone = "green" if job.state == "succeeded" and job.failure_kind is None else "red"
    console.write(console.paint(f"{job.state.replace('_', ' ')}: {job.message}", tone, "bold"))
    from app.web.jobs import measurement_of

    found = measurement_of(job)
    if found is not None:
        for line in _lines(found):
            console.write(line)
    elif job.result and job.result.get("calibration"):
        console.write(json.dumps(job.result.get("stack", {}), indent=2))


def _lines(found: Measurement) -> Iterator[str]:
    from app.web.jobs import label_of

    if not found.depth.is_whole:
        yield found.depth.how
    rows = [*found.rows, *found.phases, *found.terms]
    width = max((len(label_of(row)) for row in rows), default=0)
    yield f"{'':<{width}}  {'predicted':>14}  {'measured':>14}  ratio"
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        yield f"{label_of(row):<{width}}  {_amount(row, row.predicted):>14}  {_amount(row, row.measured):>14}  {ratio}"


def _amount(row: Compared, value: float | None) -> str:
    from planner.units import format_bytes, format_seconds

    if value is None:
        return "-"
    match row.unit:
        case "seconds":
            return format_seconds(value)
        case "bytes":
            return format_bytes(int(value))
        case _:
            return f"{value:,.4g}"
