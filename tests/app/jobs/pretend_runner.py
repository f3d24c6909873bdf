"""A runner that does what its specification's `config` says, good or bad, and loads nothing heavy.

`{"steps": 3, "seconds": 0.01}` measures; other words: see `_WORDS`. It is started as the real one is.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TextIO


def write_line(text: str, stream: TextIO = sys.stdout) -> None:
    stream.write(text + "\n")
    stream.flush()


def say(event: str, **values: Any) -> None:
    write_line(json.dumps({"event": event, **values}))


def write(directory: Path, **values: Any) -> None:
    unfinished = directory / "unfinished"
    unfinished.write_text(json.dumps({"outcome": "succeeded", **values}))
    unfinished.replace(directory / "result.json")


def measure(directory: Path, steps: int, seconds: float) -> None:
    for phase in ("import", "build", "warm_up", "measure"):
        say("phase", phase=phase)
    for step in range(1, steps + 1):
        time.sleep(seconds)
        say("sample", step=step, of=steps, seconds=seconds, tokens_per_second=100 / seconds if seconds else None)
    write(directory, message="It was measured.", stack={"torch": "none"})


def hang(directory: Path) -> None:  # noqa: ARG001
    say("phase", phase="measure")
    time.sleep(600)


def family(directory: Path) -> None:
    """Children in sessions of their own, whose parent is gone: the kind that a process group misses."""
    program = "import subprocess, sys; subprocess.Popen(['sleep', '600'], start_new_session=True)"
    subprocess.run([sys.executable, "-c", program], check=True)
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    hang(directory)


def hoard(directory: Path, size_bytes: int) -> None:
    say("phase", phase="build")
    kept = bytearray(size_bytes)
    kept[::4096] = b"x" * len(kept[::4096])
    time.sleep(600)
    write(directory, message=str(len(kept)))


def long_result(directory: Path, size_bytes: int) -> None:
    """A result of some size, written by the real runner's own code."""
    from app.jobs.runner.run import _write  # pyright: ignore[reportPrivateUsage]
    from app.jobs.spec import JobResult

    say("phase", phase="write")
    _write(directory, JobResult(outcome="succeeded", message="x" * size_bytes))


def full_disk(directory: Path) -> None:
    """The result does not fit: the nearest that a test comes to a full disk without being root."""
    say("phase", phase="write")
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    write(directory, message="x" * 100_000)


def kill(directory: Path, number: int) -> None:  # noqa: ARG001
    say("phase", phase="measure")
    os.kill(os.getpid(), number)


def once(directory: Path, flag: str) -> None:
    """Is killed the first time, succeeds the second."""
    if not Path(flag).exists():
        Path(flag).touch()
        kill(directory, 9)
    measure(directory, 1, 0.0)


def end(directory: Path, status: int) -> None:  # noqa: ARG001
    write_line("the last words", sys.stderr)
    sys.exit(status)


def fail(directory: Path, kind: str) -> None:
    write(directory, outcome="failed", failure_kind=kind, message=f"it is {kind}")


def babble(directory: Path) -> None:
    write_line("no event")
    write_line("x" * 200_000)
    write_line("beside the protocol", sys.stderr)
    measure(directory, 1, 0.0)


def half(directory: Path) -> None:
    (directory / "result.json").write_text('{"outcome": ')


def marked(directory: Path, path: str, seconds: float) -> None:
    """Use a device: leave a trace of each run, and of another that uses it at the same time."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        Path(path).with_suffix(".twice").touch()
        raise
    os.write(descriptor, b"x")
    measure(directory, 5, seconds / 5)


def calibrate(directory: Path) -> None:
    say("phase", phase="calibrate")
    write(directory, message="calibrated", calibration={"schema_version": 1, "curves": {}})


def verified(directory: Path, flag: str) -> None:
    """Is in the middle of it the first time, has an answer the second."""
    say("phase", phase="trace", message="4 of 32 layers")
    if not Path(flag).exists():
        Path(flag).touch()
        time.sleep(600)
    spec = json.loads((directory / "spec.json").read_text())
    write(directory, message="It fits.", verification=spec["config"]["answer"])


def look(directory: Path) -> None:
    write(directory, stack={"environment": dict(os.environ), "parent": os.getppid()})


_WORDS: dict[str, Any] = {
    word.__name__: word
    for word in (
        measure, hang, family, hoard, full_disk, long_result, kill, once, end, fail, babble, half, marked, calibrate,
        look, verified
    )
}  # fmt: skip


def main() -> None:
    spec_file, directory = sys.argv[1:]
    spec = json.loads(Path(spec_file).read_text())
    if spec["kind"] == "calibrate":
        calibrate(Path(directory))
        return
    # A plan of the real contract uses the one device of its data folder.
    device = str(Path(directory).parents[2] / "device")
    word, *rest = spec["config"].get("do", ["marked", device, 0.3])
    _WORDS[word](Path(directory), *rest)


if __name__ == "__main__":
    main()
