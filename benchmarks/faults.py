"""Kill -9 of web, worker and runner at random points, round after round: no job lost, none run twice at once, each in
one true state, no orphan process.

`python -m benchmarks.faults [ROUNDS] [SEED]` runs 50 rounds on SQLite, and on PostgreSQL where
TRAINFIT_TEST_POSTGRES_URL names one. `tests/app/jobs/test_faults.py` runs five.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import httpx2 as httpx
import psutil

from app.db.changes import FINAL
from app.jobs.tree import JOB_MARK, WORKER_MARK, marked
from tests.app.jobs.fleet import QUICK, ROOT, Fleet

ROUNDS = 50
JOBS = 3
KILLS = 2
PAUSE_SECONDS = 0.8
"""A kill falls anywhere in this time after the submission, or after the kill before."""
WEB = """
import sys
from pathlib import Path
import uvicorn
from pydantic import SecretStr
from app.db.rhythm import Rhythm
from app.jobs.confine import die_with_parent
from app.jobs.service import JobService
from app.main import create_app
from app.settings import Settings
url, data, port, parent = sys.argv[1:]
die_with_parent(int(parent))
application = create_app(Settings(data_dir=Path(data), database_url=SecretStr(url)))
application.state.jobs = JobService(application.state.plans, application.state.database, {rhythm!r})
uvicorn.run(application, port=int(port), log_level="critical")
"""
PLAN = {
    "kind": "measure",
    "request": {
        "model": {"config": {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
                             "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 256}},
        "machine": {"device": "this-machine"},
        "run": {"sequence_length": 16},
    },
}  # fmt: skip


class Arena:
    """A web process and a worker on one database, and a hand that kills them."""

    def __init__(self, url: str, directory: Path, rng: random.Random) -> None:
        self._fleet = Fleet(url, directory)
        self._directory = directory
        self._rng = rng
        self._port = _free_port()
        self._web = self._start_web()
        self._worker = self._fleet.start()
        self._answers: dict[str, str] = {}
        self._submitted = 0

    def round(self) -> tuple[list[str], list[str]]:
        """Whom the round killed, and what is wrong after it; nothing, if all is well."""
        self._answers.clear()
        self._submitted += JOBS
        keys = [uuid4().hex for _ in range(JOBS)]
        submitting = [threading.Thread(target=self._submit, args=(key,)) for key in keys]
        for thread in submitting:
            thread.start()
        killed = [self._kill() for _ in range(KILLS)]
        for thread in submitting:
            thread.join()
        return killed, list(self._wrong())

    def close(self) -> None:
        self._web.kill()
        self._web.wait()
        self._fleet.close()

    def _submit(self, key: str) -> None:
        """As a careful client does: the same key until there is an answer."""
        while True:
            try:
                answer = httpx.post(
                    f"http://127.0.0.1:{self._port}/api/v1/jobs", json=PLAN, headers={"idempotency-key": key},
                    trust_env=False, timeout=5,
                )  # fmt: skip
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            if answer.status_code == 202:
                self._answers[key] = answer.json()["id"]
                return
            time.sleep(0.05)

    def _kill(self) -> str:
        """Somebody, some time from now."""
        time.sleep(self._rng.uniform(0, PAUSE_SECONDS))
        victim = self._rng.choice(("web", "worker", "runner"))
        if victim == "web":
            self._web.kill()
            self._web.wait()
            self._web = self._start_web()
        elif victim == "worker":
            self._worker.send_signal(signal.SIGKILL)
            self._worker.wait()
            self._worker = self._fleet.start()
        else:
            for process in self._of_workers():
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        return victim

    def _start_web(self) -> subprocess.Popen[bytes]:
        words = [self._fleet.url, str(self._directory), str(self._port), str(os.getpid())]
        program = WEB.format(rhythm=QUICK)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen([sys.executable, "-c", program, *words], env=environment)

    def _of_workers(self) -> list[psutil.Process]:
        ids = [worker.id for worker, _, _ in self._fleet.workers.known()]
        return [process for worker_id in ids for process in marked(WORKER_MARK, worker_id)]

    def _wrong(self) -> Generator[str]:
        for key, job_id in self._answers.items():
            job = self._fleet.wait(job_id, seconds=60)
            final = [
                event.data["state"]
                for event in self._fleet.jobs.events(job_id)
                if event.event == "state" and event.data["state"] in FINAL
            ]
            if final != [job.state]:
                yield f"job {job_id} is {job.state} and said {final}"
            if job.state != "succeeded" and job.attempts < 3:
                yield f"job {job_id} is {job.state} after {job.attempts} attempts: {job.message}"
            if job.idempotency_key != key:
                yield f"job {job_id} is of another key"
        stored = self._fleet.jobs.find(limit=200).items
        if len(stored) != min(200, self._submitted):
            yield f"{len(stored)} jobs are stored, {self._submitted} were submitted"
        if (self._directory / "device.twice").exists():
            yield "two jobs used the device at once"
        left = [process for job in stored for process in marked(JOB_MARK, f"{job.id}:{job.attempts}")]
        if left or self._of_workers():
            yield f"processes are left: {left}"


def run_rounds(url: str, count: int, seed: int, directory: Path) -> Generator[tuple[list[str], list[str]]]:
    """For each round on an empty database: who was killed, what was wrong."""
    arena = Arena(url, directory, random.Random(seed))
    try:
        for _ in range(count):
            yield arena.round()
    finally:
        arena.close()


@contextmanager
def own_database(url: str, directory: Path) -> Generator[str]:
    """A database of our own."""
    if url.startswith("sqlite"):
        yield f"sqlite:///{directory / 'trainfit.sqlite'}"
        return
    import psycopg
    from psycopg.sql import SQL, Identifier

    name = f"trainfit_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    try:
        yield f"{url.rpartition('/')[0]}/{name}"
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def main(arguments: list[str]) -> int:
    """Run and report; 1 when anything was wrong."""
    count = int(arguments[0]) if arguments else ROUNDS
    seed = int(arguments[1]) if len(arguments) > 1 else random.randrange(10**6)
    urls = {"SQLite": "sqlite://", "PostgreSQL": os.environ.get("TRAINFIT_TEST_POSTGRES_URL", "")}
    failed = 0
    for name, url in urls.items():
        if not url:
            print(f"{name}: left out, TRAINFIT_TEST_POSTGRES_URL is not set")
            continue
        with tempfile.TemporaryDirectory() as directory, own_database(url, Path(directory)) as own:
            for number, (killed, wrong) in enumerate(run_rounds(own, count, seed, Path(directory)), 1):
                failed += bool(wrong)
                print(f"{name} {number}/{count} killed {', '.join(killed)}: {'; '.join(wrong) or 'well'}", flush=True)
    print(f"seed {seed}: {failed} rounds with something wrong")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
