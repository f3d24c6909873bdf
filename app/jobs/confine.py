"""What a process that we start does to itself before anything else: die with us, leave no core, go first."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import signal
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_WORST_OOM_SCORE = "1000"


def die_with_parent(parent_pid: int, with_signal: int = signal.SIGKILL) -> None:
    """prctl(2), PR_SET_PDEATHSIG; elsewhere than on Linux the parent's orderly end has to do.

    The signal comes when the parent's *thread* ends that started us; whoever starts us waits for us in that thread.
    """
    if not sys.platform.startswith("linux"):
        return
    _prctl(_PR_SET_PDEATHSIG, with_signal)
    if os.getppid() != parent_pid:  # it died before we asked
        os._exit(1)


def adopt_orphans() -> None:
    """prctl(2), PR_SET_CHILD_SUBREAPER: what outlives its parent below us becomes our child; see `reap_orphans`."""
    if sys.platform.startswith("linux"):
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def reap_orphans() -> None:
    """Forget adopted children that ended. To be called only while nobody waits for a child of his own."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def leave_no_core() -> None:
    """A core file of a process with a model in it fills a disk."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def be_first_to_go() -> None:
    """When memory is short, the kernel picks this process before any other."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(_WORST_OOM_SCORE)
    except OSError:  # no Linux
        pass


def _prctl(option: int, value: int) -> None:
    library = ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6", use_errno=True)
    library.prctl(option, value)
