"""The server as a person starts it: quickly, small, without torch, and stopped cleanly."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2 as httpx
import psutil
import pytest

COMMAND = [sys.executable, "-c", "import sys; from app.cli import main; sys.exit(main(sys.argv[1:]))", "serve"]
HEAVY = ("torch", "transformers", "peft", "accelerate", "scipy", "sympy")
pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running `trainfit serve` and its address."""
    words = [*COMMAND, "--port", "0", "--data-dir", str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("trainfit is at http://127.0.0.1:")
        yield process, line.split()[3]
        process.kill()


def get(address: str, path: str) -> httpx.Response:
    for _ in range(100):
        try:
            return httpx.get(address + path, trust_env=False)
        except httpx.ConnectError:
            time.sleep(0.05)
    raise AssertionError("the server does not answer")


def test_it_is_small_after_answering_and_stops_when_told(server: tuple[subprocess.Popen[str], str]) -> None:
    process, address = server
    assert get(address, "/livez").status_code == 200
    for path in (
        "/",
        "/readyz",
        "/models",
        "/plan?model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb",
        "/jobs",
        "/workers",
        "/metrics",
    ):
        assert get(address, path).status_code in (200, 302)
    assert psutil.Process(process.pid).memory_info().rss < 150_000_000
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) in (0, -signal.SIGINT, 130)


def test_it_is_small_with_a_report_and_its_picture(server: tuple[subprocess.Popen[str], str]) -> None:
    """The database's libraries and the fonts are loaded by then."""
    process, address = server
    get(address, "/livez")
    plan = {"model": {"id": "Qwen/Qwen2.5-7B"}, "machine": {"device": "nvidia-rtx-4090-24gb"}}
    made = httpx.post(f"{address}/api/v1/reports", json={"requests": [plan] * 8}, timeout=30, trust_env=False).json()
    for path in (made["url"], f"{made['url']}.png", "/reports", "/compare"):
        assert get(address, path).status_code == 200
    assert psutil.Process(process.pid).memory_info().rss < 150_000_000


def until(is_true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_it_has_a_worker_that_comes_back_and_dies_with_it(server: tuple[subprocess.Popen[str], str]) -> None:
    process, address = server
    get(address, "/livez")

    def workers() -> list[psutil.Process]:
        return psutil.Process(process.pid).children()

    def lives() -> bool:
        return [one["live"] for one in get(address, "/api/v1/workers").json()["items"]] == [True]

    until(lives)
    (first,) = workers()
    first.kill()
    until(lambda: [one.pid for one in workers()] not in ([], [first.pid]))
    (second,) = workers()
    process.kill()
    second.wait(timeout=20)
    assert psutil.pid_exists(second.pid) is False


def test_an_open_stream_does_not_keep_it_from_stopping(server: tuple[subprocess.Popen[str], str]) -> None:
    process, address = server
    get(address, "/livez")
    plan = {"model": {"id": "Qwen/Qwen2.5-0.5B"}, "machine": {"device": "nvidia-rtx-4090-24gb"}}
    job = httpx.post(f"{address}/api/v1/jobs", json={"kind": "measure", "request": plan}, trust_env=False).json()
    with httpx.stream("GET", f"{address}/api/v1/jobs/{job['id']}/events", trust_env=False) as stream:
        assert next(stream.iter_lines()) == "event: state"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) in (0, -signal.SIGINT, 130)


def test_fifty_megabytes_are_refused_at_once_without_being_kept(server: tuple[subprocess.Popen[str], str]) -> None:
    process, address = server
    get(address, "/livez")
    before = psutil.Process(process.pid).memory_info().rss
    body = b'{"model": {"config": {"x": "' + b"a" * 50_000_000 + b'"}}}'
    started = time.monotonic()
    answer = httpx.post(
        f"{address}/api/v1/estimates", content=body, headers={"content-type": "application/json"}, trust_env=False
    )
    assert time.monotonic() - started < 10
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert psutil.Process(process.pid).memory_info().rss - before < 8_000_000


def test_a_taken_port_is_said_so(server: tuple[subprocess.Popen[str], str]) -> None:
    _, address = server
    port = address.rsplit(":", 1)[1]
    done = subprocess.run([*COMMAND, "--port", port], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


@pytest.mark.parametrize(
    "statement", ["from app.main import create_app; create_app()", "import app.plans", "import app.cli"]
)
def test_nothing_heavy_is_imported(statement: str) -> None:
    program = f"import sys; {statement}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
