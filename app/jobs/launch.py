"""One run of a job's process: started, listened to, watched, and ended together with everything that it started.

Nothing here knows a database or an engine: what the process says goes to a guard, and the guard says whether to go on.
"""

from __future__ import annotations

import errno
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

import app
from app.jobs.devices import visible
from app.jobs.isolated import KEPT_VARIABLES
from app.jobs.spec import RESULT_NAME, JobEventDocument, JobResult, JobSpec
from app.jobs.tree import JOB_MARK, WORKER_MARK, end_marked, family, resident_bytes

RUNNER: Final = "app.jobs.runner"
SPEC_NAME: Final = "spec.json"
LOG_NAME: Final = "stderr.txt"
TICK_SECONDS: Final = 0.1
MEMORY_SECONDS: Final = 0.25
FAMILY_SECONDS: Final = 2.0
"""How often to look for new processes below the job's: it means reading all of /proc."""
HEAR_OUT_SECONDS: Final = 5.0
"""How long to listen to what is left after the end; only what got away could still hold the pipe then."""
HEAR_OUT_PAUSE_SECONDS: Final = 0.01
MAXIMUM_LINE_BYTES: Final = 64 * 2**10
MAXIMUM_LOG_BYTES: Final = 2**20
MAXIMUM_RESULT_BYTES: Final = 8 * 2**20
TAIL_BYTES: Final = 4 * 2**10
BATCH: Final = 500

DEVICE_VARIABLES: Final = ("HSA_OVERRIDE_GFX_VERSION",)
"""How the worker's accelerators are to be used; which of them a job sees, its launch says."""
OFFLINE_VARIABLES: Final = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONUNBUFFERED": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}

Order = Literal["go_on", "cancel", "superseded", "interrupt", "unreachable"]
Events = Sequence[Mapping[str, Any]]
Guard = Callable[[Events], Order]
OutcomeKind = Literal[
    "result", "cancelled", "superseded", "interrupted", "unreachable", "timed_out", "out_of_memory", "vanished",
    "no_room",
]  # fmt: skip
_ENDED_BY: Mapping[Order, OutcomeKind] = {
    "cancel": "cancelled",
    "superseded": "superseded",
    "interrupt": "interrupted",
    "unreachable": "unreachable",
}
_EVENTS: Final[TypeAdapter[Any]] = TypeAdapter(JobEventDocument)


class Outcome(BaseModel):
    """How one run ended. `detail` is a sentence for people where there is no result."""

    model_config = ConfigDict(frozen=True)

    kind: OutcomeKind
    result: JobResult | None = None
    detail: str = ""
    is_infrastructure: bool = Field(default=False, description="whether another attempt may go better")
    phase_seconds: dict[str, float] = Field(default_factory=dict[str, float])


class Launch(BaseModel):
    """What to run and where."""

    model_config = ConfigDict(frozen=True)

    spec: JobSpec
    directory: Path
    mark: str = Field(description="what marks the processes of this run and of no other")
    worker_mark: str
    locks: list[int] = Field(default_factory=list[int], description="descriptors that the process holds on to")
    devices: dict[str, str] = Field(
        default_factory=lambda: visible([]), description="variables that show the process its devices and no other"
    )
    memory_cap_bytes: int
    module: str = RUNNER
    look_seconds: float = 0.4


def run(launch: Launch, guard: Guard) -> Outcome:
    """Run to the end, whoever brings it about. When this returns, nothing of the job is alive."""
    try:
        launch.directory.mkdir(parents=True, exist_ok=True)
        (launch.directory / SPEC_NAME).write_text(launch.spec.model_dump_json(), encoding="utf-8")
        (launch.directory / RESULT_NAME).unlink(missing_ok=True)
    except OSError as error:
        detail = f"its folder cannot be written: {error.strerror or error}"
        return Outcome(kind="no_room", detail=detail, is_infrastructure=True)
    return _Run(launch, guard).to_the_end()


class _Run:
    """The state of one run while it lasts."""

    def __init__(self, launch: Launch, guard: Guard) -> None:
        self._launch = launch
        self._guard = guard
        self._said: queue.Queue[dict[str, Any]] = queue.Queue(maxsize=2 * BATCH)
        self._tail = bytearray()
        self._phases = _Phases()
        self._kills_before = _kernel_kills()

    def to_the_end(self) -> Outcome:
        # Between here and `finally` nothing may return without ending the tree: cancellation arrives in many ways.
        process = self._start()
        listeners = [
            threading.Thread(target=self._listen, args=(process.stdout,), daemon=True),
            threading.Thread(target=self._keep_log, args=(process.stderr,), daemon=True),
        ]
        take: Callable[[Events], object] = len  # after a fault nobody wants the rest, but whoever says it must not hang
        try:
            for listener in listeners:
                listener.start()
            ended = self._watch(process)
            take = self._guard
        finally:
            self._end(process)
            self._hear_out(listeners, take)
        outcome = ended or self._after_its_own_end(process.returncode)
        return outcome.model_copy(update={"phase_seconds": self._phases.seconds()})

    def _start(self) -> subprocess.Popen[bytes]:
        launch = self._launch
        arguments = [str(launch.directory / SPEC_NAME), str(launch.directory)]
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "app.jobs.confined", str(os.getpid()), launch.module, *arguments],
            env=_environment(launch), pass_fds=launch.locks, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def _watch(self, process: subprocess.Popen[bytes]) -> Outcome | None:
        """Until the process ended by itself (None), or had to be ended."""
        started = time.monotonic()
        next_look = next_weighing = next_family = started
        pids = [process.pid]
        while process.poll() is None:
            now = time.monotonic()
            if now - started > self._launch.spec.deadline_seconds:
                return Outcome(kind="timed_out", detail=f"no result within {self._launch.spec.deadline_seconds:g} s")
            if now >= next_family:
                pids, next_family = family(process.pid), now + FAMILY_SECONDS
            if now >= next_weighing:
                next_weighing = now + MEMORY_SECONDS
                held_bytes = resident_bytes(pids)
                if held_bytes > self._launch.memory_cap_bytes:
                    return self._over_its_cap(held_bytes)
            if now >= next_look:
                next_look = now + self._launch.look_seconds
                order = self._guard(self._heard())
                if order != "go_on":
                    return Outcome(kind=_ENDED_BY[order])
            try:
                process.wait(TICK_SECONDS)
            except subprocess.TimeoutExpired:
                continue
        return None

    def _over_its_cap(self, held_bytes: int) -> Outcome:
        cap_bytes = self._launch.memory_cap_bytes
        text = f"the process reached {held_bytes / 2**30:.2f} GiB; its cap is {cap_bytes / 2**30:.2f} GiB"
        return Outcome(kind="out_of_memory", detail=text)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """The whole tree, also what left its session or lost its parent."""
        with suppress(ProcessLookupError, PermissionError):  # it ended, and so did its group
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        end_marked(JOB_MARK, self._launch.mark)

    def _heard(self) -> list[dict[str, Any]]:
        heard: list[dict[str, Any]] = []
        while len(heard) < BATCH:
            try:
                heard.append(self._said.get_nowait())
            except queue.Empty:
                break
        return heard

    def _hear_out(self, listeners: Sequence[threading.Thread], take: Callable[[Events], object]) -> None:
        """Pass on all that was said until the listeners come to its end; a full queue would hold them up."""
        until = time.monotonic() + HEAR_OUT_SECONDS
        while any(listener.is_alive() for listener in listeners) and time.monotonic() < until:
            heard = self._heard()
            if heard:
                take(heard)
            else:
                time.sleep(HEAR_OUT_PAUSE_SECONDS)
        while heard := self._heard():
            take(heard)

    def _listen(self, stream: IO[bytes]) -> None:
        """Each line is an event; what is none is a line for the log."""
        with stream:
            for line in iter(lambda: stream.readline(MAXIMUM_LINE_BYTES), b""):
                event = _event_of(line)
                if event is not None:
                    self._phases.note(event)
                    self._said.put(event)

    def _keep_log(self, stream: IO[bytes]) -> None:
        """What is said beside the protocol goes to a file, up to a size; its end is kept for the message."""
        written = 0
        with stream, open(self._launch.directory / LOG_NAME, "wb", buffering=0) as file:
            while part := os.read(stream.fileno(), 2**16):
                self._tail = (self._tail + part)[-TAIL_BYTES:]
                try:
                    written += file.write(part[: max(0, MAXIMUM_LOG_BYTES - written)]) or 0
                except OSError:  # the disk is full: its end is in memory
                    written = MAXIMUM_LOG_BYTES

    def _after_its_own_end(self, status: int) -> Outcome:
        try:
            result = _read_result(self._launch.directory / RESULT_NAME)
        except FileNotFoundError:
            return self._without_result(status)
        except (OSError, ValueError) as error:
            detail = f"its result cannot be read: {' '.join(str(error).split())[:200]}"
            return Outcome(kind="vanished", detail=detail, is_infrastructure=True)
        return Outcome(kind="result", result=result.model_copy(update={"message": storable(result.message)}))

    def _without_result(self, status: int) -> Outcome:
        last_words = self._last_words()
        if status == -signal.SIGKILL and _kernel_kills() > self._kills_before:
            return Outcome(kind="out_of_memory", detail="the system ran out of memory and ended the process")
        if status < 0:
            detail = f"its process was ended by {_signal_name(-status)}{last_words}"
            return Outcome(kind="vanished", detail=detail, is_infrastructure=-status in _FROM_OUTSIDE)
        detail = f"its process ended with status {status} and without a result{last_words}"
        return Outcome(kind="vanished", detail=detail, is_infrastructure=any(word in last_words for word in _NO_ROOM))

    def _last_words(self) -> str:
        lines = [line.strip() for line in _text_of(self._tail).splitlines() if line.strip()]
        return f": {lines[-1][:300]}" if lines else ""


_FROM_OUTSIDE: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""What a process does not do to itself; a job may be tried again after it."""
_NO_ROOM: Final = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class _Phases:
    """How long each phase took, by when its event arrived."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._phase: str | None = None
        self._since = time.monotonic()

    def note(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "phase":
            self._close()
            self._phase = event["phase"]

    def seconds(self) -> dict[str, float]:
        self._close()
        return dict(self._seconds)

    def _close(self) -> None:
        now = time.monotonic()
        if self._phase is not None:
            self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._since
        self._since = now


def _event_of(line: bytes) -> dict[str, Any] | None:
    text = line.strip()
    if not text:
        return None
    try:
        event = _EVENTS.validate_json(text).model_dump(mode="json")
    except ValidationError:
        event = {"event": "log", "message": _text_of(text[:500])}
    return {name: storable(value) if isinstance(value, str) else value for name, value in event.items()}


def _text_of(said: bytes | bytearray) -> str:
    return storable(said.decode(errors="replace"))


def storable(text: str) -> str:
    """The text without NUL, which PostgreSQL's text cannot hold."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _read_result(path: Path) -> JobResult:
    """The result.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no result.
    """
    with path.open("rb") as file:
        content = file.read(MAXIMUM_RESULT_BYTES + 1)
    if len(content) > MAXIMUM_RESULT_BYTES:
        raise ValueError("it is larger than any honest one")
    return JobResult.model_validate_json(content)


def _environment(launch: Launch) -> dict[str, str]:
    """No secrets, no proxies, no network of the Hub; our own code on the path; the marks."""
    kept = {name: os.environ[name] for name in (*KEPT_VARIABLES, *DEVICE_VARIABLES) if name in os.environ}
    marks = {JOB_MARK: launch.mark, WORKER_MARK: launch.worker_mark}
    return kept | OFFLINE_VARIABLES | launch.devices | marks | {"PYTHONPATH": str(Path(app.__file__).parent.parent)}


def _kernel_kills() -> int:
    """How many processes this machine's kernel ended for want of memory (proc_vmstat, `oom_kill`)."""
    try:
        text = Path("/proc/vmstat").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0)
