"""The targets of the API, measured: request rate against a bare endpoint, advice, start, memory.

Server and client run on one machine, one process each. The two servers are measured in turns, because a machine that
is shared with other work is faster at one moment than at the next; the median of the turns' ratios counts.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

CONNECTIONS = 4
REQUESTS_PER_TURN = 1_500
TURNS = 7
STARTS = 7
ADVISED = 150
MODELS = ("meta-llama/Llama-3.1-8B", "Qwen/Qwen2.5-0.5B", "mistralai/Mistral-7B-v0.1")
DEVICES = ("nvidia-rtx-4090-24gb", "nvidia-h100-sxm-80gb", "amd-rx-7900-xtx-24gb")

OURS = "from app.main import create_app; application = create_app()"
BARE = (
    "import sys; from benchmarks.bare import create_bare_app; application = create_bare_app(open(sys.argv[1]).read())"
)
EMPTY = """
from fastapi import FastAPI
application = FastAPI()
@application.get("/livez")
async def live(): return {"status": "ok"}
"""
SERVE = """
import socket, uvicorn
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listener.bind(("127.0.0.1", 0))
listener.listen()
print(listener.getsockname()[1], flush=True)
config = uvicorn.Config(application, log_level="error", access_log=False, lifespan="off")
uvicorn.Server(config).run(sockets=[listener])
"""


@dataclass(frozen=True)
class Target:
    """One number, and the limit that it must keep."""

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def line(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{'ok  ' if self.holds else 'MISS'}  {self.name:<58}{self.value:>10.3g}  ({sign} {self.limit:g})"


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[str]
    port: int
    started_seconds: float

    @property
    def resident_bytes(self) -> int:
        return psutil.Process(self.process.pid).memory_info().rss


@contextmanager
def serving(program: str, *arguments: str) -> Generator[Server]:
    """A server in a process of its own, ready to answer."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"TRAINFIT_DATA_DIR": folder}
        words = [sys.executable, "-c", program + SERVE, *arguments]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
            try:
                assert process.stdout is not None
                port = int(process.stdout.readline())
                asyncio.run(_answers(port, [b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"]))
                yield Server(process, port, time.monotonic() - began)
            finally:
                process.kill()


def bodies() -> Iterator[bytes]:
    """Distinct requests without end: another length, rank, batch, model or device each time."""
    for number in itertools.count():
        request = {
            "model": {"id": MODELS[number % len(MODELS)]},
            "machine": {"device": DEVICES[number // 3 % len(DEVICES)], "host_memory_gib": 64, "disk_free_gib": 500},
            "run": {
                "method": ("qlora", "lora", "full")[number // 9 % 3],
                "sequence_length": 256 + number % 1789,
                "micro_batch_size": 1 + number % 4,
                "lora": {"rank": 4 + number % 61},
            },
        }
        yield json.dumps(request).encode()


def messages(count: int, source: Iterator[bytes], *, advice: str) -> list[bytes]:
    """HTTP requests, ready to be sent."""
    head = (
        f"POST /api/v1/estimates?advice={advice} HTTP/1.1\r\nhost: localhost\r\n"
        "content-type: application/json\r\ncontent-length: "
    ).encode()
    return [head + str(len(body)).encode() + b"\r\n\r\n" + body for body in itertools.islice(source, count)]


async def _answers(port: int, sent: Sequence[bytes]) -> list[float]:
    """Send requests one after another on one connection; the seconds of each."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    seconds: list[float] = []
    for message in sent:
        began = time.perf_counter()
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        assert head.startswith(b"HTTP/1.1 200"), body[:500]
        seconds.append(time.perf_counter() - began)
    writer.close()
    return seconds


def rate(port: int, sent: Sequence[bytes]) -> float:
    """Requests per second over several connections."""

    async def all_connections() -> None:
        await asyncio.gather(*(_answers(port, sent[start::CONNECTIONS]) for start in range(CONNECTIONS)))

    began = time.perf_counter()
    asyncio.run(all_connections())
    return len(sent) / (time.perf_counter() - began)


def canned_answer(port: int, source: Iterator[bytes]) -> str:
    """A real answer, for the bare endpoint to repeat."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request(
        "POST", "/api/v1/estimates?advice=none", next(source), {"content-type": "application/json", "host": "localhost"}
    )
    return connection.getresponse().read().decode()


def measure_rates(source: Iterator[bytes]) -> Iterator[Target]:
    """Request rate against the bare endpoint, memory after the load, and the time that advice takes."""
    with serving(OURS) as ours, tempfile.TemporaryDirectory() as folder:
        canned = Path(folder) / "answer.json"
        canned.write_text(canned_answer(ours.port, source), encoding="utf-8")
        with serving(BARE, str(canned)) as bare:
            ratios: list[float] = []
            for turn in range(TURNS + 1):
                pair = [
                    rate(server.port, messages(REQUESTS_PER_TURN, source, advice="none")) for server in (bare, ours)
                ]
                print(f"      bare {pair[0]:7.0f}/s   ours {pair[1]:7.0f}/s   {pair[1] / pair[0]:.2f}")
                if turn:  # the first turn fills the caches of both
                    ratios.append(pair[1] / pair[0])
        yield Target(
            "request rate, advice=none, against a bare endpoint", statistics.median(ratios), 0.6, at_least=True
        )
        advised = asyncio.run(_answers(ours.port, messages(ADVISED, source, advice="full")))
        yield Target("95th percentile of an answer with advice, ms", _percentile(advised, 0.95) * 1e3, 25)
        yield Target("memory of the web process after the load, MB", ours.resident_bytes / 1e6, 150)


def measure_starts() -> Iterator[Target]:
    """Time from nothing to the first answer, against the least FastAPI app."""
    ratios: list[float] = []
    for _ in range(STARTS):
        seconds: list[float] = []
        for program in (EMPTY, OURS):
            with serving(program) as server:
                seconds.append(server.started_seconds)
        ratios.append(seconds[1] / seconds[0])
    yield Target("start, against the least FastAPI app", statistics.median(ratios), 3)


def _percentile(values: Sequence[float], part: float) -> float:
    return sorted(values)[min(round(part * len(values)), len(values) - 1)]


def main() -> int:
    """Print every target; 1 when one is missed."""
    targets = [*measure_starts(), *measure_rates(bodies())]
    for target in targets:
        print(target.line())
    return 0 if all(target.holds for target in targets) else 1
