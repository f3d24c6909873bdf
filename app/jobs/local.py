"""A worker on this machine: as the process that we are, or as a child that ends with us."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import app

if TYPE_CHECKING:
    from app.settings import Settings

LOCAL_NAME: Final = "local"
STOP_SECONDS: Final = 15.0
RESTART_SECONDS: Final = 1.0
MOST_RESTART_SECONDS: Final = 60.0
DONE, REFUSED = 0, 2
"""Exit statuses after which a worker is not started again: it was told to stop, or may not start."""


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
        return REFUSED
    from app.jobs.confine import die_with_parent
    from app.jobs.identity import NameTaken
    from app.jobs.worker import WorkerProcess, work

    if parent_pid is not None:
        die_with_parent(parent_pid, signal.SIGTERM)
    try:
        worker = WorkerProcess(database_url, data_dir, name)
    except NameTaken:
        if parent_pid is not None:  # another trainfit on this folder started it; it takes our jobs too
            return DONE
        complain(f"error: a worker named {name} runs on this data folder already; give this one another --name")
        return REFUSED
    except ValueError as error:
        complain(f"error: {error}")
        return REFUSED
    classes = ", ".join(worker.queues[:-1])
    work(worker, on_ready=lambda: say(f"worker {name} takes jobs for {classes} from {shown_url(database_url)}"))
    return DONE


def shown_url(url: str) -> str:
    """A database's address without its password."""
    return re.sub(r"(://[^:/@]+):[^@]*@", r"\1:***@", url)


class LocalWorker:
    """A worker as our child, started again when it dies. It ends when we do, whether or not we can tell it to."""

    def __init__(self, settings: Settings, name: str = LOCAL_NAME) -> None:
        self._command, self._environment = _command(settings, name)
        self._closing = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        # One thread starts and waits: the kernel ends the child when the thread that started it ends.
        self._keeper = threading.Thread(target=self._keep, name="local-worker", daemon=True)
        self._keeper.start()

    def close(self) -> None:
        """Let it put back what it runs, and end."""
        self._closing.set()
        if self._process is not None:
            self._process.terminate()
        self._keeper.join(STOP_SECONDS)
        if self._process is not None and self._keeper.is_alive():
            self._process.kill()
            self._keeper.join()

    def _keep(self) -> None:
        pause_seconds = RESTART_SECONDS
        while not self._closing.is_set():
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
            if self._closing.is_set():  # told so while it was being started
                self._process.terminate()
            if self._process.wait() in (DONE, REFUSED):
                return
            self._closing.wait(pause_seconds)
            pause_seconds = min(2 * pause_seconds, MOST_RESTART_SECONDS)


def _command(settings: Settings, name: str) -> tuple[list[str], dict[str, str]]:
    words = ["--data-dir", str(settings.data_dir), "--name", name, "--with-parent", str(os.getpid())]
    path = [str(Path(app.__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    if settings.database_url is not None:
        # By the environment, because everybody can read a command line.
        environment["TRAINFIT_DATABASE_URL"] = settings.database_url.get_secret_value()
    program = "import sys; from app.cli import main; sys.exit(main())"
    return [sys.executable, "-P", "-c", program, "worker", *words], environment
