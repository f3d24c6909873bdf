"""What a job's process does to itself before anything else, so that it can outlive nobody and harm little."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_WORST_OOM_SCORE = "1000"
STATUS = Path("/proc/self/status")


def die_with_parent() -> None:
    """prctl(2), PR_SET_PDEATHSIG: the kernel kills this process when its parent's thread that started it ends."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    library = ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6", use_errno=True)
    library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # A rank's parent is torchrun, never the first process; the job's own may be, in a container.
    if os.getppid() != parent or (parent == 1 and "RANK" in os.environ):
        os._exit(1)


def confine() -> None:
    """Die with the parent, be a session of one's own, leave no core file, be the first whom the kernel picks."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's
    if hasattr(os, "setsid") and os.getpid() != os.getsid(0):
        os.setsid()
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        Path("/proc/self/oom_score_adj").write_text(_WORST_OOM_SCORE, encoding="ascii")
    except (ImportError, OSError):  # no Linux
        pass


def cap_data(memory_cap_bytes: int) -> None:
    """Let allocations fail once the process would hold more than this, so that running out can be reported.

    RLIMIT_DATA counts private writable mappings (getrlimit(2)). What the libraries reserved but never touched is
    granted on top; the engine's watch over resident memory stays the last word.
    """
    import resource

    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("VmData", "VmRSS"))}
    limit = sizes["VmData"] + max(0, memory_cap_bytes - sizes["VmRSS"])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
