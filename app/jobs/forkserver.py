"""A process that imported the heavy libraries once, and forks one capped child for each request.

`python -m app.jobs.forkserver FD MODULE`: FD is the socket over which connections arrive, MODULE has `prepare()`, which
imports, and `work(payload)`, which a child runs. One thread, so that forking is safe. The child sends its reply as a
line of JSON; when it is gone, the server adds a line with its exit status and closes the connection.
"""

from __future__ import annotations

import gc
import importlib
import os
import resource
import selectors
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Any, Protocol

from app.jobs.confine import be_first_to_go, die_with_parent, leave_no_core
from app.jobs.wire import READY, Limits, line, receive_request

_RECEIVE_SECONDS = 5.0


class Work(Protocol):
    """What a module offers to the server."""

    def prepare(self) -> None: ...

    def work(self, payload: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Child:
    """A running child: `alive` is a pipe that only it holds open, so that its end is seen without signals."""

    pid: int
    connection: socket.socket
    alive: int


class ForkServer:
    """Takes connections from the control socket until that closes."""

    def __init__(self, control: socket.socket, work: Work) -> None:
        self._control = control
        self._work = work
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._children: dict[int, Child] = {}

    def serve(self) -> None:
        """Run until the control socket closes; no child outlives that."""
        open_ = True
        while open_:
            for key, _ in self._selector.select():
                if key.data is None:
                    open_ = self._accept()
                else:
                    self._attend(key.fd, key.data)
        for child in list(self._children.values()):
            _kill(child)
            self._bury(child)

    def _accept(self) -> bool:
        """Start a child for the connection that arrived; False when the other end is gone."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, 16, 1)
        except OSError:
            return False
        for descriptor in descriptors:
            self._start(socket.socket(fileno=descriptor))
        return bool(message)

    def _start(self, connection: socket.socket) -> None:
        connection.settimeout(_RECEIVE_SECONDS)
        try:
            limits, payload = receive_request(connection)
        except (EOFError, OSError, ValueError):
            connection.close()
            return
        connection.settimeout(None)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            self._forget_others()
            _run_child(self._work, connection, limits, payload)
        os.close(writer)
        child = Child(pid, connection, reader)
        self._children[pid] = child
        self._selector.register(reader, selectors.EVENT_READ, child)
        self._selector.register(connection, selectors.EVENT_READ, child)

    def _forget_others(self) -> None:
        """In a child: let go of what belongs to the server and to other children."""
        self._selector.close()
        self._control.close()
        for other in self._children.values():
            other.connection.close()
            os.close(other.alive)

    def _attend(self, descriptor: int, child: Child) -> None:
        """A child ended, or the one who asked went away: then the child goes too."""
        if child.pid not in self._children:
            return
        if descriptor != child.alive:
            _kill(child)
        self._bury(child)

    def _bury(self, child: Child) -> None:
        del self._children[child.pid]
        _, status = os.waitpid(child.pid, 0)
        self._selector.unregister(child.alive)
        self._selector.unregister(child.connection)
        os.close(child.alive)
        try:
            child.connection.sendall(b"\n" + line({"status": os.waitstatus_to_exitcode(status)}))
        except OSError:  # nobody is listening any more
            pass
        finally:
            child.connection.close()


def _kill(child: Child) -> None:
    """The child is not reaped yet, so that its number is still its own."""
    os.kill(child.pid, signal.SIGKILL)


def _run_child(work: Work, connection: socket.socket, limits: Limits, payload: Any) -> None:
    """Work and exit; never returns."""
    code = 1
    try:
        _confine(limits)
        connection.sendall(line(_reply(work, payload)))
        code = 0
    finally:
        os._exit(code)


def _reply(work: Work, payload: Any) -> dict[str, Any]:
    try:
        return {"result": work.work(payload)}
    except MemoryError:
        return {"failed": "out_of_memory", "detail": "the child reached its memory cap"}
    except Exception as error:
        return {"failed": "crashed", "detail": f"{type(error).__name__}: {error}"[:500]}


def _confine(limits: Limits) -> None:
    """Cap memory and time, leave no core file, die with the server, and be the first whom the kernel picks."""
    die_with_parent(os.getppid())
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limits.deadline_seconds)
    leave_no_core()
    held_bytes = _address_space_bytes()
    if held_bytes is not None:
        cap_bytes = held_bytes + limits.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (cap_bytes, cap_bytes))
    be_first_to_go()


def _address_space_bytes() -> int | None:
    """The size of this process's address space; None where the system doesn't say (then no cap is enforced either)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return None


def main(arguments: list[str]) -> None:
    """Prepare, say so, serve."""
    descriptor, name = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; its end closes the socket
    work: Work = importlib.import_module(name)  # pyright: ignore[reportAssignmentType]
    control = socket.socket(fileno=int(descriptor))
    work.prepare()
    gc.collect()
    gc.freeze()  # children share these pages; a collection would write to each
    control.sendall(READY)
    ForkServer(control, work).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
