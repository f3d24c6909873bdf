"""What the two ends of a socket say to each other: one request with its length first, then lines of JSON."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass
from typing import Any

READY = b"ready"
MAXIMUM_REQUEST_BYTES = 4 * 2**20
MAXIMUM_REPLY_BYTES = 8 * 2**20
_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Limits:
    """What one child may take. `memory_bytes` counts above what the server itself has loaded."""

    memory_bytes: int
    deadline_seconds: float


def send_request(connection: socket.socket, limits: Limits, payload: Any) -> None:
    """Send a request.

    Raises:
        ValueError: it is larger than any honest one.
    """
    body = json.dumps({"limits": asdict(limits), "payload": payload}).encode()
    if len(body) > MAXIMUM_REQUEST_BYTES:
        raise ValueError(f"the request has {len(body)} bytes, at most {MAXIMUM_REQUEST_BYTES} are sent")
    connection.sendall(len(body).to_bytes(_LENGTH_BYTES, "big") + body)


def receive_request(connection: socket.socket) -> tuple[Limits, Any]:
    """Read a whole request.

    Raises:
        EOFError: the other end went away.
    """
    length = int.from_bytes(_exactly(connection, _LENGTH_BYTES), "big")
    if length > MAXIMUM_REQUEST_BYTES:
        raise EOFError("a request of that length is none of ours")
    message = json.loads(_exactly(connection, length))
    return Limits(**message["limits"]), message["payload"]


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise EOFError("the other end closed")
        parts += part
    return bytes(parts)


def line(message: Any) -> bytes:
    """A message as one line."""
    return json.dumps(message).encode() + b"\n"
