"""Several ranks of one job: `torchrun` starts this module's process once for each, and each confines itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.jobs.spec import RESULT_NAME


@dataclass(frozen=True, slots=True)
class Rank:
    """Which of the ranks this process is, as torchrun says it in the environment."""

    number: int
    local: int
    count: int
    is_started: bool

    @classmethod
    def of_environment(cls) -> Rank:
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
        if not all(name in os.environ for name in names):
            return cls(0, 0, 1, is_started=False)
        return cls(*(int(os.environ[name]) for name in names), is_started=True)

    @contextmanager
    def joined(self, device_type: str) -> Generator[None]:
        """Inside, the ranks can send each other tensors."""
        if self.count == 1:
            yield
            return
        from planner.calibration.ranks import join, leave

        join(device_type, self.local)
        try:
            yield
        finally:
            leave()


def run_ranks(spec_file: Path, directory: Path, count: int) -> int:
    """Start the ranks and wait; 0 once one of them left a result.

    torchrun gives each rank a session of its own, so that a signal to ours misses them: each dies with torchrun, and
    torchrun with us, by their parent-death signals.
    """
    command = [
        sys.executable, "-m", "app.jobs.runner.agent", "--standalone", "--nnodes=1", f"--nproc-per-node={count}",
        "--max-restarts=0", "-m", "app.jobs.runner", str(spec_file), str(directory),
    ]  # fmt: skip
    status = subprocess.run(command, check=False).returncode
    return 0 if (directory / RESULT_NAME).exists() else status or 1
