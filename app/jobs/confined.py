"""`python -m app.jobs.confined PARENT_PID MODULE ...`: confine this process, then run the module as a program.

An exec wrapper, because the worker has threads, and code between fork and exec of a process with threads is unsafe.
"""

from __future__ import annotations

import runpy
import sys

from app.jobs.confine import be_first_to_go, die_with_parent, leave_no_core


def main(arguments: list[str]) -> None:
    """Confine, run."""
    parent_pid, module, *rest = arguments
    die_with_parent(int(parent_pid))
    leave_no_core()
    be_first_to_go()
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
