"""torchrun in a process that dies with the one that started it."""

from __future__ import annotations

import runpy

from app.jobs.runner.confine import confine

if __name__ == "__main__":
    confine()
    runpy.run_module("torch.distributed.run", run_name="__main__")
