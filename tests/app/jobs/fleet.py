"""Real workers in real processes, a quick rhythm, and a pretended runner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from app.db.changes import FINAL
from app.db.database import Database
from app.db.jobs import JobStore, new_id
from app.db.rhythm import Rhythm
from app.db.tables import Job
from app.db.workers import WorkerStore
from app.jobs.spec import PROTOCOL, JobSpec

ROOT = Path(__file__).resolve().parents[3]
RUNNER = "tests.app.jobs.pretend_runner"
QUICK = Rhythm(
    beat_seconds=0.25, fence_seconds=2.0, dead_seconds=3.0, look_seconds=0.1, tidy_seconds=0.3, dispatch_seconds=0.05,
    recovery_seconds=3.0,
)  # fmt: skip
WORKER = """
import sys
from pathlib import Path
from app.db.rhythm import Rhythm
from app.jobs.confine import die_with_parent
from app.jobs.worker import WorkerProcess, work
url, data, name, protocol, parent = sys.argv[1:]
die_with_parent(int(parent))
worker = WorkerProcess(url, Path(data), name, rhythm={rhythm!r}, module={runner!r}, protocol=int(protocol))
work(worker, on_ready=lambda: print("ready", flush=True))
"""


def has_ended(job: Job) -> bool:
    """Whether a job is in a final state."""
    return job.state in FINAL


class Fleet:
    """The database of a test and the workers on it."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self.directory = directory
        self.database = Database(url)
        self.database.migrate()
        self.jobs = JobStore(self.database, QUICK)
        self.workers = WorkerStore(self.database, QUICK)
        self._processes: list[subprocess.Popen[str]] = []

    def start(
        self,
        name: str = "one",
        *,
        url: str | None = None,
        protocol: int = PROTOCOL,
        rhythm: Rhythm = QUICK,
        inside: Sequence[str] = (),
    ) -> subprocess.Popen[str]:
        """A worker that takes jobs when this returns; `inside` is a command that runs it."""
        program = WORKER.format(rhythm=rhythm, runner=RUNNER)
        words = [url or self.url, str(self.directory), name, str(protocol), str(os.getpid())]
        # Locks of devices are in the temporary folder: each test has devices of its own.
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.directory)}
        process = subprocess.Popen(
            [*inside, sys.executable, "-c", program, *words], env=environment, stdout=subprocess.PIPE, text=True
        )
        self._processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def submit(self, *do: Any, kind: str = "measure", key: str | None = None, **values: Any) -> str:
        """A job that does something; its id."""
        queue = values.pop("queue", "cpu")
        protocol = values.pop("protocol", PROTOCOL)
        spec = JobSpec.model_validate(
            {"kind": kind, "device_class": "cpu", "device_id": "this-cpu", "config": {"do": do}, **values}
        )
        job = Job(
            id=new_id(), kind=kind, state="queued", spec=spec.model_dump(mode="json"), device_class="cpu", queue=queue,
            protocol=protocol, idempotency_key=key, request_sha256=repr(do),
        )  # fmt: skip
        return self.jobs.submit(job)[0].id

    def wait(self, job_id: str, until: Callable[[Job], bool] | None = None, seconds: float = 30) -> Job:
        """The job once it is as wanted; by default, once it ended."""
        wanted = until or has_ended
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            job = self.jobs.get(job_id)
            if wanted(job):
                return job
            time.sleep(0.05)
        raise AssertionError(f"the job is {self.jobs.get(job_id)}")

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.communicate()
        self.database.close()
