"""A worker on this machine: as the process that we are, or as a child that ends with us."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import app

if TYPE_CHECKING:
    from app.settings import Settings

LOCAL_NAME: Final = "local"
STOP_SECONDS: Final = 15.0


def run_worker(
    database_url: str,
    data_dir: Path,
    name: str,
    say: Callable[[str], None],
    complain: Callable[[str], None],
    parent_pid: int | None = None,
) -> int:
    """Be a worker until told to stop; the exit status."""
    if sys.platform == "win32":
        complain("error: a worker needs Linux or macOS; on Windows use WSL")
        return 2
    from app.jobs.confine import die_with_parent
    from app.jobs.identity import NameTaken
    from app.jobs.worker import WorkerProcess, work

    if parent_pid is not None:
        die_with_parent(parent_pid, signal.SIGTERM)
    try:
        worker = WorkerProcess(database_url, data_dir, name)
    except NameTaken:
        complain(f"error: a worker named {name} runs on this data folder already; give this one another --name")
        return 2
    except ValueError as error:
        complain(f"error: {error}")
        return 2
    classes = ", ".join(worker.queues[:-1])
    work(worker, on_ready=lambda: say(f"worker {name} takes jobs for {classes} from {shown_url(database_url)}"))
    return 0


def shown_url(url: str) -> str:
    """A database's address without its password."""
    return re.sub(r"(://[^:/@]+):[^@]*@", r"\1:***@", url)


class LocalWorker:
    """A worker as our child. It ends when we do, whether or not we can tell it to; call this from the main thread."""

    def __init__(self, settings: Settings, name: str = LOCAL_NAME) -> None:
        words = ["--data-dir", str(settings.data_dir), "--name", name, "--with-parent", str(os.getpid())]
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(Path(app.__file__).parent.parent), *filter(None, [environment.get("PYTHONPATH")])]
        )
        if settings.database_url is not None:
            # By the environment, because everybody can read a command line.
            environment["TRAINFIT_DATABASE_URL"] = settings.database_url.get_secret_value()
        program = "import sys; from app.cli import main; sys.exit(main())"
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", program, "worker", *words], env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def ended(self) -> int | None:
        """Its exit status, None while it lives."""
        return self._process.poll()

    def close(self) -> None:
        """Let it put back what it runs, and end."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
