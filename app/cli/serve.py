"""`trainfit serve`: the page and the API."""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli.console import Console

if TYPE_CHECKING:
    from app.jobs.local import LocalWorker
    from app.settings import Settings

EPILOG = """\
On any address but a loopback one, the page calls this machine "this server" and everybody who reaches it may ask.
Settings come from TRAINFIT_* variables as well; a flag wins."""

STREAM_SECONDS = 2
"""How long a stop waits for answers under way; a job's page holds a stream open for as long as somebody looks."""


def port_number(text: str) -> int:
    """A port that a socket can have."""
    if not text.isdecimal() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a port from 0 to 65535")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to listen and where to store."""
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=port_number, help="port to listen on, 0 for a free one (default: 8000)")
    parser.add_argument("--data-dir", type=Path, help="folder for what is stored")
    parser.add_argument(
        "--no-worker", action="store_true", help="start no worker on this machine: jobs go to those of other machines"
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Serve until interrupted."""
    import uvicorn

    from app.main import create_app
    from app.settings import Settings

    given: dict[str, Any] = {
        name: value for name, value in vars(arguments).items() if name in Settings.model_fields and value is not None
    }
    settings = Settings(**given)
    try:
        listener = _listen(settings.host, settings.port)
    except OSError as error:
        console.complain(f"error: cannot listen on {settings.host}:{settings.port}: {error.strerror or error}")
        return 2
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    console.write(f"trainfit is at http://{host}:{listener.getsockname()[1]}  (Ctrl-C stops it)")
    worker = None if arguments.no_worker or sys.platform == "win32" else _worker(settings, console)
    config = uvicorn.Config(
        create_app(settings),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STREAM_SECONDS,
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        if worker is not None:
            worker.close()
    return 0


def _worker(settings: Settings, console: Console) -> LocalWorker | None:
    """A worker on this machine, where jobs may be started at all."""
    from app.guard import is_loopback
    from app.jobs.local import LocalWorker

    if not is_loopback(settings.host) and settings.token is None:
        console.write("Jobs are off: on an address that others reach they need TRAINFIT_TOKEN.")
        return None
    return LocalWorker(settings)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off; without it each answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener
