"""The near side of a fork server: start it when it is first needed, ask it, and outlive whatever happens there."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final, Literal

import app
from app.jobs.wire import MAXIMUM_REPLY_BYTES, READY, Limits, send_request

Failure = Literal["out_of_memory", "timed_out", "crashed", "cancelled", "unavailable"]

START_SECONDS: Final = 120.0
"""Importing torch and transformers takes 9 s here; a cold disk and a busy machine take longer."""
GRACE_SECONDS: Final = 5.0
"""Beyond the child's own deadline, for the case that its alarm never comes."""
KEPT_VARIABLES: Final = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")
"""What of the environment a child may see: where programs and libraries are, and the language."""
QUIET_VARIABLES: Final = {
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "HIP_VISIBLE_DEVICES": "",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONWARNINGS": "ignore",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


class WorkFailed(Exception):
    """A request that has no result; `kind` says in which way."""

    def __init__(self, kind: Failure, detail: str) -> None:
        self.kind: Failure = kind
        super().__init__(detail)


class Ticket:
    """One request on its way; `cancel` may be called from any thread and ends its child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self.cancelled = False

    def cancel(self) -> None:
        """Stop waiting; the server sees the connection go and kills the child."""
        with self._lock:
            self.cancelled = True
            if self._connection is not None:
                self._connection.shutdown(socket.SHUT_RDWR)

    def hold(self, connection: socket.socket) -> None:
        """Remember what to close.

        Raises:
            WorkFailed: it was cancelled before it began.
        """
        with self._lock:
            if self.cancelled:
                raise WorkFailed("cancelled", "nobody waits for the result")
            self._connection = connection

    def release(self) -> None:
        """Nothing is left to cancel."""
        with self._lock:
            self._connection = None


class IsolatedWorker:
    """Runs a module's `work` in capped children; see `app.jobs.forkserver`."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """The server's process, None while there is none."""
        return None if self._process is None else self._process.pid

    def run(self, payload: Any, limits: Limits, ticket: Ticket | None = None) -> Any:
        """What `work(payload)` returned.

        Raises:
            WorkFailed: there is no result, and why.
        """
        ticket = ticket or Ticket()
        near, far = socket.socketpair()
        with near:
            with far:
                ticket.hold(near)
                self._hand_over(far)
            try:
                send_request(near, limits, payload)
                reply = _read_all(near, time.monotonic() + limits.deadline_seconds + GRACE_SECONDS)
            except TimeoutError:
                raise WorkFailed("timed_out", f"no result within {limits.deadline_seconds:g} s") from None
            except OSError as error:
                raise WorkFailed("crashed", f"the connection broke: {error}") from error
            finally:
                ticket.release()
        if ticket.cancelled:
            raise WorkFailed("cancelled", "nobody waits for the result")
        return _result(reply, limits)

    def close(self) -> None:
        """End the server and, with it, every child."""
        with self._lock:
            self._stop()

    def _hand_over(self, connection: socket.socket) -> None:
        """Give the server its end of a connection; a server that died is started anew, once."""
        with self._lock:
            for last_try in (False, True):
                control = self._running()
                try:
                    socket.send_fds(control, [b"c"], [connection.fileno()])
                    return
                except OSError as error:
                    self._stop()
                    if last_try:
                        raise WorkFailed("unavailable", f"the server takes no request: {error}") from error

    def _running(self) -> socket.socket:
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        self._stop()
        if not hasattr(os, "fork") or not hasattr(socket, "send_fds"):
            raise WorkFailed("unavailable", "this system has no fork; use WSL or Linux")
        near, far = socket.socketpair()
        with far:
            command = [sys.executable, "-P", "-m", "app.jobs.forkserver", str(far.fileno()), self._module]
            self._process = subprocess.Popen(
                command, env=_environment(), pass_fds=(far.fileno(),), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self._control = near
        near.settimeout(START_SECONDS)
        try:
            ready = near.recv(len(READY))
        except OSError:
            ready = b""
        if ready != READY:
            self._stop()
            raise WorkFailed("unavailable", "its process did not start; the server's log has the reason")
        near.settimeout(GRACE_SECONDS)
        return near

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            try:
                self._process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._control = self._process = None


def _environment() -> dict[str, str]:
    """No secrets, no proxies, no network of the Hub, no accelerator, one thread; our own code on the path."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return kept | QUIET_VARIABLES | {"PYTHONPATH": str(Path(app.__file__).parent.parent)}


def _read_all(connection: socket.socket, until: float) -> bytes:
    """Everything until the other end closes.

    Raises:
        TimeoutError: it did not close in time.
        WorkFailed: it said too much.
    """
    received = bytearray()
    while True:
        left_seconds = until - time.monotonic()
        if left_seconds <= 0:
            raise TimeoutError
        connection.settimeout(left_seconds)
        part = connection.recv(2**16)
        if not part:
            return bytes(received)
        received += part
        if len(received) > MAXIMUM_REPLY_BYTES:
            raise WorkFailed("crashed", "the reply is larger than any honest one")


def _result(reply: bytes, limits: Limits) -> Any:
    """The result in a reply: the child's line, an empty one, and the server's line with its exit status."""
    said, _, ended = reply.rstrip(b"\n").rpartition(b"\n")
    try:
        status = json.loads(ended)["status"]
    except (ValueError, KeyError, TypeError):
        raise WorkFailed("crashed", "the server ended in the middle of the work") from None
    if status != 0:
        raise _signalled(status, limits)
    try:
        message = json.loads(said)
    except ValueError:
        raise WorkFailed("crashed", "the child's reply is not JSON") from None
    if "failed" in message:
        raise WorkFailed(message["failed"], message["detail"])
    return message["result"]


def _signalled(status: int, limits: Limits) -> WorkFailed:
    """A child that ended without a reply: by its alarm, by the kernel for want of memory, or by a fault."""
    if status == -signal.SIGALRM:
        return WorkFailed("timed_out", f"no result within {limits.deadline_seconds:g} s")
    if status == -signal.SIGKILL:
        return WorkFailed("out_of_memory", "the system ended the child, most likely for want of memory")
    return WorkFailed("crashed", f"the child ended with status {status}")
