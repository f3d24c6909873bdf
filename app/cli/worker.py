"""`trainfit worker`: a process on the machine that has the hardware, which takes jobs."""

from __future__ import annotations

import argparse
import platform
from pathlib import Path
from typing import Any

from app.cli.console import Console

EPILOG = """\
A worker serves the device classes of its machine: `cpu`, and one for each kind of accelerator, each card apart; its own
CUDA_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES and ZE_AFFINITY_MASK leave some out. It beats every five
seconds; `/workers` shows it. SIGTERM puts its running job back and ends it. To join a fleet:

  trainfit worker --database-url postgresql://user@host/database --name lab-3"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which database, and under which name."""
    parser.add_argument("--database-url", help="database of the installation (default: SQLite in the data folder)")
    parser.add_argument("--data-dir", type=Path, help="folder for what is stored")
    parser.add_argument("--name", help="name of this worker, one of its own on each data folder (default: the host's)")
    parser.add_argument("--with-parent", type=int, metavar="PID", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Work until told to stop."""
    from app.db.opened import url_of
    from app.jobs.local import run_worker
    from app.settings import Settings

    given: dict[str, Any] = {
        name: value for name in ("database_url", "data_dir") if (value := getattr(arguments, name)) is not None
    }
    settings = Settings(**given)
    name = arguments.name or platform.node() or "worker"
    return run_worker(url_of(settings), settings.data_dir, name, console.write, console.complain, arguments.with_parent)
